"""The training loop: chunks of steps on the device, one after another."""

import contextlib
import functools
import itertools
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
    step: Any  # int32, updates done
    key: Any  # of the member's own random stream
    settings: PyTree = ()  # the member's own, such as its learning rate; training changes none


class NonFiniteError(FloatingPointError):
    """No member is left whose metrics are finite; the message names metric, step and member."""


class MemberStop(NamedTuple):
    """That a member stops, because a metric of an update is NaN or infinite."""

    member: int
    step: int  # of that update; the member's state is the one before it
    metric: str
    value: float

    def __str__(self) -> str:
        return f"{self.metric} became {self.value} at step {self.step} (member {self.member})"


class Chunk(NamedTuple):
    """What `train_on_samples` and `train_on_batches` yield."""

    first_step: int  # number of the first update in `metrics`, counted from 1
    step: int  # number of the last, after which the state is `state`
    state: TrainState  # of members that have stopped: the last good one
    metrics: dict[str, np.ndarray]  # name -> [steps of this chunk, S]; NaN after a member's stop
    counts: np.ndarray  # [S], how many of these updates each member did
    stops: tuple[MemberStop, ...] = ()  # of members that stop in this chunk


# Gets the next steps ready, so many, and returns what does them: (state, limits [S]), of which the
# limits say how many each member does, to (state, metrics [S, length, ...]).
Prepare = Callable[[int], Callable[[TrainState, np.ndarray], tuple[TrainState, dict[str, Any]]]]


def train_on_samples(
    train_step: TrainStep,
    state: TrainState,
    sample: Callable[[Any], Any],
    *,
    steps: int,
    chunk_size: int,
    label: str = "training",
) -> Iterator[Chunk]:
    """Train on batches that `sample(key)` draws on the device, a fresh key at every step.

    The keys: `key, now = jax.random.split(state.key)`; the state keeps `key`, the batch is
    `sample(now)`. How the steps are cut into chunks changes no number.

    A member whose metric becomes NaN or infinite stops before that update; the others go on.

    Args:
        train_step: pure; batch in, new state and a flat dict of scalar metrics out. It adds one to
            `state.step` and leaves `state.key` alone.
        state: of the population: every leaf `[S, ...]`.
        sample: pure function of a key to a batch.
        steps: updates in all.
        chunk_size: updates between two yields (the last chunk may be shorter).
        label: shown beside the progress bar.

    Yields:
        A `Chunk` after every `chunk_size` updates.

    Raises:
        ValueError: `steps` or `chunk_size` is below 1, or a metric is no scalar.
        NonFiniteError: when the last member stops, after the chunk in which it does.
    """
    cuts = multiples(steps, chunk_size)
    return _whole(segments(on_samples(train_step, sample, cuts[0]), state, cuts, label=label))


def train_on_batches(
    train_step: TrainStep,
    state: TrainState,
    batches: Sequence[Iterable[Any]],
    *,
    steps: int,
    chunk_size: int,
    label: str = "training",
) -> Iterator[Chunk]:
    """Train on batches from host iterators (a Grain pipeline), one iterator for each member.

    Arguments, yields and errors as for `train_on_samples`; batches are pytrees of NumPy arrays of
    one shape. No more than `steps` are taken from an iterator.

    Raises:
        ValueError: also if an iterator ends before `steps` updates are done.
    """
    cuts = multiples(steps, chunk_size)
    iterators = [iter(b) for b in batches]
    return _whole(segments(on_batches(train_step, iterators, cuts[0]), state, cuts, label=label))


def multiples(steps: int, chunk_size: int) -> list[int]:
    """Return the multiples of `chunk_size` below `steps`, and `steps`.

    Raises:
        ValueError: one of them is below 1.
    """
    for name, value in (("steps", steps), ("chunk_size", chunk_size)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    return [*range(chunk_size, steps, chunk_size), steps]


def on_samples(train_step: TrainStep, sample: Callable[[Any], Any], length: int) -> Prepare:
    """Return how up to `length` steps at once are done on batches drawn on the device."""

    def step(state, _):
        key, now = jax.random.split(state.key)
        return train_step(state._replace(key=key), sample(now))

    run = sharded_over_population(lambda state, limit: partial_scan(step, state, (), limit, length))
    return lambda size: run


def on_batches(train_step: TrainStep, iterators: Sequence[Iterator[Any]], length: int) -> Prepare:
    """Return how up to `length` steps at once are done on batches from iterators, one a member."""
    run = sharded_over_population(
        lambda xs, state, limit: partial_scan(train_step, state, xs, limit, length)
    )

    def take(member, size):
        taken = list(itertools.islice(iterators[member], size))
        if len(taken) < size:
            raise ValueError(f"the batches of member {member} ended before the last step")
        taken += taken[-1:] * (length - size)  # a last, shorter chunk runs the same program
        return jax.tree.map(lambda *leaves: np.stack(leaves), *taken)

    def prepare(size):
        members = [take(member, size) for member in range(len(iterators))]
        return functools.partial(run, jax.tree.map(lambda *leaves: np.stack(leaves), *members))

    return prepare


def segments(
    prepare: Prepare,
    state: TrainState,
    cuts: Sequence[int],
    *,
    start: int = 0,
    going: np.ndarray | None = None,
    first: MemberStop | None = None,
    label: str = "training",
) -> Iterator[Chunk]:
    """Yield a chunk at each of the steps `cuts`, from the state after `start` steps.

    In a program of several processes the states stay where they were computed.

    Args:
        going: which members have not stopped, `[S]`; None means all.
        first: the stop of the first that has.
    """
    members = jax.tree.leaves(state)[0].shape[0]
    alive = np.ones(members, bool) if going is None else np.array(going)
    with progress(label, cuts[-1], start) as report:
        for cut in cuts:
            size, run = cut - start, prepare(cut - start)
            limits = np.where(alive, size, 0).astype(np.int32)
            after, metrics = jax.block_until_ready(run(state, limits))
            metrics = gather(metrics)
            metrics = {name: _by_step(name, value)[:size] for name, value in metrics.items()}
            counts, stops = _finite(metrics, limits, start)
            if stops:
                after, _ = run(state, counts)  # the state before each stop
                first = first or stops[0]
            _blank(metrics, counts)
            report(size, metrics)
            yield Chunk(start + 1, cut, after, metrics, counts, stops)
            alive &= counts == size
            if not alive.any():
                raise NonFiniteError(f"{label}: {first}")
            state, start = after, cut


def _whole(chunks):
    """Yield the chunks with states that are whole on every process."""
    with contextlib.closing(chunks):
        for chunk in chunks:
            yield chunk._replace(state=gather(chunk.state))


def _by_step(name, value):
    if value.ndim > 2:
        raise ValueError(f"metric {name} must be a scalar, got shape {value.shape[2:]}")
    return np.array(value.T)  # [steps, S]


def _finite(metrics, limits, start):
    """Return how many steps of a chunk precede each member's first bad number, and those stops."""
    stops = {}
    for name, value in sorted(metrics.items()):
        for step, member in np.argwhere(~np.isfinite(value)):
            if step < limits[member]:
                found = MemberStop(
                    int(member), start + int(step) + 1, name, float(value[step, member])
                )
                before = stops.get(member, found)
                stops[member] = found if found.step < before.step else before
    counts = limits.copy()
    for member, stop in stops.items():
        counts[member] = stop.step - start - 1
    return counts, tuple(sorted(stops.values(), key=lambda stop: (stop.step, stop.member)))


def _blank(metrics, counts):
    """Make NaN what members did not do (and zero, of metrics that are integers)."""
    for value in metrics.values():
        undone = np.arange(len(value))[:, None] >= counts
        value[undone] = np.nan if jax.numpy.issubdtype(value.dtype, np.inexact) else 0
