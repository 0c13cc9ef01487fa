"""The training loop: chunks of steps that run on the device, one after another."""

import bisect
import contextlib
import contextvars
import dataclasses
import functools
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from rnnjax.training.population import gather, partial_scan, sharded_over_population
from rnnjax.training.progress import progress

PyTree = Any
TrainStep = Callable[["TrainState", Any], tuple["TrainState", dict[str, Any]]]


class TrainState(NamedTuple):
    """What training changes. In a population every leaf has a leading axis S, the members."""

    params: PyTree
    opt_state: PyTree
    step: Any  # int32, number of updates done
    key: Any  # of the member's own random stream
    settings: PyTree = ()  # the member's own, such as its learning rate; training keeps them
    stream: PyTree = ()  # what a stream hands on to its next batch: a carry, traces


class NonFiniteError(FloatingPointError):
    """All members have stopped at a metric that is NaN or infinite; the message names the first."""


class MemberStop(NamedTuple):
    """The stop of a member: a metric of one of its updates is NaN or infinite."""

    member: int
    step: int  # of that update; the member keeps the state before it
    metric: str
    value: float

    def __str__(self) -> str:
        return f"{self.metric} became {self.value} at step {self.step} (member {self.member})"


class Chunk(NamedTuple):
    """Successive training steps, as `train_on_samples` and `train_on_batches` yield them."""

    first_step: int  # number of the first update in `metrics`, counted from 1
    step: int  # number of the last update
    state: TrainState  # after it; the last good state of members that have stopped
    metrics: dict[str, np.ndarray]  # name -> [steps of this chunk, S]; NaN after a member's stop
    counts: np.ndarray  # [S], the number of these updates that each member did
    stops: tuple[MemberStop, ...] = ()  # of members that stopped in this chunk


@dataclasses.dataclass(frozen=True)
class PrepareChunk:
    """How chunks of training are run.

    `prepare(size)` prepares a chunk of `size` steps. It returns the function that runs it:
    (state, limits [S]) -> (state, metrics [S, length, ...]); `limits` says how many of the steps
    each member does.
    """

    prepare: Callable[[int], Callable[[TrainState, np.ndarray], tuple[TrainState, dict[str, Any]]]]
    compile: Callable[[TrainState], None] = lambda state: None
    """Compiles the program for states like this one before its first chunk, if it can."""


def train_on_samples(
    train_step: TrainStep,
    state: TrainState,
    sample: Callable[[Any], Any],
    *,
    steps: int,
    chunk_size: int,
    label: str = "training",
) -> Iterator[Chunk]:
    """Train a population on batches that `sample(key)` draws on the device.

    Every step uses a new key: `key, step_key = jax.random.split(state.key)`. The state keeps `key`,
    and the batch is `sample(step_key)`. The chunk size does not change any number.

    A member stops before an update with a metric that is NaN or infinite; the others continue.

    Args:
        train_step: pure function of a state and a batch to the new state and a flat dict of scalar
            metrics. It adds one to `state.step` and does not change `state.key`.
        state: of the population; every leaf is `[S, ...]`.
        sample: pure function of a key to a batch.
        steps: total number of updates.
        chunk_size: number of updates between two yields (the last chunk may be shorter).
        label: shown beside the progress bar.

    Yields:
        A `Chunk` after every `chunk_size` updates.

    Raises:
        ValueError: `steps` or `chunk_size` is below 1, or a metric is not a scalar.
        NonFiniteError: all members have stopped; raised after the chunk of the last stop.
    """
    ends = chunk_ends(steps, chunk_size)
    prepare = prepare_samples(train_step, sample, ends[0])
    return _gathered(run_chunks(prepare, state, ends, steps, label))


def train_on_batches(
    train_step: TrainStep,
    state: TrainState,
    batches: Sequence[Iterable[Any]],
    *,
    steps: int,
    chunk_size: int,
    label: str = "training",
) -> Iterator[Chunk]:
    """Train a population on batches from host iterators (a Grain pipeline), one per member.

    Arguments, yields and errors are those of `train_on_samples`. Batches are pytrees of NumPy
    arrays, all of one shape. At most `steps` batches are taken from each iterator.

    Raises:
        ValueError: also if an iterator ends before `steps` updates are done.
    """
    ends = chunk_ends(steps, chunk_size)
    iterators = [iter(b) for b in batches]
    prepare = prepare_batches(train_step, iterators, ends[0])
    return _gathered(run_chunks(prepare, state, ends, steps, label))


def chunk_ends(steps: int, chunk_size: int) -> list[int]:
    """Return the last step of each chunk: the multiples of `chunk_size` below `steps`, and `steps`.

    Raises:
        ValueError: one of the arguments is below 1.
    """
    for name, value in (("steps", steps), ("chunk_size", chunk_size)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    return [*range(chunk_size, steps, chunk_size), steps]


def chunk_stops(start: int, ends: Sequence[int], every: Iterable[int]) -> Iterator[int]:
    """Yield the steps after `start` at `ends` and at the multiples of the numbers in `every`."""
    while start < ends[-1]:
        next_end = ends[bisect.bisect_right(ends, start)]
        start = min(next_end, *((start // n + 1) * n for n in every))
        yield start


def prepare_samples(
    train_step: TrainStep, sample: Callable[[Any], Any], length: int
) -> PrepareChunk:
    """Return a function that prepares chunks of up to `length` steps on sampled batches."""

    def step(state, _):
        key, step_key = jax.random.split(state.key)
        return train_step(state._replace(key=key), sample(step_key))

    run = sharded_over_population(lambda state, limit: partial_scan(step, state, (), limit, length))

    def compile(state):
        members = jax.tree.leaves(state)[0].shape[0]
        run.compile(state, jax.ShapeDtypeStruct((members,), np.int32))

    return PrepareChunk(lambda size: run, compile)


def prepare_batches(
    train_step: TrainStep, iterators: Sequence[Iterator[Any]], length: int
) -> PrepareChunk:
    """Return a function that prepares chunks of up to `length` steps on batches of iterators."""
    run = sharded_over_population(
        lambda xs, state, limit: partial_scan(train_step, state, xs, limit, length)
    )

    def take(member, size):
        taken = list(itertools.islice(iterators[member], size))
        if len(taken) < size:
            raise ValueError(f"the batches of member {member} ended before the last step")
        taken += taken[-1:] * (length - size)  # a shorter last chunk runs the same program
        return jax.tree.map(lambda *leaves: np.stack(leaves), *taken)

    def prepare(size):
        members = [take(member, size) for member in range(len(iterators))]
        return functools.partial(run, jax.tree.map(lambda *leaves: np.stack(leaves), *members))

    return PrepareChunk(prepare)


@contextlib.contextmanager
def compiled_meanwhile(prepare: PrepareChunk, state: TrainState) -> Iterator[None]:
    """Compile the training program in a thread while other things are done within the context.

    If it fails, so does the first chunk, which tells why.
    """
    if jax.process_count() > 1:  # programs of several processes are compiled in one order
        yield
        return

    def compile():
        with contextlib.suppress(Exception):
            prepare.compile(state)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(compile,))
    thread.start()
    try:
        yield
    finally:
        thread.join()


def run_chunks(
    prepare: PrepareChunk,
    state: TrainState,
    ends: Iterable[int],
    steps: int,
    label: str = "training",
    *,
    start: int = 0,
    active: np.ndarray | None = None,
    first_stop: MemberStop | None = None,
) -> Iterator[Chunk]:
    """Yield the chunks that end at the steps `ends`, the last of which is `steps`.

    In a program of several processes the states stay on the devices that computed them.

    Args:
        state: after `start` steps.
        active: `[S]`, the members that have not stopped; None means all.
        first_stop: the earliest stop before `start`, if there is one.
    """
    members = jax.tree.leaves(state)[0].shape[0]
    running = np.ones(members, bool) if active is None else np.array(active)
    with progress(label, steps, start) as report:
        for end in ends:
            size = end - start
            run, limits = prepare.prepare(size), np.where(running, size, 0).astype(np.int32)
            after, metrics = jax.block_until_ready(run(state, limits))
            metrics = gather(metrics)
            metrics = {name: _steps_first(name, value)[:size] for name, value in metrics.items()}
            counts, stops = _find_stops(metrics, limits, start)
            if stops:
                after, _ = run(state, counts)  # the state before each stop
                first_stop = first_stop or stops[0]
            _mask_steps_not_done(metrics, counts)
            report(size, metrics)
            yield Chunk(start + 1, end, after, metrics, counts, stops)
            running &= counts == size
            if not running.any():
                raise NonFiniteError(f"{label}: {first_stop}")
            state, start = after, end


def _gathered(chunks):
    """Yield the chunks with complete states on every process."""
    with contextlib.closing(chunks):
        for chunk in chunks:
            yield chunk._replace(state=gather(chunk.state))


def _steps_first(name, value):
    if value.ndim > 2:
        raise ValueError(f"metric {name} must be a scalar, got shape {value.shape[2:]}")
    return np.array(value.T)  # [steps, S]


def _find_stops(metrics, limits, start):
    """Return the number of steps before each member's first non-finite metric, and the stops."""
    stops = {}
    for name, value in sorted(metrics.items()):
        for index, member in np.argwhere(~np.isfinite(value)):
            if index < limits[member]:
                step, found = start + int(index) + 1, float(value[index, member])
                stop = MemberStop(int(member), step, name, found)
                earlier = stops.get(member, stop)
                stops[member] = stop if stop.step < earlier.step else earlier
    counts = limits.copy()
    for member, stop in stops.items():
        counts[member] = stop.step - start - 1
    return counts, tuple(sorted(stops.values(), key=lambda stop: (stop.step, stop.member)))


def _mask_steps_not_done(metrics, counts):
    """Set metrics of steps that a member did not do to NaN (integer metrics to zero)."""
    for value in metrics.values():
        not_done = np.arange(len(value))[:, None] >= counts
        value[not_done] = np.nan if jax.numpy.issubdtype(value.dtype, np.inexact) else 0
