"""One application, seven networks: how well they do, and how far back their gradient reaches.

Claim: what introductions to recurrent networks say of each can be measured. A causal CNN sees a
window; an Elman network forgets; an LSTM and a GRU learn what to keep; a second direction and a
second layer add to that; a Transformer has direct access to all steps. All networks get the same
data, updates, width and seeds, and none is tuned. (Bai, Kolter, Koltun 2018, arXiv:1803.01271,
found CNNs to be the better starting point; which network does best depends on the application.)

For every network: its metric on held-out data over the seeds, beside the trivial baseline of the
application, and the gradient of its loss with respect to its inputs against the lag. The reach is
log10 of the share of the gradient at the earliest tenth of lags over that at the latest.

Verdict: `reproduced` if every network beats the best baseline by more than the spread over its
seeds, and the gradient of the Elman network reaches less far back than those of LSTM and GRU.

    python experiments/applications/compare.py
    python experiments/applications/compare.py --application sentiment --networks tcn gru
    python experiments/applications/compare.py --networks gru ./mine.py:MyCell
"""

import dataclasses
import functools
import importlib.util
import sys
from pathlib import Path
from typing import Any, Literal

from rnnjax import experiment, networks
from rnnjax.command_line import ArgumentError
from rnnjax.runs import Run

APPLICATIONS = (
    *("sequence_classification", "sentiment", "text_generation", "speech_recognition"),
    *("anomaly_detection", "stock_forecasting"),
)


@functools.cache
def application(name):
    """Return the module of an application: the file of that name beside this one."""
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"application_{name}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(experiment.SeedOptions):
    """Run one application with a CNN, recurrent networks and a Transformer, and compare them.

    Prints a table and writes it (results.csv), the gradients (gradients.csv), the figure
    comparison (PNG, SVG) and summary.json; the run of each network is in a folder of its name. The
    default run takes about two minutes on two CPU cores.
    """

    application: Literal[APPLICATIONS] = "sequence_classification"  # pyright: ignore[reportInvalidTypeForm]
    """What to do with each network; see the file of that name."""
    networks: tuple[str, ...] = ()
    """Which networks to compare, cells of your own (./mine.py:MyCell) included [default: tcn,
    elman, lstm, gru, bidirectional_gru, deep_gru and transformer, if the application takes
    them]."""
    steps: int | None = 500
    """Training updates; None means the application's own default."""
    features: int | None = 32
    """Hidden units of each layer and direction; None means the application's own default."""
    seeds: int = 3
    """Networks of each kind; the spread is over their results."""

    def __post_init__(self):
        super().__post_init__()
        names = [networks.short_name(name) for name in self.networks]
        if len(set(names)) < len(names):
            raise ArgumentError(
                f"--networks must name each network once, got {' '.join(self.networks)}"
            )
        self.configurations()

    def configurations(self):
        """Return the configuration of the application for every network, by short name."""
        given = {"steps": self.steps, "features": self.features}
        given = {name: value for name, value in given.items() if value is not None}
        make = functools.partial(
            application(self.application).Config, seeds=self.seeds, seed=self.seed, **given
        )
        make()  # reports wrong options other than --networks
        known = {}
        for name in self.networks or networks.NETWORKS:
            try:
                known[networks.short_name(name)] = make(network=name)
            except ArgumentError as error:
                if self.networks:
                    text = str(error).replace("--network ", "--networks ")
                    raise ArgumentError(text) from None
        return known


def measure(config, run):
    found, results, gradients, common = {}, [], [], {}
    kept = "metric", "baseline", "baseline_name", "higher_is_better", "source"
    for name, own in config.configurations().items():
        out = run.path / name
        run.file(name)
        same = {"checkpoint_every": config.checkpoint_every, "keep": config.keep}
        own = dataclasses.replace(own, out=out, **same)  # an interrupted run in it is resumed
        summary = application(config.application).run(own, quiet=True)
        table = Run(out).read_table("gradients")
        inputs = {key: column[table["layer"] == table["layer"][0]] for key, column in table.items()}
        names = "parameters", "value", "spread", "values", "beats_baseline"
        entry = {key: summary[key] for key in names}
        entry["gradient_reach"] = experiment.reach(inputs)
        found[name] = entry
        common = {key: summary[key] for key in kept}
        values = summary["values"]
        results.append(
            {"network": name, "parameters": entry["parameters"], "value": entry["value"]}
            | {"low": min(values), "high": max(values), "baseline": summary["baseline"]}
            | {"gradient_reach": entry["gradient_reach"]}
        )
        gradients.append({"network": name, **inputs})
        run.write_table("results", results)
        run.write_table("gradients", gradients)
        print(f"{name}: {entry['value']:.4g}", flush=True)
    return {"application": config.application, **common, "networks": found}


def verdict(config, summary):
    """Judge every network as its application does, and the Elman network against gated ones."""
    found = summary["networks"]
    conditions = {
        f"{name} beats the best baseline by more than the spread over seeds": own["beats_baseline"]
        for name, own in found.items()
    }
    for gated in [n for n in ("lstm", "gru") if "elman" in found and n in found]:
        condition = f"the gradient of elman reaches less far back than that of {gated}"
        conditions[condition] = found["elman"]["gradient_reach"] < found[gated]["gradient_reach"]
    return experiment.Verdict.judge(conditions).unless_quick(config, "steps", "features", "seeds")


def show(summary):
    header = "network", "parameters", "value", "spread", "reach"
    rows = [
        [name, *(own[key] for key in ("parameters", "value", "spread", "gradient_reach"))]
        for name, own in summary["networks"].items()
    ]
    rows.append([summary["baseline_name"], None, summary["baseline"], None, None])
    experiment.print_table(header, rows)
    direction = "higher" if summary["higher_is_better"] else "lower"
    print(f"value: {summary['metric']} on held-out data, {direction} is better.")
    print(f"Data: {summary['source']}")


def draw(run: Run) -> None:
    """Draw quality, and the gradient against the lag, of every network side by side."""
    from rnnjax import figures

    summary: dict[str, Any] = run.read_json("summary.json")
    figure = figures.comparison(
        run.read_table("results"),
        run.read_table("gradients"),
        metric=f"{summary['metric']}, {summary['application'].replace('_', ' ')}",
        baseline=summary["baseline_name"],
        names={name: networks.label(name) for name in summary["networks"]},
    )
    run.save_figure("comparison", figure)


run = experiment.Experiment("compare", Config, measure, verdict, draw, show=show)

if __name__ == "__main__":
    run.main()
