"""The vanilla recurrent network of Elman 1990."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from rnnjax.cells.base import zeros
from rnnjax.cells.gated import INITIALISERS, Gated, GatedParams


class ElmanCarry(NamedTuple):
    """The state of an Elman cell."""

    h: Any  # [*batch, H]


def identity(x: Array) -> Array:
    """Return x: the activation of a linear network."""
    return x


@dataclasses.dataclass(frozen=True, kw_only=True)
class Elman(Gated):
    """h' = phi(W x + U h + b), phi the `activation_fn`: tanh, `jax.nn.relu`, `jax.nn.sigmoid`,
    `rnnjax.cells.identity` or any elementwise function.

    Parameters: `input_kernel [D, H]`, `recurrent_kernel [H, H]`, `bias [H]`.
    Source: Elman 1990, "Finding structure in time", Cognitive Science 14.

    With rectified units and a recurrent kernel that starts as the identity it is the IRNN, whose
    gradient at first neither grows nor decays where units are active (Le, Jaitly, Hinton 2015,
    arXiv:1504.00941):

        irnn = Elman(
            features=100,
            activation_fn=jax.nn.relu,
            recurrent_kernel_init=rnnjax.initializers.Identity(),
        )
    """

    gate_names = ("h",)
    init_only = INITIALISERS

    activation_fn: Callable[[Array], Array] = jnp.tanh

    def init(self, key: Array, input_size: int) -> GatedParams:
        """Draw the parameters for inputs `[*batch, input_size]`."""
        return self.init_blocks(key, input_size)

    def initial_carry(self, batch_shape: Sequence[int]) -> ElmanCarry:
        """Return h = 0."""
        return ElmanCarry(zeros(batch_shape, self.features, self.param_dtype))

    def gates(
        self, params: Any, carry: ElmanCarry, u: tuple[Array, ...], v: tuple[Array, ...]
    ) -> ElmanCarry:
        """Return phi(u + v)."""
        del params, carry
        return ElmanCarry(self.activation_fn(u[0] + v[0]))
