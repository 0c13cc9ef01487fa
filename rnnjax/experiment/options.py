"""Options that experiments share. A `Config` builds on one of these classes and adds its own.

A class further down calls `super().__post_init__()` first, so that every check of the chain runs.
"""

import dataclasses
import functools
import math
from pathlib import Path
from typing import Any, ClassVar

import jax

from rnnjax import networks
from rnnjax.command_line import (
    ArgumentError,
    at_least,
    distinct,
    finite,
    option,
    positive,
    rising,
)
from rnnjax.diagnostics.jacobians import carry_size
from rnnjax.diagnostics.surfaces import Window

MOST_SEEDS = 10**6
LARGEST_SEED = 2**32 - 1  # `jax.random.key` takes a seed modulo 2^32


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How an experiment is run; abstract. None of these options changes a number."""

    title: ClassVar[str] = "run options (none of them changes a number)"

    out: Path | None = None
    """Directory of the run. If it holds an unfinished run with the same arguments, that run is
    resumed [default: runs/NAME-DATE-TIME]."""
    overwrite: bool = False
    """Replace another run in --out."""
    redraw: bool = False
    """Only draw the figures of the finished run in --out again, without training."""
    checkpoint_every: int = 500
    """Training updates between two checkpoints. A stopped run resumes from the newest."""
    keep: int = 2
    """How many of the newest checkpoints to keep, besides the best."""
    compilation_cache: bool = True
    """Keep compiled programs in the user's cache folder (~/.cache/rnnjax/xla), so that the next run
    starts sooner."""
    mesh: str | None = None
    """How devices are divided: data=4,population=2 splits every batch over four devices and the
    networks over two groups [default: one group per network, as far as devices suffice]."""
    coordinator: str | None = None
    """HOST:PORT of process 0 when one program runs on several hosts; auto on Cloud TPU and
    Slurm."""
    num_processes: int | None = None
    """Number of processes, with --coordinator HOST:PORT."""
    process_id: int | None = None
    """Which of them this process is, counted from 0."""

    def __post_init__(self):
        at_least(1, self, "checkpoint_every", "keep")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictOptions(RunOptions):
    """Answering on new input with a finished run; abstract. It changes no number either."""

    title: ClassVar[str] = "new input"

    predict: str | None = None
    """Answer on this new input, or on the lines or content of this file, with the finished run in
    --out. Nothing is trained."""


def run_options(config: Any) -> set[str]:
    """Return the names of the options of a configuration that change no number.

    Two runs that differ only in these are the same run, and a search over them is refused.
    """
    changing_none = {field.name for field in dataclasses.fields(PredictOptions)}
    return changing_none & {field.name for field in dataclasses.fields(config)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeedOptions(RunOptions):
    """How often an experiment is repeated; abstract."""

    title: ClassVar[str] = "repetitions"

    seeds: int = 4
    """Independent networks per setting, all in one program; the spread is over these."""
    seed: int = 0
    """Seed of the first network; the others count up from it."""

    def __post_init__(self):
        super().__post_init__()
        at_least(1, self, "seeds", most=MOST_SEEDS)
        at_least(0, self, "seed", most=LARGEST_SEED)
        if self.seed + self.seeds - 1 > LARGEST_SEED:
            raise ArgumentError(
                f"--seed and --seeds must count up to at most {LARGEST_SEED}, beyond which JAX's "
                f"keys repeat; got {self.seed} and {self.seeds}"
            )

    @property
    def members(self) -> list[int]:
        """The seeds of the networks."""
        return list(range(self.seed, self.seed + self.seeds))


@dataclasses.dataclass(frozen=True, kw_only=True)
class SurfaceOptions(RunOptions):
    """Which part of a plane of two parameters is drawn; abstract. A subclass sets the defaults."""

    title: ClassVar[str] = "surface"

    w_min: float = -1.0
    """Left edge of the surface; w is the recurrent weight."""
    w_max: float = 1.0
    """Right edge."""
    b_min: float = -1.0
    """Lower edge of the surface; b is the bias."""
    b_max: float = 1.0
    """Upper edge."""
    points: int = 201
    """Points of the surface along each axis."""

    def __post_init__(self):
        super().__post_init__()
        at_least(2, self, "points")
        rising(self, "w_min", "w_max")
        rising(self, "b_min", "b_max")

    @property
    def window(self) -> Window:
        """The rectangle."""
        return Window((self.w_min, self.w_max), (self.b_min, self.b_max))

    @property
    def axes(self) -> dict[str, Any]:
        """Evenly spaced weights `w` and biases `b`, POINTS of each."""
        return dict(zip("wb", self.window.axes(self.points), strict=True))

    def must_show(self, *names: str) -> None:
        """Raise an ArgumentError unless the named points (w, b) lie on the surface."""
        for name in names:
            w, b = getattr(self, name)
            if not self.window.contains(w, b):
                raise ArgumentError(
                    f"{option(name)} must lie on the surface, w in {self.w_min}..{self.w_max} and "
                    f"b in {self.b_min}..{self.b_max}; got {w} {b}"
                )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingOptions(SeedOptions):
    """How networks are trained; abstract. A subclass may change the defaults."""

    title: ClassVar[str] = "training"
    fewest_steps: ClassVar[int] = 1

    steps: int = 500
    """Training updates. Fewer are quicker, and may be too few to learn the task."""
    batch_size: int = 32
    """Examples per update."""
    learning_rate: float = 3e-3
    """Step size of the Adam optimiser."""
    clip: float = 1.0
    """Scale a gradient down to this global norm if it is larger. Metrics record the norm before
    clipping."""
    record_every: int = 10
    """Updates between two entries of metrics.jsonl."""

    def __post_init__(self):
        super().__post_init__()
        at_least(self.fewest_steps, self, "steps")
        at_least(1, self, "batch_size", "record_every")
        positive(self, "learning_rate", "clip")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellOptions(RunOptions):
    """Which cells an experiment compares; abstract."""

    title: ClassVar[str] = "cells"

    cells: tuple[str, ...] = tuple(networks.CELLS)
    """Cells to compare: elman, lstm, gru, or another cell of the library by the name of its class
    in lower case (mingru, lru, slstm; a name that does not exist lists them), or one of your own:
    ./mine.py:MyCell for a file, package.module:MyCell for a module."""
    features: int = 64
    """Hidden units of each cell."""

    def __post_init__(self):
        super().__post_init__()
        at_least(1, self, "features")
        distinct(self, "cells")
        names = [networks.short_name(name) for name in self.cells]
        if len(set(names)) < len(names):
            raise ArgumentError(f"--cells must have names that differ, got {' '.join(self.cells)}")
        for name in self.cells:
            try:
                self.make_cell(name)
            except ValueError as error:
                raise ArgumentError(f"--cells {error}") from None

    def at_most_state(self, *names: str) -> None:
        """Raise an ArgumentError unless the named numbers are at most N, a state's real dimensions.

        That of every cell; entries that are integers have no dimension, complex ones have two.
        """
        for cell in self.cells:
            carry = jax.eval_shape(functools.partial(self.make_cell(cell).initial_carry, (1,)))
            size = carry_size(carry, 0)
            for name in names:
                if getattr(self, name) > size:
                    raise ArgumentError(
                        f"{option(name)} must be at most {size}, the dimensions of the state of "
                        f"{cell}, got {getattr(self, name)}"
                    )

    def make_cell(self, name: str, **options: Any) -> Any:
        """Return the cell with this name and `features` hidden units."""
        return networks.make_cell(name, self.features, **options)


@dataclasses.dataclass(frozen=True, kw_only=True)
class InitialisationOptions(CellOptions, SeedOptions):
    """How cells are initialised, on inputs of independent Gaussian noise; abstract.

    A subclass sets the defaults.
    """

    title: ClassVar[str] = "initialisation"

    gains: tuple[float, ...] = (1.0,)
    """Factors of the recurrent blocks."""
    forget_biases: tuple[float, ...] = ()
    """Biases of the LSTM's forget gate and of the GRU's z, which keeps h."""
    input_scale: float = 1.0
    """Standard deviation of the inputs; 0 leaves the cell at rest."""
    examples: int = 4
    """Input sequences for each seed."""

    def __post_init__(self):
        super().__post_init__()
        at_least(1, self, "examples")
        if not 0 <= self.input_scale < math.inf:
            limits = "finite and at least 0"
            raise ArgumentError(f"--input-scale must be {limits}, got {self.input_scale}")
        finite(self, "gains", above=0)
        if self.forget_biases:
            finite(self, "forget_biases")


def make_task(tasks: Any, name: str, **arguments: Any) -> Any:
    """Return `tasks[name](**arguments)`, with a wrong argument as an `ArgumentError`."""
    try:
        return tasks[name](**arguments)
    except ValueError as error:
        raise ArgumentError(f"--{error}") from None
