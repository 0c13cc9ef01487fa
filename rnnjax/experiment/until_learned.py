"""Networks trained until a rule says that they have learned, and how many sequences they took.

Tables, each with a column `series`:

learned    the share of networks that have met the rule, against training sequences: a staircase
error      the mean error of each network's last sequences: median and quartiles
networks   a row for each network: the sequences that it took, and how many test sequences are wrong
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rnnjax import training
from rnnjax.experiment.console import print_table
from rnnjax.experiment.drawing import draw_curves
from rnnjax.experiment.tables import Tables, quantile_band
from rnnjax.experiment.training import parameter_count
from rnnjax.runs import Run


def train_until(
    config: Any,
    run: Run,
    rule: training.StoppingRule,
    train_step: training.TrainStep,
    state: training.TrainState,
    sample: Callable[[Any], Any],
    most: int,
    **labels: Any,
) -> training.TrainingResult:
    """Train all networks, until each has met the rule or has read `most` sequences.

    An update is one sequence. Metrics go to metrics.jsonl, with `labels` on every line.
    Interrupted training resumes from the newest checkpoint.

    Args:
        config: has `members`, `checkpoint_every` and `keep`.
        train_step: `(state, batch) -> (state, metrics)` of one network. It keeps the network's
            judgements in `state.stream`, and leaves a network alone that has met the rule.
        state: of all networks before training; `stream` is `rule.start(S)`.
        sample: draws a sequence from a key.

    Returns:
        With `recent` of the rule observed twice in a window.
    """
    every = max(1, rule.window // 2)
    resumable = training.ResumableTraining(
        run, labels, config.members, every, config.checkpoint_every, config.keep
    )
    return resumable.train_on_samples(
        train_step,
        state,
        sample,
        steps=most,
        chunk_size=min(every, most),
        observe=lambda state: rule.recent(state.stream),
        until=lambda state: rule.met(state.stream),
    )


def add_learned(
    tables: Tables,
    config: Any,
    rule: training.StoppingRule,
    result: training.TrainingResult,
    wrong: Any,
    series: str,
) -> dict[str, Any]:
    """Add rows to the tables; return an entry of the summary.

    Args:
        config: has `members`.
        result: from `train_until`.
        wrong: how many test sequences each network got wrong, `[S]`.

    Returns:
        `weights`, the number of parameters of one network; and of each network `sequences`, None
        where it has not met the rule, and `wrong`.
    """
    judged, members = result.state.stream, len(config.members)
    taken = np.where(rule.met(judged), judged.count, np.inf)
    steps, share = [0], [0.0]
    for i, count in enumerate(np.sort(taken[np.isfinite(taken)]).tolist()):
        steps += [int(count)] * 2
        share += [i / members, (i + 1) / members]
    row = {"series": series, "sequences": [*steps, result.chunks[-1].step]}
    tables["learned"].append(row | {"median": [*share, share[-1]]})
    observed = {t: found["error"] for t, found in result.observed().items() if t >= rule.window}
    if observed:
        row = {"series": series, "sequences": [*observed]}
        tables["error"].append(row | quantile_band(np.stack([*observed.values()], 1)))
    row = {"series": series, "seed": config.members}
    tables["networks"].append(row | {"sequences": taken, "wrong": np.asarray(wrong)})
    return {
        "weights": parameter_count(result.state.params),
        "sequences": [int(n) if np.isfinite(n) else None for n in taken],
        "wrong": np.asarray(wrong).tolist(),
    }


def sequences_taken(entry: Mapping[str, Any]) -> np.ndarray:
    """Return the sequences of an entry from `add_learned`, `[S]`; infinity for None."""
    return np.array([np.inf if n is None else n for n in entry["sequences"]], float)


def show_learned(entries: Mapping[str, Mapping[str, Any]]) -> None:
    """Print entries from `add_learned`, by name, as a table."""
    rows = []
    for name, entry in entries.items():
        taken, wrong = sequences_taken(entry), entry["wrong"]
        learned = taken[np.isfinite(taken)]
        found = [f(learned) if learned.size else None for f in (np.mean, np.median, np.min, np.max)]
        share = f"{len(learned)} of {len(taken)}"
        rows.append([name, entry["weights"], share, *found, np.median(wrong), np.max(wrong)])
    header = ["network", "weights", "learned", "mean", "median", "least", "most"]
    print_table([*header, "wrong, median", "most wrong"], rows, digits=6)


def draw_learned(run: Run, published: str, mean_error: float) -> None:
    """Draw the tables `learned` and, if there is one, `error`.

    Args:
        published: the series of `learned` that is a published result: a dashed line.
        mean_error: of the rule, which a dotted line marks.
    """
    words: dict[str, Any] = {
        "xlabel": "training sequences",
        "ylabel": "share of networks that meet the rule",
        "legend_below": True,
    }
    draw_curves(run, "learned", "sequences", "series", reference=published, **words)
    words["ylabel"] = "mean error over the rule's window"
    draw_curves(run, "error", "sequences", "series", level=mean_error, log_y=True, **words)
