"""DeltaNet: a matrix of associations from keys to values, corrected by the delta rule."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name as name
from jax.nn import sigmoid
from jaxtyping import Array, Float

from rnnjax.cells import initializers
from rnnjax.cells.base import Cell, check_heads, check_inputs, check_size, in_types_of
from rnnjax.cells.initializers import Initializer
from rnnjax.cells.kernels import matmul, outer


class DeltaNetParams(NamedTuple):
    """Parameters of a DeltaNet, the N heads side by side."""

    query_kernel: Any  # [D, N*K]
    key_kernel: Any  # [D, N*K]
    value_kernel: Any  # [D, H]
    beta_kernel: Any  # [D, N]
    beta_bias: Any  # [N]


class DeltaNetCarry(NamedTuple):
    """The state of a DeltaNet: in each head a matrix from keys to values, and the query."""

    S: Any  # [*batch, N, H/N, K]
    q: Any  # [*batch, N, K], of the last step: a part of the output alone


class DeltaNetInput(NamedTuple):
    """What the step of a DeltaNet takes from x; keys and queries have unit length."""

    q: Any  # [*batch, N, K]
    k: Any  # [*batch, N, K]
    v: Any  # [*batch, N, H/N]
    beta: Any  # [*batch, N]


@dataclasses.dataclass(frozen=True)
class DeltaRule(Cell):
    """What the cells with the delta rule share: abstract."""

    features: int
    _: dataclasses.KW_ONLY
    num_heads: int = 1
    key_size: int | None = None
    max_beta: float = 2.0
    activation_fn: Callable[[Array], Array] = jax.nn.silu
    kernel_init: Initializer = initializers.Gaussian()
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        check_heads(self.features, self.num_heads)
        if self.key_size is not None:
            check_size("key_size", self.key_size)
        if not 0 < self.max_beta <= 2:
            raise ValueError(f"max_beta must be above 0 and at most 2, got {self.max_beta}")

    @property
    def _key_size(self):
        return self.key_size or self.features // self.num_heads

    def init_delta(self, key: Array, input_size: int) -> DeltaNetParams:
        """Draw the kernels of q, k, v and beta."""
        check_size("input_size", input_size)
        keys = self.num_heads * self._key_size
        widths = keys, keys, self.features, self.num_heads
        q, k, v, beta = (
            self.kernel_init(key, (input_size, width), self.param_dtype)
            for key, width in zip(jax.random.split(key, 4), widths, strict=True)
        )
        return DeltaNetParams(q, k, v, beta, jnp.zeros(self.num_heads, self.param_dtype))

    def initial_carry(self, batch_shape: Sequence[int]) -> DeltaNetCarry:
        """Return S = 0 and q = 0."""
        matrix = self.features // self.num_heads, self._key_size
        shape = *batch_shape, self.num_heads
        return DeltaNetCarry(
            jnp.zeros((*shape, *matrix), self.param_dtype),
            jnp.zeros((*shape, self._key_size), self.param_dtype),
        )

    def project_delta(self, ready: Any, x: Array) -> DeltaNetInput:
        """Return q, k, v and beta.

        Raises:
            ValueError: x has not the D features that the parameters were made for.
        """
        check_inputs(x, ready.key_kernel.shape[0])
        q, k, v = (
            self.by_head(self.activation_fn(matmul(x, kernel, self.dtype)))
            for kernel in (ready.query_kernel, ready.key_kernel, ready.value_kernel)
        )
        beta = sigmoid(matmul(x, ready.beta_kernel, self.dtype) + ready.beta_bias)
        return DeltaNetInput(unit(q), unit(k), v, self.max_beta * beta)

    def by_head(self, x: Array) -> Array:
        """Return `[*batch, N, W]` from `[*batch, N*W]`."""
        return x.reshape(*x.shape[:-1], self.num_heads, -1)

    def output(self, carry: DeltaNetCarry) -> Float[Array, "*batch H"]:
        """Return S q, the heads side by side."""
        y = times(carry.S, carry.q)
        return y.reshape(*y.shape[:-2], self.features)


@dataclasses.dataclass(frozen=True)
class DeltaNet(DeltaRule):
    """S' = S (I - beta k k^T) + beta v k^T = S + beta (v - S k) k^T;  y = S' q, in each head;
    q = n(phi(W_q x)), k = n(phi(W_k x)), v = phi(W_v x), beta = max_beta s(W_b x + b).

    n makes vectors of unit length, and phi is `activation_fn`. S stores what belongs to the key k,
    and corrects its answer S k towards v: with beta = 1, S' k = v. The Jacobian is I - beta k k^T
    on each row of S: a gradient keeps its length across k, and along k it has the factor 1 - beta.
    So a key is forgotten when it is written again, and others are not. With beta up to 2 the
    eigenvalue may be negative, down to -1, a reflection; products of reflections can permute what S
    holds, which factors between 0 and 1 cannot.

    The carry has q beside S, because the output is read from the carry alone: a redundant state,
    whose Lyapunov exponents are -inf. Parameters: `query_kernel [D, N K]`, `key_kernel [D, N K]`,
    `value_kernel [D, H]`, `beta_kernel [D, N]` and `beta_bias [N]`, which starts at zero.
    Source: Schlag, Irie, Schmidhuber 2021, arXiv:2102.11174, section 4.2; Yang et al. 2024,
    "Parallelizing linear transformers with the delta rule over sequence length", arXiv:2406.06484,
    section 2.2; beta up to 2: Grazzi et al. 2024, "Unlocking state-tracking in linear RNNs through
    negative eigenvalues", arXiv:2411.12537. Short convolutions and the norm of the outputs belong
    to a layer; so does the factor K^(-1/2) of q in fla-org/flash-linear-attention.

    Args:
        features: H, the width of the outputs: N values of H/N numbers.
        num_heads: N.
        key_size: K, the length of a key; None means H/N.
        max_beta: above 0 and at most 2; at most 1, no eigenvalue is negative.
        activation_fn: phi, elementwise.
        kernel_init: initialiser of each kernel.
        dtype: the type in which the inputs are multiplied; None means the promoted type. S is
            updated in `param_dtype`.
        param_dtype: type of the parameters and of the carry.

    Raises:
        ValueError: a size is not a positive integer, H is not a multiple of N, or `max_beta` is not
            within 0 < max_beta <= 2.
    """

    init_only = ("kernel_init",)

    def init(self, key: Array, input_size: int) -> DeltaNetParams:
        """Draw the parameters for inputs `[*batch, input_size]`."""
        return self.init_delta(key, input_size)

    def project(self, ready: DeltaNetParams, x: Array) -> DeltaNetInput:
        """Return q, k, v and beta."""
        return self.project_delta(ready, x)

    def step(self, ready: DeltaNetParams, carry: DeltaNetCarry, u: DeltaNetInput) -> DeltaNetCarry:
        """Return the next S, and q."""
        del ready
        return in_types_of(carry, DeltaNetCarry(corrected(carry.S, u), u.q))


def unit(x: Array) -> Array:
    """Return x / max(|x|, 0.001): of unit length, and with a finite gradient at x = 0."""
    return x * lax.rsqrt(jnp.maximum(jnp.sum(x * x, axis=-1, keepdims=True), 1e-6))


def times(matrix: Array, vector: Array) -> Array:
    """Return the product of a matrix and a vector for each head of each example."""
    return jnp.einsum("...vk,...k->...v", matrix, vector)


def corrected(matrix: Array, u: DeltaNetInput) -> Array:
    """Return S + beta (v - S k) k^T."""
    error = name(u.beta, "beta")[..., None] * (u.v - times(matrix, u.k))
    return matrix + outer(error, u.k)
