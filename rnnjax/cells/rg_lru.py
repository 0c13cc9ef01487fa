"""The real-gated linear recurrent unit of Griffin and RecurrentGemma."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name as name
from jax.nn import sigmoid
from jaxtyping import Array, Float

from rnnjax.cells import initializers
from rnnjax.cells.base import check_heads, check_inputs, check_size, zeros
from rnnjax.cells.initializers import Initializer
from rnnjax.cells.kernels import matmul, product
from rnnjax.cells.linear import Linear

C = 8.0  # the paper's c


class RGLRUParams(NamedTuple):
    """Parameters of an RG-LRU, gate blocks in the order r, i."""

    input_kernel: Any  # [D, H]
    gate_kernel: Any  # [N, H/N, 2H/N], one block for each of N heads
    gate_bias: Any  # [2H]
    decay: Any  # [H], Lambda


class RGLRUReady(NamedTuple):
    """Effective parameters of an RG-LRU."""

    input_kernel: Any  # [D, H]
    gate_kernel: Any  # [N, H/N, 2H/N]
    gate_bias: Any  # [2H]
    rate: Any  # [H], c softplus(Lambda)


class RGLRUCarry(NamedTuple):
    """The state of an RG-LRU."""

    h: Any  # [*batch, H]


@dataclasses.dataclass(frozen=True)
class RGLRU(Linear):
    """v = W x;  r = s(W_r v + b_r);  i = s(W_i v + b_i);  a = exp(-c softplus(Lambda) r);
    h' = a h + sqrt(1 - a^2) (i v).

    The gate r moves ln a, between 0 and -c softplus(Lambda): the gradient that passes k steps back
    lies between exp(-c softplus(Lambda))^k and 1, so an input can stop the forgetting (r near 0,
    where sqrt(1 - a^2) shuts it out as well), but not erase the state at once. sqrt(1 - a^2) is
    computed from ln a; its gradient with respect to the gate is finite and vanishes at r = 0.
    Parameters: `input_kernel [D, H]`, which is W; `gate_kernel [N, H/N, 2H/N]`, W_r and W_i,
    block-diagonal with N heads; `gate_bias [2H]`, gate blocks in the order r, i; `decay [H]`, which
    is Lambda.
    Source: De et al. 2024, "Griffin: mixing gated linear recurrences with local attention for
    efficient language models", arXiv:2402.19427, section 2.4, c = 8 (google-deepmind/
    recurrentgemma). There D = H, and W is the linear layer of the surrounding block, with a short
    convolution between them, which is left out here: with `Identity()` as `kernel_init` and D = H
    this is the paper's layer. RecurrentGemma, but not the paper, draws a itself uniformly by area
    in [0.9, 0.999] where the paper draws a^c, limits the slope of the square root, and does not
    scale the first input of a sequence.

    Args:
        features: H, the number of hidden units.
        num_heads: N, the number of blocks of the gates' weights.
        r_min, r_max: at initialisation exp(-c softplus(Lambda)), the least a, is uniform between
            them.
        kernel_init: initialiser of W `[D, H]`.
        gate_kernel_init: initialiser of one `[H/N, H/N]` block.
        dtype: the type in which the matmuls are computed; None means the promoted type.
        param_dtype: type of the parameters and of the carry.

    Raises:
        ValueError: `features` or `num_heads` is not a positive integer, `features` is not a
            multiple of `num_heads`, or 0 < r_min <= r_max < 1 does not hold.
    """

    init_only = "r_min", "r_max", "kernel_init", "gate_kernel_init"

    features: int
    _: dataclasses.KW_ONLY
    num_heads: int = 1
    r_min: float | int | Array = 0.9
    r_max: float | int | Array = 0.999
    kernel_init: Initializer = initializers.Gaussian()
    gate_kernel_init: Initializer = initializers.Gaussian()
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        check_heads(self.features, self.num_heads)
        radii = self.r_min, self.r_max
        if all(isinstance(r, (float, int)) for r in radii) and not 0 < radii[0] <= radii[1] < 1:
            raise ValueError(f"r_min and r_max must satisfy 0 < r_min <= r_max < 1, got {radii}")

    def init(self, key: Array, input_size: int) -> RGLRUParams:
        """Draw the parameters for inputs `[*batch, input_size]`."""
        check_size("input_size", input_size)
        kernel_key, decay_key, *keys = jax.random.split(key, 2 + self.num_heads)
        width, dtype = self.features // self.num_heads, self.param_dtype
        shape = width, width
        gates = [initializers.blocks(self.gate_kernel_init, k, shape, 2, dtype) for k in keys]
        kind = jnp.promote_types(dtype, jnp.float32)
        least = jax.random.uniform(decay_key, (self.features,), kind, self.r_min, self.r_max)
        decay = jnp.log(jnp.expm1(-jnp.log(least) / C))  # the inverse of softplus
        kernel = self.kernel_init(kernel_key, (input_size, self.features), dtype)
        bias = jnp.zeros(2 * self.features, dtype)
        return RGLRUParams(kernel, jnp.stack(gates), bias, decay.astype(dtype))

    def prepare(self, params: RGLRUParams) -> RGLRUReady:
        """Return c softplus(Lambda) in the place of Lambda."""
        return RGLRUReady(*params[:3], C * jax.nn.softplus(params.decay))

    def initial_carry(self, batch_shape: Sequence[int]) -> RGLRUCarry:
        """Return h = 0."""
        return RGLRUCarry(zeros(batch_shape, self.features, self.param_dtype))

    def coefficients(self, ready: RGLRUReady, x: Array) -> tuple[RGLRUCarry, RGLRUCarry]:
        """Return a and sqrt(1 - a^2) (i v)."""
        check_inputs(x, ready.input_kernel.shape[0])
        v = matmul(x, ready.input_kernel, self.dtype)
        r, i = product(v, ready.gate_kernel, 2, self.dtype)
        of_r, of_i = jnp.split(ready.gate_bias, 2)
        r, i = name(sigmoid(r + of_r), "r"), name(sigmoid(i + of_i), "i")
        log_a = -ready.rate * r
        rest = -jnp.expm1(2 * log_a)  # 1 - a^2
        some = rest > 0  # at zero the slope of the root, times that of r, has the limit zero
        scale = jnp.where(some, jnp.sqrt(jnp.where(some, rest, 1)), 0)
        return RGLRUCarry(jnp.exp(log_a)), RGLRUCarry(scale * (i * v))

    def output(self, carry: RGLRUCarry) -> Float[Array, "*batch H"]:
        """Return the hidden state h."""
        return carry.h
