"""A cell's parameters as Flax stores them: a dictionary with one array per leaf."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array

PyTree = Any


class Parameters(nn.Module):
    """The leaves of a pytree as parameters, named by their path: `bias`, or `cell_bias` deeper.

    Args:
        draw: returns the pytree for a key.
    """

    draw: Callable[[Array], PyTree]

    @nn.compact
    def __call__(self) -> PyTree:
        """Return the pytree."""
        shapes = jax.eval_shape(self.draw, jax.random.key(0))
        leaves, structure = jax.tree.flatten(shapes)
        found = names(shapes)
        if all(self.has_variable("params", name) for name in found):
            inits = [lambda _, s=s: jnp.zeros(s.shape, s.dtype) for s in leaves]  # for their shapes
        else:
            drawn = jax.tree.leaves(self.draw(self.make_rng("params")))
            inits = [lambda _, a=a: a for a in drawn]
        return structure.unflatten(list(map(self.param, found, inits)))


def names(tree: PyTree) -> list[str]:
    """Return the names of a pytree's leaves, in their order."""
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    return [jax.tree_util.keystr(path, simple=True, separator="_") or "value" for path in paths]


def from_dict(shapes: PyTree, arrays: Any) -> PyTree:
    """Return the pytree, like `shapes`, whose leaves have these names.

    Raises:
        ValueError: the names differ.
    """
    found = names(shapes)
    if set(arrays) != set(found):
        raise ValueError(f"the parameters must be {', '.join(found)}; got {', '.join(arrays)}")
    return jax.tree.structure(shapes).unflatten([arrays[name] for name in found])
