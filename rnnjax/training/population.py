"""Many networks in one program: members over devices, and batches over the remaining devices."""

import dataclasses
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

    Members are split over all devices; S need not be a multiple of their number. If there are
    several devices per member, they split the batch of its `rnnjax.unroll`.
    `rnnjax.training.use_mesh_shape` sets both numbers. On accelerators the members of a device are
    vmapped. On a CPU they run one after another on each core: small matmuls are faster in sequence
    than batched, and a member's working set stays in cache. On a CPU a member's numbers do not
    depend, to the last bit, on the number of members, nor on how they are split over devices and
    processes, unless its batch is split (which changes the order of sums).

    In a program of several processes, all call it with the same arguments, and each gets the
    complete result on its first device.

    Raises:
        ValueError: when called, if the leading axes differ.
    """
    mapped = sharded_over_population(function)
    return lambda *args, **shared: gather(mapped(*args, **shared))


def sharded_over_population(function: Callable) -> "Sharded":
    """Map `function` as `over_population` does, but leave results on the devices of the members.

    In a program of several processes each holds the members of its devices: see `gather`. If S
    is not a multiple of the number of groups that members are split into, every device holds all
    members.
    """
    return Sharded(sharded_program(function))


@dataclasses.dataclass(frozen=True)
class Sharded:
    """What `sharded_over_population` returns: a program to call, or to compile before that."""

    program: Any

    def __call__(self, *args: Any, **shared: Any) -> Any:
        """Run the program."""
        members, split = _members(args), population_sharding(_members(args))
        args, shared = _device_put((args, shared), (split, NamedSharding(split.mesh, P())))
        return self.program(args, shared, _per_device(members, split), split)

    def compile(self, *args: Any) -> None:
        """Compile the program for arguments like these; a later call with such does not.

        Args:
            args: trees of arrays or of `jax.ShapeDtypeStruct`s, `[S, ...]`.
        """
        members = _members(args)
        split = population_sharding(members)
        like = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(a.shape, _dtype(a), sharding=split), args
        )
        self.program.lower(like, {}, _per_device(members, split), split).compile()


def _dtype(leaf):
    """Return the type that a leaf has on a device: float32 for NumPy's float64, by default."""
    if isinstance(leaf, np.ndarray):
        return jax.dtypes.canonicalize_dtype(leaf.dtype)
    return leaf.dtype


def _per_device(members, split):
    return -(-members // split.mesh.shape["member"])


def sharded_program(function: Callable) -> Any:
    """Return the jitted function that `sharded_over_population` calls with sharded arguments.

    Its arguments are the mapped arguments, the keyword arguments as a dict, the number of members
    per device, and the sharding of the members, `population_sharding`.
    """

    @functools.partial(jax.jit, static_argnames="split")
    def run(args, shared, count, split):
        def on_device(args, shared, count):
            mapped = _one_by_one if _platform(split) == "cpu" else _vmapped
            return mapped(functools.partial(function, **shared), args, count)

        members, rows = jax.tree.leaves(args)[0].shape[0], split.mesh.shape["member"]
        if members % rows:  # repeat the first members, so that every device has the same number
            indices = np.arange(-(-members // rows) * rows) % members
            args = jax.tree.map(lambda a: a[indices], args)
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
    """Return the sharding of arrays `[S, ...]` of a population of S members."""
    mesh = population_mesh(members)
    return NamedSharding(mesh, P() if members % mesh.shape["member"] else P("member"))


def shard_population(tree: PyTree) -> PyTree:
    """Return a tree of arrays `[S, ...]` on the devices of `population_sharding`.

    In a program of several processes all pass the same tree.

    Raises:
        ValueError: the leading axes differ.
    """
    return _device_put(tree, population_sharding(_members(tree)))


def gather(tree: PyTree) -> PyTree:
    """Return the complete arrays of a tree on every process, on its first device.

    In a program of one process the tree is returned unchanged. All processes must call it.
    """
    if jax.process_count() == 1:
        return tree
    leaves, structure = jax.tree.flatten(tree)
    remote = [i for i, leaf in enumerate(leaves) if _on_other_processes(leaf)]
    if remote:
        replicated = NamedSharding(leaves[remote[0]].sharding.mesh, P())
        complete = _reshard([leaves[i] for i in remote], replicated)
        for i, leaf in zip(remote, complete, strict=True):
            leaves[i] = leaf.addressable_data(0)
    return jax.tree.unflatten(structure, leaves)


def _platform(sharding):
    return sharding.mesh.devices.flat[0].platform


def _members(tree):
    axes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(tree)}
    if len(axes) != 1 or axes <= {(), (0,)}:
        raise ValueError(f"every leaf needs an entry per member, got leading axes {sorted(axes)}")
    ((members,),) = axes
    return members


def _device_put(tree, shardings):
    """Do `jax.device_put`; also to devices of other processes, which pass the same tree."""
    if jax.process_count() == 1:
        return jax.device_put(tree, shardings)
    shardings = jax.tree.broadcast(shardings, tree)
    return jax.tree.map(_device_put_leaf, tree, shardings)


def _device_put_leaf(leaf, sharding):
    if _on_other_processes(leaf):
        return leaf if leaf.sharding == sharding else _reshard(leaf, sharding)
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = _device_put_leaf(jax.random.key_data(leaf), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    leaf = np.asarray(leaf)
    leaf = leaf.astype(jax.dtypes.canonicalize_dtype(leaf.dtype))
    return jax.make_array_from_callback(leaf.shape, sharding, lambda index: leaf[index])


def _on_other_processes(leaf):
    return isinstance(leaf, jax.Array) and not leaf.is_fully_addressable


def _reshard(tree, sharding):
    return _identity(sharding)(tree)


@functools.cache
def _identity(sharding):
    return jax.jit(lambda tree: tree, out_shardings=sharding)


def _one_by_one(function, args, count):
    """Map `function` over the members of one device, one after another."""
    length = jax.tree.leaves(args)[0].shape[0]
    return partial_scan(lambda _, one: ((), function(*one)), (), args, count, length)[1]


def _vmapped(function, args, count):
    del count
    return jax.vmap(function)(*args)


def partial_scan(step, state, xs, count, length):
    """Do the first `count` of the `length` steps of `lax.scan(step, state, xs)`.

    The count is traced, so one program serves every count. XLA does not know the count, so it
    compiles the step in the same way for all of them, and the numbers do not depend on it.
    """

    step = jax.jit(step, inline=True)  # traced once: for its shapes, and in the loop

    def at(i):
        return jax.tree.map(lambda a: lax.dynamic_index_in_dim(a, i, keepdims=False), xs)

    def body(i, loop):
        state, ys = loop
        state, y = step(state, at(i))
        write = functools.partial(lax.dynamic_update_index_in_dim, index=i, axis=0)
        return state, jax.tree.map(lambda all_, one: write(all_, jnp.asarray(one)), ys, y)

    # As in the loop, down to the sharding of what is indexed: else the step is traced again.
    _, y = jax.eval_shape(lambda i: step(state, at(i)), jnp.int32(0))
    ys = jax.tree.map(lambda one: lax.full((length, *one.shape), 0, one.dtype), y)
    return lax.fori_loop(0, count, body, (state, ys))
