"""The LSTM with a matrix memory, of the xLSTM."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name as name
from jax.nn import sigmoid
from jaxtyping import Array, Float

from rnnjax.cells import initializers
from rnnjax.cells.base import check_heads, check_inputs, check_size, zeros
from rnnjax.cells.initializers import Initializer, draw
from rnnjax.cells.kernels import matmul, outer
from rnnjax.cells.linear import Linear


class MLSTMParams(NamedTuple):
    """Parameters of an mLSTM with N heads and K = N key_size."""

    kernel: Any  # [D, 2K + 2H], blocks in the order q, k, v, o
    bias: Any  # [2K + 2H]
    gate_kernel: Any  # [D, 2N], gates in the order i, f
    gate_bias: Any  # [2N]


class MLSTMCarry(NamedTuple):
    """The state of an mLSTM. q and o are those of the last input: they follow from it alone."""

    C: Any  # [*batch, N, key_size, H/N], the memory
    n: Any  # [*batch, N, key_size], the normaliser
    q: Any  # [*batch, N, key_size], the query
    o: Any  # [*batch, H], the output gate


@dataclasses.dataclass(frozen=True)
class MLSTM(Linear):
    """C' = f C + i k v^T;  n' = f n + i k;  h = o * (C'^T q) / max(|n' . q|, 1), in each head,

        f = s(w_f x + b_f);  i = exp(cap tanh((w_i x + b_i) / cap));  o = s(W_o x + b_o);
        q = W_q x + b_q;  k = (W_k x + b_k) / sqrt(key_size);  v = W_v x + b_v.

    The memory of each head is a matrix, written at the key k and read at the query q. One number f
    forgets all of it, so the gradient that passes k steps back is the product of k factors f, the
    same for all entries of C and n. The input gate is an exponential: a write may outweigh all that
    is stored, by up to e^(2 cap) times, so the memory can be revised without being forgotten, and
    the gate's slope is the gate itself, which does not saturate below the cap.
    The output reads the carry alone, so q and o are part of it, with a = 0: redundant states, whose
    Lyapunov exponents are -inf.

    The paper divides C and n by exp(m), m' = max(ln f + m, ln i), so that exponentials do not
    overflow. A maximum over time is no linear recurrence. With the soft cap it is not needed,
    because i lies between e^-15 and e^15; and it is only a scale: multiplied out, the paper's
    denominator max(|n . q|, exp(-m)) is the max(|n . q|, 1) above, so h is the same number. An
    exponential forget gate, which the paper also has, may lie above one; its products then grow
    without bound, up to e^(cap T), and only the stabiliser keeps them finite. So it is not offered.
    Parameters: `kernel [D, 2K + 2H]` and `bias [2K + 2H]`, blocks in the order q, k, v, o, with
    K = num_heads * key_size; `gate_kernel [D, 2N]` and `gate_bias [2N]`, gates in the order i, f.
    Source: Beck et al. 2024, "xLSTM: extended long short-term memory", arXiv:2405.04517, equations
    19-27; the soft cap is that of Beck et al. 2025, "xLSTM 7B", arXiv:2503.13427, which caps f as
    well (NX-AI/xlstm; as there, b_k is divided by sqrt(key_size), too, but nothing is added to the
    denominator). Convolution, normalisation and projections around it belong to a layer; there q, k
    and v have inputs of their own.

    Args:
        features: H, the width of h, N heads of H/N values.
        num_heads: N.
        key_size: the width of q and k in each head; None means H/N.
        soft_cap: the cap of the input gate's pre-activation; None means no cap, as in the paper,
            and then exp overflows where the pre-activation is large (beyond 88 in float32).
        kernel_init: initialiser of each of the blocks of `kernel`.
        gate_kernel_init: initialiser of each `[D, N]` block of `gate_kernel`; zeros as in
            NX-AI/xlstm.
        input_bias: the bias of i at initialisation, a number or an initialiser. xLSTM 7B has -10,
            with a normalisation behind it.
        forget_bias: the bias of f at initialisation, a number or an initialiser; as in NX-AI/xlstm
            by default from 3 in the first head to 6 in the last.
        dtype: the type in which the matmuls are computed; None means the promoted type.
        param_dtype: type of the parameters and of the carry.

    Raises:
        ValueError: `features`, `num_heads` or `key_size` is not a positive integer, `features` is
            not a multiple of `num_heads`, or `soft_cap` is not positive.
    """

    init_only = "kernel_init", "gate_kernel_init", "input_bias", "forget_bias"

    features: int
    _: dataclasses.KW_ONLY
    num_heads: int = 1
    key_size: int | None = None
    soft_cap: float | None = 15.0
    kernel_init: Initializer = initializers.Gaussian()
    gate_kernel_init: Initializer = jax.nn.initializers.zeros
    input_bias: float | int | Array | Initializer = 0.0
    forget_bias: float | int | Array | Initializer = initializers.Linspace(3.0, 6.0)
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        check_heads(self.features, self.num_heads)
        check_size("key_size", self._key_size)
        if self.soft_cap is not None and not self.soft_cap > 0:
            raise ValueError(f"soft_cap must be positive or None, got {self.soft_cap}")

    @property
    def _key_size(self):
        return self.features // self.num_heads if self.key_size is None else self.key_size

    @property
    def _widths(self):
        """The widths of the blocks q, k, v, o."""
        return (self.num_heads * self._key_size,) * 2 + (self.features,) * 2

    def init(self, key: Array, input_size: int) -> MLSTMParams:
        """Draw the parameters for inputs `[*batch, input_size]`."""
        check_size("input_size", input_size)
        *keys, gate_key, i_key, f_key = jax.random.split(key, 7)
        dtype, heads = self.param_dtype, (self.num_heads,)
        blocks = [
            self.kernel_init(k, (input_size, width), dtype)
            for k, width in zip(keys, self._widths, strict=True)
        ]
        shape = input_size, self.num_heads
        gates = initializers.blocks(self.gate_kernel_init, gate_key, shape, 2, dtype)
        biases = self.input_bias, self.forget_bias
        biases = [draw(b, k, heads, dtype) for b, k in zip(biases, (i_key, f_key), strict=True)]
        bias = jnp.zeros(sum(self._widths), dtype)
        return MLSTMParams(jnp.concatenate(blocks, -1), bias, gates, jnp.concatenate(biases))

    def initial_carry(self, batch_shape: Sequence[int]) -> MLSTMCarry:
        """Return zeros."""
        heads = *batch_shape, self.num_heads
        n = zeros(heads, self._key_size, self.param_dtype)
        C = zeros((*heads, self._key_size), self.features // self.num_heads, self.param_dtype)
        return MLSTMCarry(C, n, n, zeros(batch_shape, self.features, self.param_dtype))

    def coefficients(self, ready: MLSTMParams, x: Array) -> tuple[MLSTMCarry, MLSTMCarry]:
        """Return f for C and n, and 0; and i k v^T, i k, q and o."""
        check_inputs(x, ready.kernel.shape[0])
        packed = matmul(x, ready.kernel, self.dtype) + ready.bias
        *parts, o = jnp.split(packed, [sum(self._widths[:end]) for end in (1, 2, 3)], axis=-1)
        q, k, v = (a.reshape(*a.shape[:-1], self.num_heads, -1) for a in parts)
        i, f = jnp.split(matmul(x, ready.gate_kernel, self.dtype) + ready.gate_bias, 2, axis=-1)
        i = i if self.soft_cap is None else self.soft_cap * jnp.tanh(i / self.soft_cap)
        f, o = name(sigmoid(f), "f"), name(sigmoid(o), "o")
        write = (jnp.exp(i) / math.sqrt(self._key_size))[..., None] * k
        a = MLSTMCarry(f[..., None, None], f[..., None], 0.0, 0.0)
        return a, MLSTMCarry(outer(write, v), write, q, o)

    def output(self, carry: MLSTMCarry) -> Float[Array, "*batch H"]:
        """Return h."""
        read = jnp.einsum("...kv,...k->...v", carry.C, carry.q)
        norm = jnp.maximum(jnp.abs(jnp.sum(carry.n * carry.q, axis=-1)), 1)
        return carry.o * (read / norm[..., None]).reshape(carry.o.shape)
