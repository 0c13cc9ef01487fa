"""Networks of equal size: the width at which a network has a given number of parameters."""

import bisect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp


def nearest_width(widths: Sequence[int], count: Callable[[int], int], parameters: int) -> int:
    """Return the width with which a network's size comes nearest to `parameters`.

    Of two that are as near the smaller.

    Args:
        widths: to choose from, in rising order.
        count: returns the number of parameters of the network of a width; it rises with it.
        parameters: wanted.
    """
    at = bisect.bisect_left(widths, parameters, key=count)
    return min(widths[max(0, at - 1) : at + 1], key=lambda width: abs(count(width) - parameters))


def model_of_size(make_model: Callable[[int], Any], input_size: int, parameters: int) -> Any:
    """Return the Flax model whose size comes nearest to `parameters`, of a width 4, 8, .. 1024.

    Args:
        make_model: returns the model of a width; it is called with sequences `[B, T, D]`.
        input_size: D.
        parameters: wanted.
    """

    def count(width):
        xs = jnp.zeros((1, 1, input_size))
        shapes = jax.eval_shape(make_model(width).init, jax.random.key(0), xs)["params"]
        return sum(leaf.size for leaf in jax.tree.leaves(shapes))

    return make_model(nearest_width(range(4, 1025, 4), count, parameters))
