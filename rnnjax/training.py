"""A training loop around a pure `train_step(state, batch) -> (state, metrics)`.

Chunks of steps run on the device as one scan, for a whole population of members (seeds, say) in
one program. The loop is a generator: between chunks the experiment does what it likes.
"""

import contextlib
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh
from jax.sharding import PartitionSpec as P

PyTree = Any
TrainStep = Callable[["TrainState", Any], tuple["TrainState", dict[str, Any]]]


class TrainState(NamedTuple):
    """What training changes. In a population every leaf has a leading axis S, the members."""

    params: PyTree
    opt_state: PyTree
    step: Any  # int32, updates done
    key: Any  # of the member's own random stream


class NonFiniteError(FloatingPointError):
    """A metric stopped being finite; the message names the metric, the step and the member."""


class Chunk(NamedTuple):
    """What `train_on_samples` and `train_on_batches` yield."""

    first_step: int  # number of the first update in `metrics`, counted from 1
    step: int  # updates done
    state: TrainState
    metrics: dict[str, np.ndarray]  # name -> [steps of this chunk, S]


def use_all_cores() -> None:
    """Give JAX one CPU device for each core, which `over_population` then splits members over.

    Call it before the first computation; later, or where the user has chosen a number of devices,
    it changes nothing.
    """
    chosen = os.environ.get("JAX_NUM_CPU_DEVICES"), os.environ.get("XLA_FLAGS", "")
    if chosen[0] or "device_count" in chosen[1]:
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with contextlib.suppress(RuntimeError):  # the backend runs already
        jax.config.update("jax_num_cpu_devices", cores or 1)


def over_population(function: Callable) -> Callable:
    """Return a jitted `function` mapped over the leading axis S of all its arguments' leaves.

    Members are split over all devices; S need not be a multiple of their number. On accelerators
    the members of a device are vmapped; on a CPU they run one after another on each core, because
    batched small matmuls are slower there than the same matmuls in turn, and a member's working
    set stays in cache. A member's numbers do not depend on how many others there are.
    """

    def many(args):
        if jax.default_backend() == "cpu":
            return lax.map(lambda one: function(*one), args)
        return jax.vmap(function)(*args)

    @jax.jit
    def mapped(*args):
        members = jax.tree.leaves(args)[0].shape[0]
        devices = jax.devices()[: max(1, min(members, jax.device_count()))]
        spare = -members % len(devices)
        args = jax.tree.map(lambda a: jnp.concatenate([a, a[:spare]]) if spare else a, args)
        mesh = Mesh(np.array(devices), "member", axis_types=(AxisType.Auto,))
        results = jax.shard_map(
            many, mesh=mesh, in_specs=P("member"), out_specs=P("member"), check_vma=False
        )(args)
        return jax.tree.map(lambda a: a[:members], results)

    return mapped


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
        NonFiniteError: after yielding the steps before it, when a metric is NaN or infinite.
    """

    def step(state, _):
        key, now = jax.random.split(state.key)
        return train_step(state._replace(key=key), sample(now))

    @functools.cache
    def compiled(size):
        return over_population(lambda state: lax.scan(step, state, length=size))

    sizes = _chunk_sizes(steps, chunk_size)
    return _chunks(lambda state, size: compiled(size)(state), state, sizes, label)


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
    one shape.

    Raises:
        ValueError: an iterator ends before `steps` updates are done.
    """
    run = over_population(lambda state, stacked: lax.scan(train_step, state, stacked))
    iterators = [iter(b) for b in batches]

    def advance(state, size):
        def take(iterator):
            taken = [batch for batch, _ in zip(iterator, range(size), strict=False)]
            if len(taken) < size:
                raise ValueError(f"the batches ended before the {steps} steps asked for")
            return jax.tree.map(lambda *leaves: np.stack(leaves), *taken)

        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *map(take, iterators))
        return run(state, stacked)

    return _chunks(advance, state, _chunk_sizes(steps, chunk_size), label)


def _chunk_sizes(steps, chunk_size):
    for name, value in (("steps", steps), ("chunk_size", chunk_size)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    return [chunk_size] * (steps // chunk_size) + [steps % chunk_size] * bool(steps % chunk_size)


def _chunks(advance, state, sizes, label):
    with _ProgressBar(label, sum(sizes)) as report:
        done = 0
        for size in sizes:
            state, metrics = jax.block_until_ready(advance(state, size))
            metrics = {name: np.asarray(value).T for name, value in metrics.items()}  # [steps, S]
            good, problem = _finite_steps(metrics, done)
            finite = {name: value[:good] for name, value in metrics.items()}
            done += size
            yield Chunk(done - size + 1, done, state, finite)
            if problem:
                raise NonFiniteError(f"{label}: {problem}")
            report(size, metrics)


def _finite_steps(metrics, done):
    """Return how many steps of a chunk are finite in every metric, and what is wrong then."""
    bad = {
        name: np.argwhere(~np.isfinite(value))
        for name, value in metrics.items()
        if not np.isfinite(value).all()
    }
    if not bad:
        return None, None
    name, places = min(bad.items(), key=lambda item: tuple(item[1][0]))
    step, member = places[0]
    value = metrics[name][step, member]
    return step, f"{name} became {value} at step {done + step + 1} (member {member})"


class _ProgressBar:
    """A progress bar on standard error with the first metric's median; silent off a terminal."""

    def __init__(self, label, total):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeRemainingColumn as Remaining

        console = Console(stderr=True)
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining()
        note = TextColumn("{task.fields[note]}")
        self.bar = Progress(*columns, note, console=console, disable=not console.is_terminal)
        self.task = self.bar.add_task(label, total=total, note="")

    def __enter__(self):
        self.bar.start()
        return self.report

    def __exit__(self, *error):
        self.bar.stop()

    def report(self, size, metrics):
        name, value = next(iter(metrics.items()))
        self.bar.update(self.task, advance=size, note=f"{name} {np.median(value[-1]):.4g}")
