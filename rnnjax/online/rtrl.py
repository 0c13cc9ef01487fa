"""Real-time recurrent learning: the derivative of the state, carried along."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from rnnjax.online import local
from rnnjax.online.influence import Influence, after_step

STRUCTURES = "auto", "dense"


@dataclasses.dataclass(frozen=True)
class RTRL(Influence):
    """P' = J P + df/dtheta,   P = ds/dtheta;   dl/dtheta = P^T dl/ds.

    The exact gradient of parameters that do not change on the way. J = df/ds. P has a number for
    each of N numbers of the state and each parameter, and J P takes N multiplications for each of
    them: for a dense kernel of H units H^4. Where each unit sees only its own state and each
    parameter enters one unit (`IndRNN`, linear cells with a vector state), only the numbers of
    that unit are kept, and the memory and time of a step are those of the parameters.
    Source: Williams, Zipser 1989, "A learning algorithm for continually running fully recurrent
    neural networks"; for diagonal cells Zucchetti et al. 2023, "Online learning of long-range
    dependencies", arXiv:2305.15947.

    Args:
        structure: "auto" uses that form where it is exact. Elsewhere it computes J by N backward
            steps and J P by one product; where each parameter enters one unit, as in gated cells,
            only the entries of df/dtheta that are not zero. "dense" pushes the tangent of every
            parameter through the step, as the definition says.

    Raises:
        ValueError: `structure` is neither.
    """

    structure: Literal["auto", "dense"] = "auto"

    def __post_init__(self):
        if self.structure not in STRUCTURES:
            raise ValueError(f"structure must be auto or dense, got {self.structure!r}")

    def is_local(self, cell, example):
        """Return whether each unit sees only itself, and each parameter enters one unit."""
        if self.structure == "dense" or not local.is_unitwise(cell, example):
            return False
        return local.units_of_parameters(cell, example) is not None

    def advance(self, cell, step, example, traces):
        """Return P', transposed."""
        if self.is_local(cell, example):
            return local.after_step(cell, example, step, traces, local.own_blocks(cell, example))
        if self.structure == "dense":
            push = jax.linearize(step.after, step.theta, step.s)[1]
            return jax.vmap(push)(jnp.eye(len(step.theta), dtype=step.theta.dtype), traces)
        return after_step(cell, example, step, traces)
