"""Many networks in one program: members over devices, and the batch of each over what is left."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from rnnjax.training.mesh import population_mesh

PyTree = Any


def over_population(function: Callable) -> Callable:
    """Return `function` jitted, and mapped over the leading axis S of all its arguments' leaves.

    Keyword arguments are not mapped: all members share them.

    Members are split over all devices; S need not be a multiple of their number. Where there are
    several devices for each member, they split the batch of its `rnnjax.unroll`. Within
    `rnnjax.training.use_mesh_shape` devices are shared out as it says. On accelerators the members
    of a device are vmapped; on a CPU they run one after another on each core, because batched small
    matmuls are slower there than the same matmuls in turn, and a member's working set stays in
    cache. There a member's numbers do not depend, to the last bit, on how many others there are,
    nor on how they are spread over devices and processes, so long as its batch is not split (which
    would sum it in another order).

    In a program of several processes all call it with the same arguments, and each gets the whole
    result, on its first device.

    Raises:
        ValueError: when called, if the leading axes differ.
    """
    mapped = sharded_over_population(function)
    return lambda *args, **shared: gather(mapped(*args, **shared))


def sharded_over_population(function: Callable) -> Callable:
    """Return `function` as `over_population` does, but leave results where they were computed.

    In a program of several processes each holds the members of its devices: see `gather`. If S
    is not a multiple of the ways that members are split, every device holds all.
    """

    run = sharded_program(function)

    def mapped(*args, **shared):
        members, split = _members(args), population_sharding(_members(args))
        args, shared = _put((args, shared), (split, NamedSharding(split.mesh, P())))
        count = -(-members // split.mesh.shape["member"])
        return run(args, shared, count, split)

    return mapped


def sharded_program(function: Callable) -> Any:
    """Return what `sharded_over_population` compiles: jitted, of placed arguments.

    It is called with the arguments, the keyword arguments as a dict, how many members a device has,
    and the sharding of the members, `population_sharding`.
    """

    @functools.partial(jax.jit, static_argnames="split")
    def run(args, shared, count, split):
        def on_device(args, shared, count):
            together = _in_turn if _platform(split) == "cpu" else _at_once
            return together(functools.partial(function, **shared), args, count)

        members, rows = jax.tree.leaves(args)[0].shape[0], split.mesh.shape["member"]
        if members % rows:  # the first ones again, so that there is one for each device
            places = np.arange(-(-members // rows) * rows) % members
            args = jax.tree.map(lambda a: a[places], args)
        results = jax.shard_map(
            on_device,
            mesh=split.mesh,
            in_specs=(P("member"), P(), P()),
            out_specs=P("member"),
            axis_names={"member"},
            check_vma=False,
        )(args, shared, count)
        results = jax.tree.map(lambda a: a[:members], results)
        return lax.with_sharding_constraint(results, split)

    return run


def population_sharding(members: int) -> NamedSharding:
    """Return how arrays `[S, ...]` of so many members lie on the devices."""
    mesh = population_mesh(members)
    return NamedSharding(mesh, P() if members % mesh.shape["member"] else P("member"))


def shard_population(tree: PyTree) -> PyTree:
    """Return a tree of arrays `[S, ...]`, from anywhere, as `population_sharding` puts them.

    In a program of several processes all give the same tree.

    Raises:
        ValueError: the leading axes differ.
    """
    return _put(tree, population_sharding(_members(tree)))


def gather(tree: PyTree) -> PyTree:
    """Return a tree of arrays as a whole on every process, on its first device.

    Nothing is changed where the program is one process. All processes must call it.
    """
    if jax.process_count() == 1:
        return tree
    leaves, structure = jax.tree.flatten(tree)
    away = [i for i, leaf in enumerate(leaves) if _elsewhere(leaf)]
    if away:
        everywhere = NamedSharding(leaves[away[0]].sharding.mesh, P())
        whole = _moved([leaves[i] for i in away], everywhere)
        for i, leaf in zip(away, whole, strict=True):
            leaves[i] = leaf.addressable_data(0)
    return jax.tree.unflatten(structure, leaves)


def _platform(sharding):
    return sharding.mesh.devices.flat[0].platform


def _members(tree):
    axes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(tree)}
    if len(axes) != 1 or axes <= {(), (0,)}:
        raise ValueError(f"every leaf needs an entry for each member, got axes {sorted(axes)}")
    ((members,),) = axes
    return members


def _put(tree, shardings):
    """Do `jax.device_put`, to devices of other processes too, which hold the same tree."""
    if jax.process_count() == 1:
        return jax.device_put(tree, shardings)
    shardings = jax.tree.broadcast(shardings, tree)
    return jax.tree.map(_put_leaf, tree, shardings)


def _put_leaf(leaf, sharding):
    if _elsewhere(leaf):
        return leaf if leaf.sharding == sharding else _moved(leaf, sharding)
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = _put_leaf(jax.random.key_data(leaf), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    leaf = np.asarray(leaf)
    leaf = leaf.astype(jax.dtypes.canonicalize_dtype(leaf.dtype))
    return jax.make_array_from_callback(leaf.shape, sharding, lambda index: leaf[index])


def _elsewhere(leaf):
    return isinstance(leaf, jax.Array) and not leaf.is_fully_addressable


def _moved(tree, sharding):
    return _identity(sharding)(tree)


@functools.cache
def _identity(sharding):
    return jax.jit(lambda tree: tree, out_shardings=sharding)


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
