"""The summary of an application: its metric on held-out data beside trivial baselines."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from rnnjax.experiment.gradients import reach
from rnnjax.experiment.training import parameter_count
from rnnjax.experiment.verdict import Verdict


def report(
    metric: str,
    values: Iterable[Any],
    baselines: Mapping[str, float],
    *,
    higher_is_better: bool,
    source: str,
    examples: Sequence[Mapping[str, Any]],
    **more: Any,
) -> dict[str, Any]:
    """Return the summary of an application.

    `value` is the mean over seeds, `spread` the largest value minus the smallest. `baseline` is the
    best of the baselines; `beats_baseline` says whether the value is better by more than the
    spread.

    Args:
        metric: its name, with the unit if it has one.
        values: one per seed, on held-out data.
        baselines: by name, of the same metric on the same data, without any network.
        source: of the data, and their scale: demonstration, synthetic, whole.
        examples: inputs and answers to read.
        more: other entries of the summary.
    """
    values = [float(value) for value in values]
    best = max if higher_is_better else min
    name = best(baselines, key=lambda name: baselines[name])
    value, spread = float(np.mean(values)), max(values) - min(values)
    baseline = float(baselines[name])
    better = value - baseline if higher_is_better else baseline - value
    return {
        "metric": metric,
        "value": value,
        "spread": spread,
        "values": values,
        "baseline": baseline,
        "baseline_name": name,
        "baselines": {name: float(baseline) for name, baseline in baselines.items()},
        "higher_is_better": higher_is_better,
        "beats_baseline": bool(better > spread),
        "source": source,
        **more,
        "examples": list(examples),
    }


def relative_loss(entry: Mapping[str, Any]) -> dict[str, float]:
    """Return a row for `figures.comparison`: the held-out loss over chance, which is the baseline.

    Args:
        entry: as `experiment.score` returns it; the value is the median over its seeds.
    """
    values = np.array(entry["loss_of_seeds"]) / entry["chance"]
    spread = {"low": float(values.min()), "high": float(values.max())}
    return {"value": float(np.median(values)), **spread, "baseline": 1.0}


def network_entries(config: Any, params: Any, table: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return entries of a summary: `network`, `parameters` and `gradient_reach`.

    Args:
        config: has `network`.
        params: of all members, `[S, ...]`.
        table: as from `loss_gradients`; the reach is that of its first layer, next to the inputs.
    """
    return {
        "network": config.network,
        "parameters": parameter_count(params),
        "gradient_reach": reach(table[0]),
    }


def beats_baseline(config: Any, summary: Mapping[str, Any]) -> Verdict:
    """Return the verdict of most applications, given the summary from `report`.

    `reproduced` if the network beats the best baseline by more than the spread over seeds; `quick
    run only` with fewer `steps` or `seeds` than the defaults.
    """
    condition = "the network beats the best baseline by more than the spread over seeds"
    verdict = Verdict.judge({condition: summary["beats_baseline"]})
    return verdict.unless_quick(config, "steps", "seeds")


def show_report(summary: Mapping[str, Any]) -> None:
    """Print the summary from `report`."""
    direction = "higher" if summary["higher_is_better"] else "lower"
    print(f"Data: {summary['source']}")
    print(f"{summary['metric']} on held-out data ({direction} is better)")
    seeds = len(summary["values"])
    spread = f"mean of {seeds} seeds, spread {summary['spread']:.3g}" if seeds > 1 else "one seed"
    print(f"  {summary['value']:10.4g}  network ({spread})")
    for name, baseline in summary["baselines"].items():
        print(f"  {baseline:10.4g}  {name}")
    for example in summary["examples"]:
        print("  " + "  ".join(f"{name}: {value}" for name, value in example.items()))
