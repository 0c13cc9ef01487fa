"""One application, seven networks: how well they do, and how far back their gradient reaches.

Claim: what introductions only assert can be measured. A causal CNN sees a window; an Elman network
forgets; an LSTM and a GRU learn what to keep; a second direction and a second layer see and say
more; a Transformer has all steps at hand. All networks get the same data, updates, width and
seeds; none is tuned for it. (Bai, Kolter, Koltun 2018, arXiv:1803.01271, found CNNs to be the
better starting point; which network does best depends on the application.)

For every network: its metric on held-out data over the seeds, beside the application's trivial
baseline, and the gradient of its loss with respect to its inputs against the lag. The reach is
log10 of the share of the gradient at the earliest tenth of lags over that at the latest.

    python experiments/applications/compare.py
    python experiments/applications/compare.py --application sentiment --networks tcn gru
"""

import contextlib
import dataclasses
import functools
import importlib.util
import io
import sys
import typing
from pathlib import Path
from typing import Any, Literal

from rnnjax import experiment
from rnnjax.command_line import ArgumentError, at_least, main
from rnnjax.experiment import RunOptions, in_run
from rnnjax.experiment.applications import NAMES

APPLICATIONS = (
    *("sequence_classification", "sentiment", "text_generation", "speech_recognition"),
    *("anomaly_detection", "stock_forecasting"),
)


@functools.cache
def application(name):
    """Return the module of an application, which is the file of that name beside this one."""
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"application_{name}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@dataclasses.dataclass(frozen=True)
class Config(RunOptions):
    """Run one application over a CNN, recurrent networks and a Transformer, and compare them.

    Prints a table and writes it (results.csv), the gradients (gradients.csv), the figure
    comparison (PNG, SVG) and summary.json; every network's own run is in a folder of its name. The
    default run takes about two minutes on two CPU cores.
    """

    application: Literal[APPLICATIONS] = "sequence_classification"  # pyright: ignore[reportInvalidTypeForm]
    """What to do with each network; the file of that name says more."""
    networks: tuple[str, ...] = ()
    """Which networks to compare [default: all that the application can take]."""
    steps: int | None = 500
    """Training updates; None means the application's own number."""
    features: int | None = 32
    """Hidden units of each layer and direction; None means the application's own number."""
    seeds: int = 3
    """Networks of each kind."""
    seed: int = 0
    """Seed of the first network; the others count up from it."""

    def __post_init__(self):
        at_least(1, self, "seeds")
        at_least(0, self, "seed")
        known, chosen = self.known, self.networks
        if len(set(chosen)) < len(chosen) or not {*chosen} <= {*known}:
            raise ArgumentError(
                f"--networks must name some of {', '.join(known)}, each once, "
                f"got {' '.join(chosen)}"
            )
        self.configurations()

    @property
    def known(self):
        """The networks that the application can take."""
        own = application(self.application).Config

        def takes(name):
            try:
                own(network=name)
            except ArgumentError:  # one that reads the end first, where it would see the answer
                return False
            return True

        return tuple(filter(takes, typing.get_args(typing.get_type_hints(own)["network"])))

    def configurations(self):
        """Return the application's configuration for every network, by name."""
        own = {"steps": self.steps, "features": self.features}
        own = {name: value for name, value in own.items() if value is not None}
        make = functools.partial(
            application(self.application).Config, seeds=self.seeds, seed=self.seed, **own
        )
        return {name: make(network=name) for name in self.networks or self.known}


def measure(config, run):
    from rnnjax.runs import Run

    networks, results, gradients, common = {}, [], [], {}
    kept = "metric", "baseline", "baseline_name", "higher_is_better", "source"
    print(f"{'network':20}{'parameters':>12}{'value':>10}{'spread':>10}{'reach':>10}", flush=True)
    for name, own in config.configurations().items():
        out = run.path / name
        run.file(name)
        same = {"checkpoint_every": config.checkpoint_every, "keep": config.keep}
        own = dataclasses.replace(own, out=out, **same)  # if it is there, it goes on
        with contextlib.redirect_stdout(io.StringIO()):  # its report is in its own summary
            summary = application(config.application).run(own)
        table = Run(out).read_table("gradients")
        inputs = {key: column[table["layer"] == table["layer"][0]] for key, column in table.items()}
        entry = {key: summary[key] for key in ("parameters", "value", "spread", "values")}
        entry["gradient_reach"] = experiment.reach(inputs)
        networks[name] = entry
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
        numbers = f"{entry['value']:10.4g}{entry['spread']:10.3g}{entry['gradient_reach']:10.2f}"
        print(f"{name:20}{entry['parameters']:12}{numbers}", flush=True)
    direction = "higher" if common["higher_is_better"] else "lower"
    print(f"{common['baseline_name']:20}{'':12}{common['baseline']:10.4g}")
    print(f"value: {common['metric']} on held-out data, {direction} is better.")
    print(f"Data: {common['source']}")
    return {"application": config.application, **common, "networks": networks}


def draw(run):
    """Draw quality, and the gradient against the lag, of every network side by side."""
    from rnnjax import figures

    summary = run.read_json("summary.json")
    figure = figures.comparison(
        run.read_table("results"),
        run.read_table("gradients"),
        metric=f"{summary['metric']}, {summary['application'].replace('_', ' ')}",
        baseline=summary["baseline_name"],
        names=NAMES,
    )
    run.save_figure("comparison", figure)


def run(config: Config) -> dict[str, Any]:
    """Run the comparison and return its summary."""
    return in_run("compare", config, functools.partial(measure, config), draw)


if __name__ == "__main__":
    main(Config, run)
