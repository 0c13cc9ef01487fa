"""A training loop around a pure `train_step(state, batch) -> (state, metrics)`.

Chunks of steps run on the device as one loop, for a whole population of members (seeds, say) in
one program. The training loop is a generator: between chunks the experiment does what it likes.
"""

import contextlib
import functools
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding
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
    step: int  # number of the last, after which the state is `state`
    state: TrainState
    metrics: dict[str, np.ndarray]  # name -> [steps of this chunk, S]


def use_all_cores() -> None:
    """Give JAX one CPU device for each core, which `over_population` then splits members over.

    Call it before the first computation; later, or where the user has chosen a number of devices,
    it changes nothing.
    """
    chosen = jax.config.jax_num_cpu_devices > 0  # pyright: ignore[reportAttributeAccessIssue]
    if chosen or "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with contextlib.suppress(RuntimeError):  # the backend runs already
        jax.config.update("jax_num_cpu_devices", cores or 1)


def batch_mesh() -> Mesh:
    """Return a mesh of all devices with one axis, "batch", for `jax.set_mesh`.

    Within it `rnnjax.unroll` splits its batch over the devices; so, in a script of your own, after
    `use_all_cores()`, over the cores of a CPU. `over_population` needs none.
    """
    return Mesh(np.array(jax.devices()), "batch", axis_types=(AxisType.Auto,))


def over_population(function: Callable) -> Callable:
    """Return `function` jitted, and mapped over the leading axis S of all its arguments' leaves.

    Keyword arguments are not mapped: all members share them.

    Members are split over all devices; S need not be a multiple of their number. Where there are
    several devices for each member, they split the batch of its `rnnjax.unroll`. On accelerators
    the members of a device are vmapped; on a CPU they run one after another on each core, because
    batched small matmuls are slower there than the same matmuls in turn, and a member's working
    set stays in cache. There a member's numbers do not depend, to the last bit, on how many others
    there are, so long as they are no fewer than the devices (a batch that is split is summed in
    another order).

    Raises:
        ValueError: when called, if the leading axes differ.
    """

    @functools.partial(jax.jit, static_argnames="mesh")
    def run(args, shared, count, mesh):
        def on_device(args, shared, count):
            together = _in_turn if jax.default_backend() == "cpu" else _at_once
            return together(functools.partial(function, **shared), args, count)

        members = jax.tree.leaves(args)[0].shape[0]
        spare = -members % mesh.shape["member"]
        args = jax.tree.map(lambda a: jnp.concatenate([a, a[:spare]]) if spare else a, args)
        results = jax.shard_map(
            on_device,
            mesh=mesh,
            in_specs=(P("member"), P(), P()),
            out_specs=P("member"),
            axis_names={"member"},
            check_vma=False,
        )(args, shared, count)
        return jax.tree.map(lambda a: a[:members], results)

    def mapped(*args, **shared):
        axes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(args)}
        if len(axes) != 1 or axes <= {(), (0,)}:
            raise ValueError(f"every leaf needs an entry for each member, got axes {sorted(axes)}")
        ((members,),) = axes
        rows = min(members, jax.device_count())
        columns = jax.device_count() // rows
        devices = np.array(jax.devices()[: rows * columns]).reshape(rows, columns)
        mesh = Mesh(devices, ("member", "batch"), axis_types=(AxisType.Auto,) * 2)
        count, left_over = divmod(members, rows)
        split = NamedSharding(mesh, P() if left_over else P("member"))
        args, shared = jax.device_put((args, shared), (split, NamedSharding(mesh, P())))
        return run(args, shared, count + bool(left_over), mesh)

    return mapped


def _in_turn(function, args, count):
    """Map `function` over the members of one device, one after another."""
    length = jax.tree.leaves(args)[0].shape[0]
    return _scan(lambda _, one: ((), function(*one)), (), args, count, length)[1]


def _at_once(function, args, count):
    del count
    return jax.vmap(function)(*args)


def _scan(step, state, xs, count, length):
    """Do the first `count` of the `length` steps of `lax.scan(step, state, xs)`.

    The count is traced, so that one program serves for any; and since XLA cannot see that it may
    be one, it compiles the step alike for all: the same numbers come out however many there are.
    """

    def body(i, loop):
        state, ys = loop
        x = jax.tree.map(lambda a: lax.dynamic_index_in_dim(a, i, keepdims=False), xs)
        state, y = step(state, x)
        place = functools.partial(lax.dynamic_update_index_in_dim, index=i, axis=0)
        return state, jax.tree.map(lambda all_, one: place(all_, jnp.asarray(one)), ys, y)

    x = jax.eval_shape(lambda xs: jax.tree.map(lambda a: a[0], xs), xs)
    _, y = jax.eval_shape(step, state, x)
    ys = jax.tree.map(lambda one: lax.full((length, *one.shape), 0, one.dtype), y)
    return lax.fori_loop(0, count, body, (state, ys))


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
    run = over_population(lambda state, *, count: _scan(step, state, (), count, sizes[0]))
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
    run = over_population(lambda xs, state, *, count: _scan(train_step, state, xs, count, sizes[0]))
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
    with _progress(label, sum(sizes)) as report:
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


@contextlib.contextmanager
def _progress(label, total):
    """Show a progress bar on standard error, if that is a terminal; give the way to advance it."""
    if not sys.stderr.isatty():
        yield lambda steps, metrics: None
        return

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    def report(steps, metrics):
        medians = (f"{name} {np.median(values[steps - 1]):.4g}" for name, values in metrics.items())
        bar.update(task, advance=steps, note="  ".join(medians), refresh=True)

    name = TextColumn("{task.description}", markup=False)
    note = TextColumn("{task.fields[note]}", markup=False)
    columns = name, BarColumn(), MofNCompleteColumn(), Remaining(), note
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total, note="")
        yield report
