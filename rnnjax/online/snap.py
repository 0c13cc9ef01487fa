"""Sparse n-step approximation: the entries of ds/dtheta that are reached within n steps."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax.cells.base import check_size
from rnnjax.online import local
from rnnjax.online.base import Example, flat_step
from rnnjax.online.influence import Influence, after_step, jacobians


@dataclasses.dataclass(frozen=True)
class SnAp(Influence):
    """P' = mask * (J P + df/dtheta),   mask the entries of ds/dtheta that can differ from zero n
    steps after a parameter has entered.

    n = 1 keeps how a parameter moves the unit that it enters, through that unit's own recurrence:
    as many numbers as parameters, and exact where units see only themselves (`IndRNN`, diagonal
    linear cells). With a mask that is full it is RTRL; for a dense recurrent kernel n = 2 is. So
    n > 1 is for sparse kernels, and computes with all numbers of P.
    Source: Menick et al. 2020, "A practical sparse approximation for real time recurrent learning",
    arXiv:2006.07232.

    Args:
        n: steps.

    Raises:
        ValueError: n is not a positive integer.
    """

    n: int = 1

    def __post_init__(self):
        check_size("n", self.n)

    def is_local(self, cell, example):
        """Return whether a parameter reaches one unit alone within n steps."""
        return self.n == 1 and local.served(cell, example) is None

    def advance(self, cell, step, example, traces):
        """Return P', transposed."""
        if self.is_local(cell, example):
            return local.after_step(cell, example, step, traces, local.own_blocks(cell, example))
        return after_step(cell, example, step, traces) * reached(cell, example, self.n).T


def reached(cell, example, n) -> np.ndarray:
    """Return the mask `[N, P]`: which parameters reach which states within n steps.

    From the entries of df/dtheta and J that are not zero at some random parameters, inputs and
    states.
    """
    leaves, structure = jax.tree.flatten((example.params, example.carry, example.x))
    return _reached(cell, structure, local.shapes_of(leaves), n)


@functools.lru_cache(maxsize=16)
def _reached(cell, structure, shapes, n):
    with jax.ensure_compile_time_eval():

        def one(found, given):
            step = flat_step(cell, Example(*given, weight=1.0))
            pairs = zip(found, jacobians(step), strict=True)
            return [a | (b != 0) for a, b in pairs], None

        given = local.drawn(structure, shapes)
        first = jax.tree.map(lambda a: a[0], given)
        like = jax.eval_shape(lambda given: one([False, False], given)[0], first)
        start = [jnp.zeros(a.shape, bool) for a in like]
        of_theta, jacobian = map(np.asarray, jax.lax.scan(one, start, given)[0])
    mask = of_theta
    for _ in range(n - 1):
        mask = of_theta | (jacobian.astype(np.float32) @ mask.astype(np.float32) > 0)
    return mask
