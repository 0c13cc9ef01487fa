"""What applications on real data share: options, networks by name, training, the report, answers.

An application is one file with its data, its model and its `train_step`. Its run holds, besides
what every run holds:

summary.json        its metric on held-out data over several seeds, beside the trivial baselines
params              the trained parameters of all seeds
preprocessing.json  what was fitted on the training split: vocabulary, scales, ...
gradients           table and figure of the gradient against the lag
training            table and figure of the training loss

so that `--predict` answers on new input without training.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from rnnjax import cells, diagnostics
from rnnjax.command_line import ArgumentError, at_least, positive
from rnnjax.datasets.preparing import DamagedError
from rnnjax.experiment import predict
from rnnjax.experiment.lifecycle import in_run
from rnnjax.experiment.options import RunOptions
from rnnjax.runs import Run

PyTree = Any

CELLS = {"elman": cells.Elman, "lstm": cells.LSTM, "gru": cells.GRU}
FORMS = "", "deep", "bidirectional", "deep_bidirectional"
NETWORKS = "tcn", "elman", "lstm", "gru", "bidirectional_gru", "deep_gru", "transformer"
CAUSAL = tuple(name for name in NETWORKS if not name.startswith("bidirectional_"))
NAMES = {
    "tcn": "causal CNN",
    "elman": "Elman",
    "lstm": "LSTM",
    "gru": "GRU",
    "bidirectional_gru": "bidirectional GRU",
    "deep_gru": "deep GRU",
    "transformer": "Transformer",
}


@dataclasses.dataclass(frozen=True)
class Options(RunOptions):
    """What every application can be told; abstract. A subclass adds its own and other defaults."""

    steps: int = 500
    """Training updates."""
    batch_size: int = 32
    """Examples in an update."""
    learning_rate: float = 3e-3
    """Of Adam."""
    clip: float = 1.0
    """Largest global norm of the gradient; the metrics record the norm before clipping."""
    seeds: int = 3
    """Networks to train, all in one program; the spread is that of their results."""
    seed: int = 0
    """Seed of the first network; the others count up from it."""
    record_every: int = 10
    """Updates between two entries of metrics.jsonl."""
    predict: str | None = None
    """Answer on this new input (or on those in this file) with the finished run in --out."""

    def __post_init__(self):
        at_least(1, self, "steps", "batch_size", "seeds", "record_every")
        at_least(0, self, "seed")
        positive(self, "learning_rate", "clip")

    @property
    def members(self) -> list[int]:
        """The seeds of the networks."""
        return list(range(self.seed, self.seed + self.seeds))


def network(name: str, features: int, *, window: int) -> Any:
    """Return the layer that a command line names: [B, T, D] -> [B, T, H].

    Args:
        name: `tcn`, `transformer`, or a cell, `elman`, `lstm` or `gru`, alone or after `deep_` (two
            layers), `bidirectional_` or both.
        features: H of every layer and direction.
        window: how far back the network must be able to look, in steps: it sets the number of
            blocks of the CNN, and what the Transformer attends to.

    Raises:
        ArgumentError: there is no such network, or the Transformer cannot have so many features.
    """
    from rnnjax.layers import RNN, TCN, Bidirectional, Stack, Transformer

    if name == "tcn":
        blocks = next(n for n in range(1, 64) if 1 + 4 * (2**n - 1) >= window)
        return TCN(features, num_blocks=blocks)
    if name == "transformer":
        if features % 4:
            raise ArgumentError(f"--features must be a multiple of 4, got {features}")
        return Transformer(features, num_heads=4, window=window)
    form, _, cell = name.rpartition("_")
    if cell not in CELLS or form not in FORMS:
        raise ArgumentError(f"--network must be one of {', '.join(NETWORKS)}, got {name!r}")

    def layer():
        rnn = functools.partial(RNN, CELLS[cell](features))
        return Bidirectional(rnn(), rnn()) if "bidirectional" in form else rnn()

    return Stack([layer(), layer()]) if "deep" in form else layer()


def draw(run: Run) -> None:
    """Draw the figures that every application has: `gradients` and `training`."""
    from rnnjax import figures

    figure = figures.curves(
        run.read_table("gradients"),
        x="lag",
        series="layer",
        xlabel="lag k (steps back from the end)",
        ylabel="share of the gradient",
        natural_logs=True,
    )
    run.save_figure("gradients", figure)
    rows = run.read_rows("metrics.jsonl")
    steps = sorted({row["step"] for row in rows})
    if not steps:  # fewer than one record
        return
    losses = [np.array([row["loss"] for row in rows if row["step"] == step]) for step in steps]
    run.write_table(
        "training",
        [
            {"series": "training loss", "step": step, **diagnostics.quartiles(of_members)}
            for step, of_members in zip(steps, losses, strict=True)
        ],
    )
    figure = figures.curves(
        run.read_table("training"), x="step", series="series", xlabel="update", ylabel="loss"
    )
    run.save_figure("training", figure)


def in_application(
    name: str,
    config: Options,
    measure: Callable[[Run], dict[str, Any]],
    answer: Callable[[Any, Run, str], Iterable[str]],
    drawing: Callable[[Run], None] = draw,
) -> Any:
    """Run an application, or with `--predict` ask a finished run; return the summary or answers.

    Args:
        name: of the application: without `--out` the directory is runs/NAME-DATE-TIME.
        measure: loads the data, trains, writes tables, calls `save`, and returns the summary.
        answer: of the finished run's own configuration, the run and the new input to lines, which
            are printed.
        drawing: draws the figures of a run from its tables.

    Raises:
        ArgumentError: as `in_run`; a package that ships the data is missing; prepared data are
            damaged; `--predict` finds no finished run in `--out`, or cannot use the input.
    """
    try:
        if config.predict is None:
            return in_run(name, config, measure, drawing)
        answers = []
        for line in answer(*predict.finished(name, config), config.predict):
            print(line)
            answers.append(line)
        return answers
    except ModuleNotFoundError as error:
        if "rnnjax[" not in str(error):
            raise
        raise ArgumentError(str(error)) from error
    except DamagedError as error:
        raise ArgumentError(str(error)) from error
