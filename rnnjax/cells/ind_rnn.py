"""The independently recurrent network: every unit sees the past of itself alone."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from rnnjax.cells import initializers
from rnnjax.cells.base import check_positive, check_size, zeros
from rnnjax.cells.gated import INITIALISERS, Gated, GatedParams
from rnnjax.cells.initializers import Initializer

_FROM_0_TO_1 = jax.nn.initializers.uniform(1.0)


class IndRNNCarry(NamedTuple):
    """The state of an IndRNN."""

    h: Any  # [*batch, H]


@dataclasses.dataclass(frozen=True, kw_only=True)
class IndRNN(Gated):
    """h' = phi(W x + u * h + b), phi the `activation_fn`, u one number for each unit.

    The gradient of each unit over time is a product of scalars, u^k at lag k while a rectified
    unit is active: one bound on |u| bounds it at every lag, and no matrix can make it explode.
    With |u| <= c^(1/T) it grows by at most c over T steps. Units meet only in the next layer.
    Parameters: `input_kernel [D, H]`, `recurrent_kernel [H]`, which is u, and `bias [H]`.
    Source: Li et al. 2018, "Independently recurrent neural network (IndRNN): building a longer and
    deeper RNN", arXiv:1803.04831, equation 2. There u itself is clipped after each update; here
    `prepare` clips it, so an entry beyond the bound has no gradient and stays where it is. To let
    it return, clip the parameter after each update, too.

    Args:
        activation_fn: phi, any elementwise function.
        recurrent_kernel_init: initialiser of u; by default U[0, 1), as in the authors' code for
            rectified units. For a last layer that needs only long memory the paper draws u close
            to 1.
        max_abs: clips the u that is multiplied to [-max_abs, max_abs]; None means no bound.

    Raises:
        ValueError: `max_abs` is not positive, or as in `Gated`.
    """

    gate_names = ("h",)
    init_only = INITIALISERS

    recurrent_kernel_init: Initializer | tuple[Initializer, ...] = _FROM_0_TO_1
    activation_fn: Callable[[Array], Array] = jax.nn.relu
    max_abs: float | int | None = None

    def __post_init__(self):
        Gated.__post_init__(self)
        if self.max_abs is not None:
            check_positive("max_abs", self.max_abs)

    def init(self, key: Array, input_size: int) -> GatedParams:
        """Draw the parameters for inputs `[*batch, input_size]`."""
        check_size("input_size", input_size)
        inits = self.kernel_init, self.recurrent_kernel_init, self.bias_init
        shapes = (input_size, self.features), (self.features,), (self.features,)
        drawn = zip(inits, jax.random.split(key, 3), shapes, strict=True)
        return GatedParams(
            *(initializers.blocks(init, k, shape, 1, self.param_dtype) for init, k, shape in drawn)
        )

    def prepare(self, params: GatedParams) -> GatedParams:
        """Return the parameters with u within its bound."""
        if self.max_abs is None:
            return params
        u = jnp.clip(params.recurrent_kernel, -self.max_abs, self.max_abs)
        return params._replace(recurrent_kernel=u)

    def initial_carry(self, batch_shape: Sequence[int]) -> IndRNNCarry:
        """Return h = 0."""
        return IndRNNCarry(zeros(batch_shape, self.features, self.param_dtype))

    def gates(
        self, params: Any, carry: IndRNNCarry, u: tuple[Array, ...], v: tuple[Array, ...]
    ) -> IndRNNCarry:
        """Return phi(u + v)."""
        del params, carry
        return IndRNNCarry(self.activation_fn(u[0] + v[0]))
