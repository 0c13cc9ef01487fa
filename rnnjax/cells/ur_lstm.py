"""The LSTM whose forget gate is refined and begins uniformly distributed."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name as name
from jax.nn import sigmoid
from jaxtyping import Array

from rnnjax.cells.base import zeros
from rnnjax.cells.gated import INITIALISERS, Gated, GatedParams
from rnnjax.cells.initializers import UniformGate, draw


class URLSTMCarry(NamedTuple):
    """The state of a UR-LSTM: the cell state c (the carousel) and the hidden state h."""

    c: Any  # [*batch, H]
    h: Any  # [*batch, H]


@dataclasses.dataclass(frozen=True, kw_only=True)
class URLSTM(Gated):
    """c' = g c + (1 - g) tanh(n);  h' = s(o) tanh(c');  (f, r, n, o) = W x + U h + b,

        g = s(r) (1 - (1 - s(f))^2) + (1 - s(r)) s(f)^2

    The refine gate r moves the forget gate within s(f)^2 <= g <= 1 - (1 - s(f))^2. So where f
    remembers for t steps, 1 - s(f) = 1 / t, g can remember for t^2, while the slope of s(f), which
    learning needs, is still of order 1 / t. With U = 0 the gradient that reaches c from a later c
    is the product of the g between them. The bias of f starts as the logit of U[1/H, 1 - 1/H], so
    that forget gates are spread evenly over 0..1, and that of r as its negative.
    Parameters: `input_kernel [D, 4H]`, `recurrent_kernel [H, 4H]`, `bias [4H]`, gate blocks in the
    order f, r, n, o. The names of the gates' values are f, r, o, and g for the effective one.
    Source: Gu, Gulcehre, Paine, Hoffman, Pascanu 2020, "Improving the gating mechanism of recurrent
    neural networks", arXiv:1910.09890. There one vector is added to f and subtracted from r
    throughout; here it is where their two biases begin.

    Args:
        forget_bias: added to the bias of f and subtracted from that of r at initialisation: a
            number or an initialiser, `UniformGate()` or `Chrono(t_max)`.
    """

    gate_names = ("f", "r", "n", "o")
    init_only = *INITIALISERS, "forget_bias"

    forget_bias: float | int | Array | Callable[..., Array] = UniformGate()

    def init(self, key: Array, input_size: int) -> GatedParams:
        """Draw the parameters for inputs `[*batch, input_size]`."""
        params = self.init_blocks(key, input_size)
        f, r, n, o = self.split(params.bias)
        forget = draw(self.forget_bias, jax.random.fold_in(key, 0), f.shape, f.dtype)
        return params._replace(bias=jnp.concatenate([f + forget, r - forget, n, o]))

    def initial_carry(self, batch_shape: Sequence[int]) -> URLSTMCarry:
        """Return c = h = 0."""
        state = zeros(batch_shape, self.features, self.param_dtype)
        return URLSTMCarry(state, state)

    def gates(
        self, params: Any, carry: URLSTMCarry, u: tuple[Array, ...], v: tuple[Array, ...]
    ) -> URLSTMCarry:
        """Return the next (c, h)."""
        del params
        f, r, n, o = (a + b for a, b in zip(u, v, strict=True))
        f, r, o = name(sigmoid(f), "f"), name(sigmoid(r), "r"), name(sigmoid(o), "o")
        g = name(f * (f + 2 * r * (1 - f)), "g")
        write = (1 - f) * (r * (1 - f) + (1 - r) * (1 + f))  # 1 - g, precise where g is close to 1
        c = g * carry.c + write * jnp.tanh(n)
        return URLSTMCarry(c, o * jnp.tanh(c))
