"""A training loop around a pure `train_step(state, batch) -> (state, metrics)`.

Chunks of steps run on the device as one loop, for a whole population of members (seeds, say) in
one program. The training loop is a generator: between chunks the experiment does what it likes.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from rnnjax.training.population import over_population, partial_scan
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
    """A metric stopped being finite; the message names the metric, the step and the member."""


class Chunk(NamedTuple):
    """What `train_on_samples` and `train_on_batches` yield."""

    first_step: int  # number of the first update in `metrics`, counted from 1
    step: int  # number of the last, after which the state is `state`
    state: TrainState
    metrics: dict[str, np.ndarray]  # name -> [steps of this chunk, S]


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
        NonFiniteError: when a metric is NaN or infinite, after a chunk of the steps before it.
    """

    def step(state, _):
        key, now = jax.random.split(state.key)
        return train_step(state._replace(key=key), sample(now))

    sizes = _chunk_sizes(steps, chunk_size)
    run = over_population(lambda state, *, count: partial_scan(step, state, (), count, sizes[0]))
    return _chunks(itertools.repeat(run), state, sizes, label)


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
    sizes = _chunk_sizes(steps, chunk_size)
    run = over_population(
        lambda xs, state, *, count: partial_scan(train_step, state, xs, count, sizes[0])
    )
    iterators = [iter(b) for b in batches]

    def take(member, size):
        taken = list(itertools.islice(iterators[member], size))
        if len(taken) < size:
            raise ValueError(f"the batches of member {member} ended before step {steps}")
        taken += taken[-1:] * (sizes[0] - size)  # a last, shorter chunk runs the same program
        return jax.tree.map(lambda *leaves: np.stack(leaves), *taken)

    def chunks():
        for size in sizes:
            members = [take(member, size) for member in range(len(iterators))]
            yield functools.partial(run, jax.tree.map(lambda *leaves: np.stack(leaves), *members))

    return _chunks(chunks(), state, sizes, label)


def _chunk_sizes(steps, chunk_size):
    for name, value in (("steps", steps), ("chunk_size", chunk_size)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    return [chunk_size] * (steps // chunk_size) + [steps % chunk_size] * bool(steps % chunk_size)


def _chunks(runs, state, sizes, label):
    """Yield the chunks that `run(state, count=size)` computes, for each of `runs` and `sizes`."""
    done = 0
    with progress(label, sum(sizes)) as report:
        for size, run in zip(sizes, runs, strict=False):
            after, metrics = jax.block_until_ready(run(state, count=size))
            metrics = {name: _by_step(name, value)[:size] for name, value in metrics.items()}
            finite, problem = _finite_steps(metrics, size, done)
            if finite:
                if finite < size:  # the state after them
                    after, _ = run(state, count=finite)
                report(finite, metrics)
                metrics = {name: value[:finite] for name, value in metrics.items()}
                yield Chunk(done + 1, done + finite, after, metrics)
            if finite < size:
                raise NonFiniteError(f"{label}: {problem}")
            state, done = after, done + size


def _by_step(name, value):
    if value.ndim > 2:
        raise ValueError(f"metric {name} must be a scalar, got shape {value.shape[2:]}")
    return np.asarray(value).T  # [steps, S]


def _finite_steps(metrics, size, done):
    """Return how many steps of a chunk precede the first bad number, and what that is."""
    bad = [
        (*places[0], name)
        for name, value in metrics.items()
        if len(places := np.argwhere(~np.isfinite(value)))
    ]
    if not bad:
        return size, ""
    step, member, name = min(bad)
    value = metrics[name][step, member]
    return int(step), f"{name} became {value} at step {done + step + 1} (member {member})"
