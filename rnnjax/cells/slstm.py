"""The scalar LSTM of xLSTM: exponential gates, and a state that is a weighted mean."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name as name
from jax.nn import log_sigmoid, sigmoid
from jaxtyping import Array

from rnnjax.cells import initializers
from rnnjax.cells.base import check_heads, check_size, zeros
from rnnjax.cells.gated import INITIALISERS, Gated, GatedParams
from rnnjax.cells.initializers import Chrono
from rnnjax.cells.lstm import with_forget_bias

ForgetGate = Literal["sigmoid", "exponential"]


class SLSTMCarry(NamedTuple):
    """The state of an sLSTM. The unscaled state and normaliser are exp(m) c and exp(m) n."""

    c: Any  # [*batch, H], the cell state
    n: Any  # [*batch, H], the normaliser
    m: Any  # [*batch, H], the stabiliser, a logarithm
    h: Any  # [*batch, H], the hidden state


@dataclasses.dataclass(frozen=True, kw_only=True)
class SLSTM(Gated):
    """c' = f c + i tanh(z~);  n' = f n + i;  h' = s(o~) c' / n';
    i = exp(i~ - m');  f = exp(l + m - m');  m' = max(l + m, i~);  l = ln s(f~) or l = f~;
    (i~, f~, z~, o~) = W x + U h + b.

    c / n is a mean of all past tanh(z~), weighted by exponential gates, so a later input can
    outweigh everything stored before it. The gradient of c' / n' with respect to c / n is the share
    of the past, f n / (f n + i). With i = f = 1 (an exponential forget gate, and gates without
    weights) c / n is the running mean of tanh(z~): then each of T inputs has the gradient 1 / T,
    which neither vanishes nor grows with the lag.

    The stabiliser m keeps the exponentials finite and cancels in h: (c e^-d, n e^-d, m + d) is the
    same state for any d. (So one number of each unit is redundant, and H of the Lyapunov exponents
    say nothing about the network.) Units are connected within their head only. Parameters:
    `input_kernel [D, 4H]`, `recurrent_kernel [N, H/N, 4H/N]` for N heads, and `bias [4H]`, gate
    blocks in the order i, f, z, o (of U within each head).
    Source: Beck et al. 2024, "xLSTM: extended long short-term memory", arXiv:2405.04517, equations
    8-17. While n = 0, m' = i~, whatever m, as in the authors' code (NX-AI/xlstm), which tests
    n = 0 for the whole batch, where this cell tests it for each unit. There the biases of the
    forget gate depend on the depth of the layer in its network.

    Args:
        num_heads: N, the number of heads.
        forget_gate: "sigmoid" or "exponential".
        forget_bias: as in `LSTM`; zero is the natural choice for an exponential forget gate.
        recurrent_kernel_init: initialiser of one `[H/N, H/N]` block of U, or a tuple of 4; it is
            called for each head.

    Raises:
        ValueError: H is not a multiple of N, or as in `Gated`.
    """

    gate_names = ("i", "f", "z", "o")
    init_only = *INITIALISERS, "forget_bias"

    num_heads: int = 1
    forget_gate: ForgetGate = "sigmoid"
    forget_bias: float | int | Array | Chrono = 1.0

    def __post_init__(self):
        Gated.__post_init__(self)
        check_heads(self.features, self.num_heads)
        if self.forget_gate not in get_args(ForgetGate):
            raise ValueError(
                f"forget_gate must be 'sigmoid' or 'exponential', got {self.forget_gate!r}"
            )

    def init(self, key: Array, input_size: int) -> GatedParams:
        """Draw the parameters for inputs `[*batch, input_size]`."""
        check_size("input_size", input_size)
        width, size = self.features, self.features // self.num_heads
        input_key, recurrent_key, bias_key = jax.random.split(key, 3)

        def draw(init, key, *shape):
            return initializers.blocks(init, key, shape, len(self.gate_names), self.param_dtype)

        keys = jax.random.split(recurrent_key, self.num_heads)
        return GatedParams(
            draw(self.kernel_init, input_key, input_size, width),
            jnp.stack([draw(self.recurrent_kernel_init, key, size, size) for key in keys]),
            with_forget_bias(draw(self.bias_init, bias_key, width), self.forget_bias, key),
        )

    def initial_carry(self, batch_shape: Sequence[int]) -> SLSTMCarry:
        """Return zeros: nothing is stored, and h = 0."""
        return SLSTMCarry(*(zeros(batch_shape, self.features, self.param_dtype) for _ in range(4)))

    def gates(
        self, params: Any, carry: SLSTMCarry, u: tuple[Array, ...], v: tuple[Array, ...]
    ) -> SLSTMCarry:
        """Return the next state."""
        del params
        log_i, f, z, o = (a + b for a, b in zip(u, v, strict=True))
        kept = (log_sigmoid(f) if self.forget_gate == "sigmoid" else f) + carry.m
        # While n = 0 nothing is stored: any f will do, and this one never overflows.
        kept = jnp.where(carry.n <= 0, jnp.minimum(kept, log_i), kept)
        m = jnp.maximum(kept, log_i)
        f, i = name(jnp.exp(kept - m), "f"), name(jnp.exp(log_i - m), "i")
        c, n = f * carry.c + i * jnp.tanh(z), f * carry.n + i
        return SLSTMCarry(c, n, m, name(sigmoid(o), "o") * c / n)
