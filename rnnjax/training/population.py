"""Many networks in one program: members over devices, and the batch of each over what is left."""

import contextlib
import functools
import os
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P


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
    return partial_scan(lambda _, one: ((), function(*one)), (), args, count, length)[1]


def _at_once(function, args, count):
    del count
    return jax.vmap(function)(*args)


def partial_scan(step, state, xs, count, length):
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
