"""Arrays that the caller has sharded: along explicit axes of a mesh, or within `jax.shard_map`."""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

PyTree = Any
LEAST_BATCH = 8  # examples on each device: with 8, two devices are a tenth faster than one


def explicit_spec(xs: PyTree, batch_ndim: int) -> tuple[Any, tuple[Any, ...]] | None:
    """Return the mesh of inputs `[T, *batch, D]`, and the axes that split their batch dimensions.

    None if no axis of the mesh is explicit (`jax.make_mesh` makes explicit ones).
    """
    for leaf in jax.tree.leaves(xs):
        sharding = jax.typeof(leaf).sharding
        if AxisType.Explicit in sharding.mesh.axis_types:
            axes = (*sharding.spec, *[None] * leaf.ndim)[1 : 1 + batch_ndim]
            return sharding.mesh, axes
    return None


def with_explicit_axes(
    run: Callable, xs: PyTree, final: PyTree, carries: PyTree, batch_ndim: int
) -> Any:
    """Return `run`, within which the compiler shards everything, as it does along other axes.

    Its results, `(final, outputs)` or `(final, outputs, carries)`, are split like the batch of the
    inputs. `final` and `carries` are trees of their structure, `carries` None if they are not
    returned. Without explicit axes it is `run` itself.
    """
    found = explicit_spec(xs, batch_ndim)
    if found is None:
        return run
    mesh, axes = found
    once, each = NamedSharding(mesh, P(*axes)), NamedSharding(mesh, P(None, *axes))
    out = jax.tree.map(lambda _: once, final), each
    if carries is not None:
        out = *out, jax.tree.map(lambda _: each, carries)
    return jax.sharding.auto_axes(run, out_sharding=out)


def varying_alike(tree: PyTree) -> tuple[PyTree, bool]:
    """Return a tree whose arrays vary along the same axes of an enclosing `jax.shard_map`.

    Also whether there are such axes: those along which any of the arrays varies.
    """
    leaves, structure = jax.tree.flatten(tree)
    varying = [jax.typeof(leaf).manual_axis_type.varying for leaf in leaves]
    everywhere = frozenset().union(*varying)
    alike = [
        lax.pcast(leaf, tuple(sorted(everywhere - own)), to="varying") if everywhere - own else leaf
        for leaf, own in zip(leaves, varying, strict=True)
    ]
    return structure.unflatten(alike), bool(everywhere)


def splits_batch(batch: tuple[Any, ...]) -> bool:
    """Return whether the current mesh has a batch axis over which splitting pays."""
    mesh = jax.sharding.get_abstract_mesh()
    types = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    if not batch or types.get("batch") is not AxisType.Auto:
        return False
    devices = mesh.shape["batch"]
    even = devices > 1 and isinstance(batch[0], int) and batch[0] % devices == 0
    return even and batch[0] >= LEAST_BATCH * devices
