"""JANET: an LSTM that kept nothing but its forget gate."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name as name
from jax.nn import sigmoid
from jaxtyping import Array, Inexact

from rnnjax.cells.base import zeros
from rnnjax.cells.gated import INITIALISERS, Gated, GatedParams
from rnnjax.cells.initializers import Chrono, draw


class JANETCarry(NamedTuple):
    """The state of a JANET: the cell state, which is the hidden state, too."""

    c: Any  # [*batch, H]


@dataclasses.dataclass(frozen=True, kw_only=True)
class JANET(Gated):
    """c' = s(f) c + (1 - s(f - beta)) tanh(g);  h = c;  (f, g) = W x + U h + b.

    The carousel of the LSTM without its other gates: nothing stands between c and the output, so
    the gradient that stays within a unit is multiplied by s(f) alone, at lag k by the product of k
    forget gates (with U = 0 that is all of it). A unit that Chrono gives the bias ln t keeps
    t / (1 + t) of it at each step while W x + U h is small: a memory of about t steps. beta > 0
    lets more in than is forgotten.
    Parameters: `input_kernel [D, 2H]`, `recurrent_kernel [H, 2H]`, `bias [2H]`, gate blocks in the
    order f, g.
    Source: van der Westhuizen, Lasenby 2018, "The unreasonable effectiveness of the forget gate",
    arXiv:1804.04849, where f's bias is drawn by `Chrono`. (The authors' code draws ln U[1, t_max],
    `Chrono` draws ln U[1, t_max - 1], as its own paper says.)

    Args:
        beta: subtracted from f where it closes the input; 1 in the paper.
        forget_bias: as in `LSTM`; there is no input gate for `Chrono` to mirror.
    """

    gate_names = ("f", "g")
    init_only = *INITIALISERS, "forget_bias"

    beta: float | int = 1.0
    forget_bias: float | int | Array | Chrono = 1.0

    def init(self, key: Array, input_size: int) -> GatedParams:
        """Draw the parameters for inputs `[*batch, input_size]`."""
        params = self.init_blocks(key, input_size)
        f, g = self.split(params.bias)
        f = f + draw(self.forget_bias, jax.random.fold_in(key, 0), f.shape, f.dtype)
        return params._replace(bias=jnp.concatenate([f, g]))

    def initial_carry(self, batch_shape: Sequence[int]) -> JANETCarry:
        """Return c = 0."""
        return JANETCarry(zeros(batch_shape, self.features, self.param_dtype))

    def recurrent_input(self, carry: JANETCarry, u: Any) -> Inexact[Array, "*batch K"]:
        """Return c, which U multiplies."""
        del u
        return carry.c

    def gates(
        self, params: Any, carry: JANETCarry, u: tuple[Array, ...], v: tuple[Array, ...]
    ) -> JANETCarry:
        """Return the next c."""
        del params
        f, g = (a + b for a, b in zip(u, v, strict=True))
        keep, write = name(sigmoid(f), "f"), sigmoid(self.beta - f)
        return JANETCarry(keep * carry.c + write * jnp.tanh(g))

    def output(self, carry: JANETCarry) -> Inexact[Array, "*batch H"]:
        """Return h, which is c."""
        return carry.c
