"""Long short-term memory with a forget gate."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name as name
from jax.nn import sigmoid
from jaxtyping import Array

from rnnjax.cells.base import zeros
from rnnjax.cells.gated import INITIALISERS, Gated, GatedParams
from rnnjax.cells.initializers import Chrono, draw


class LSTMCarry(NamedTuple):
    """The state of an LSTM: the cell state c (the carousel) and the hidden state h."""

    c: Any  # [*batch, H]
    h: Any  # [*batch, H]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LSTM(Gated):
    """c' = s(f) c + s(i) tanh(g);  h' = s(o) tanh(c');  (i, f, g, o) = W x + U h + b.

    One bias; s is the logistic function. Parameters: `input_kernel [D, 4H]`,
    `recurrent_kernel [H, 4H]`, `bias [4H]`, gate blocks in the order i, f, g, o.
    Source: Hochreiter & Schmidhuber 1997; the forget gate is that of Gers, Schmidhuber, Cummins
    2000, "Learning to forget", equation 2.

    Args:
        forget_bias: added to the bias of the forget gate once, at initialisation (Jozefowicz,
            Zaremba, Sutskever 2015). `Chrono(t_max)` draws it as ln U[1, t_max - 1] and adds its
            negative to the input gate's bias.
    """

    gate_names = ("i", "f", "g", "o")
    init_only = *INITIALISERS, "forget_bias"

    forget_bias: float | int | Array | Chrono = 1.0

    def init(self, key: Array, input_size: int) -> GatedParams:
        """Draw the parameters for inputs `[*batch, input_size]`."""
        params = self.init_blocks(key, input_size)
        return params._replace(bias=with_forget_bias(params.bias, self.forget_bias, key))

    def initial_carry(self, batch_shape: Sequence[int]) -> LSTMCarry:
        """Return c = h = 0."""
        state = zeros(batch_shape, self.features, self.param_dtype)
        return LSTMCarry(state, state)

    def gates(
        self, params: Any, carry: LSTMCarry, u: tuple[Array, ...], v: tuple[Array, ...]
    ) -> LSTMCarry:
        """Return the next (c, h)."""
        del params
        i, f, g, o = (a + b for a, b in zip(u, v, strict=True))
        i, f, o = name(sigmoid(i), "i"), name(sigmoid(f), "f"), name(sigmoid(o), "o")
        c = f * carry.c + i * jnp.tanh(g)
        return LSTMCarry(c, o * jnp.tanh(c))


def with_forget_bias(bias: Array, forget_bias: Any, key: Array) -> Array:
    """Return a bias `[4H]`, gates i, f, g, o, with the forget bias added to f.

    `Chrono` also sets i: its negative is added there.
    """
    i, f, g, o = jnp.split(bias, 4)
    forget = draw(forget_bias, jax.random.fold_in(key, 0), f.shape, f.dtype)
    if isinstance(forget_bias, Chrono):
        i = i - forget
    return jnp.concatenate([i, f + forget, g, o])
