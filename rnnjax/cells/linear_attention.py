"""Linear attention with decay, as a recurrence: the cores of RetNet, GLA and Mamba-2."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name as name
from jax.nn import log_sigmoid, softplus
from jaxtyping import Array, Float

from rnnjax.cells import initializers
from rnnjax.cells.base import check_heads, check_inputs, check_size, zeros
from rnnjax.cells.initializers import Initializer
from rnnjax.cells.kernels import matmul, outer
from rnnjax.cells.linear import Linear

Decay = Literal["fixed", "vector", "scalar"]
GLA_ROOT = 16  # the decay of GLA is the 16th root of a sigmoid


class LinearAttentionParams(NamedTuple):
    """Parameters of linear attention with N heads and K = N key_size; unused ones are None."""

    kernel: Any  # [D, 2K + H], blocks in the order q, k, v
    decay_kernel: Any  # [D, K] (vector) or [D, N] (scalar)
    decay_bias: Any  # [K] or [N]
    A_log: Any  # [N] (scalar)


class LinearAttentionReady(NamedTuple):
    """Effective parameters of linear attention."""

    kernel: Any  # [D, 2K + H]
    decay_kernel: Any  # [D, K], [D, N] or None
    decay_bias: Any  # [K], [N] or None
    rate: Any  # [N]: a itself (fixed), exp(A_log) (scalar) or None


class LinearAttentionCarry(NamedTuple):
    """The state of linear attention. q is that of the last input: it follows from it alone."""

    S: Any  # [*batch, N, key_size, H/N]
    q: Any  # [*batch, N, key_size]


@dataclasses.dataclass(frozen=True)
class LinearAttention(Linear):
    """S' = a S + k v^T;  y = S'^T q, in each head, (q, k, v) = W x, k divided by sqrt(key_size),

    with a decay a which is, depending on `decay`,

        fixed     1 - 2^(-5 - n) in head n = 0, 1, ...                              as in RetNet
        vector    s(W_a x + b_a)^(1/16), one for each row of S                      as in GLA
        scalar    exp(-Delta exp(A_log)), Delta = softplus(w x + b), one a head     as in Mamba-2

    With "scalar" the write is Delta k v^T. Unrolled, y_T = sum over t of (q_T . prod a k_t) v_t:
    attention without the softmax. The gradient of S is the product of the decays; that of v_t is
    this times the agreement of q_T and k_t. So a step is reached by its content, whatever lies
    between, and writes at orthogonal keys do not disturb each other. With "fixed" the half-life of
    head n is about 2^(5 + n) ln 2 steps, whatever is learned.
    The output reads the carry alone, so q is part of it, with a = 0: a redundant state, whose
    Lyapunov exponents are -inf.
    Parameters: `kernel [D, 2K + H]`, blocks in the order q, k, v, with K = num_heads * key_size;
    with "vector" `decay_kernel [D, K]` and `decay_bias [K]`; with "scalar" `decay_kernel [D, N]`,
    `decay_bias [N]` and `A_log [N]`. The others are None.
    Source: Sun et al. 2023, "Retentive network", arXiv:2307.08621, section 2; Yang et al. 2024,
    "Gated linear attention transformers with hardware-efficient training", arXiv:2312.06635,
    section 4, where W_a has rank 16; Dao, Gu 2024, "Transformers are SSMs", arXiv:2405.21060, and
    state-spaces/mamba, where k = B and q = C are those of all heads together, and k is not divided
    by sqrt(key_size). What surrounds these recurrences belongs to a layer and is left out: short
    convolutions and activations of q, k and v, RetNet's rotation of q and k by position,
    normalisation and gates of the output, the skip connection D x.

    Args:
        features: H, the width of the output, N heads of H/N values.
        num_heads: N.
        key_size: the width of q and k in each head; None means H/N.
        decay: "fixed", "vector" or "scalar".
        kernel_init: initialiser of each block of `kernel`, and of `decay_kernel`. Biases are zero;
            but with "scalar" softplus(b) is drawn log-uniformly in [0.001, 0.1], and exp(A_log)
            uniformly in [1, 16], as in Mamba-2.
        dtype: the type in which the matmuls are computed; None means the promoted type.
        param_dtype: type of the parameters and of the carry.

    Raises:
        ValueError: `features`, `num_heads` or `key_size` is not a positive integer, `features` is
            not a multiple of `num_heads`, or there is no such `decay`.
    """

    init_only = ("kernel_init",)

    features: int
    _: dataclasses.KW_ONLY
    num_heads: int = 1
    key_size: int | None = None
    decay: Decay = "fixed"
    kernel_init: Initializer = initializers.Gaussian()
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        check_heads(self.features, self.num_heads)
        check_size("key_size", self._key_size)
        if self.decay not in get_args(Decay):
            known = ", ".join(map(repr, get_args(Decay)))
            raise ValueError(f"decay must be one of {known}, got {self.decay!r}")

    @property
    def _key_size(self):
        return self.features // self.num_heads if self.key_size is None else self.key_size

    @property
    def _keys(self):
        """K, the width of the keys of all heads."""
        return self.num_heads * self._key_size

    def init(self, key: Array, input_size: int) -> LinearAttentionParams:
        """Draw the parameters for inputs `[*batch, input_size]`."""
        check_size("input_size", input_size)
        *keys, decay_key, step_key, rate_key = jax.random.split(key, 6)
        dtype, heads = self.param_dtype, (self.num_heads,)
        widths = self._keys, self._keys, self.features
        blocks = [
            self.kernel_init(k, (input_size, width), dtype)
            for k, width in zip(keys, widths, strict=True)
        ]
        kernel = jnp.concatenate(blocks, axis=-1)
        if self.decay == "fixed":
            return LinearAttentionParams(kernel, None, None, None)
        width = self._keys if self.decay == "vector" else self.num_heads
        decay = self.kernel_init(decay_key, (input_size, width), dtype)
        if self.decay == "vector":
            return LinearAttentionParams(kernel, decay, jnp.zeros(width, dtype), None)
        wide = jnp.promote_types(dtype, jnp.float32)
        low, high = math.log(0.001), math.log(0.1)
        step = jnp.exp(jax.random.uniform(step_key, heads, wide, low, high))
        bias = step + jnp.log(-jnp.expm1(-step))  # the inverse of softplus
        rate = jnp.log(jax.random.uniform(rate_key, heads, wide, 1, 16))
        return LinearAttentionParams(kernel, decay, bias.astype(dtype), rate.astype(dtype))

    def prepare(self, params: LinearAttentionParams) -> LinearAttentionReady:
        """Return what does not depend on the inputs: a, exp(A_log) or nothing."""
        rate = None if params.A_log is None else jnp.exp(params.A_log)
        if self.decay == "fixed":
            rate = 1 - 2.0 ** (-5 - jnp.arange(self.num_heads, dtype=params.kernel.dtype))
        return LinearAttentionReady(*params[:3], rate)

    def initial_carry(self, batch_shape: Sequence[int]) -> LinearAttentionCarry:
        """Return zeros."""
        heads = *batch_shape, self.num_heads
        S = zeros((*heads, self._key_size), self.features // self.num_heads, self.param_dtype)
        return LinearAttentionCarry(S, zeros(heads, self._key_size, self.param_dtype))

    def coefficients(
        self, ready: LinearAttentionReady, x: Array
    ) -> tuple[LinearAttentionCarry, LinearAttentionCarry]:
        """Return a for S, and 0; and k v^T (times Delta) and q."""
        check_inputs(x, ready.kernel.shape[0])
        packed = matmul(x, ready.kernel, self.dtype)
        parts = jnp.split(packed, [self._keys, 2 * self._keys], axis=-1)
        q, k, v = (self._by_head(a) for a in parts)
        k = k / math.sqrt(self._key_size)
        a = ready.rate  # [N], or below [*batch, N] or [*batch, N, key_size]
        if self.decay != "fixed":
            a = matmul(x, ready.decay_kernel, self.dtype) + ready.decay_bias
        if self.decay == "vector":
            a = name(self._by_head(jnp.exp(log_sigmoid(a) / GLA_ROOT)), "a")
        if self.decay == "scalar":
            step = softplus(a)
            k, a = step[..., None] * k, name(jnp.exp(-step * ready.rate), "a")
        a = a[..., None] if self.decay == "vector" else a[..., None, None]
        written = LinearAttentionCarry(outer(k, v), q)
        return LinearAttentionCarry(a, 0.0), written

    def output(self, carry: LinearAttentionCarry) -> Float[Array, "*batch H"]:
        """Return S^T q of all heads side by side."""
        read = jnp.einsum("...kv,...k->...v", carry.S, carry.q)
        return read.reshape(*read.shape[:-2], self.features)

    def _by_head(self, a):
        return a.reshape(*a.shape[:-1], self.num_heads, -1)
