"""The minimal gated recurrent unit, whose gate does not see the state."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name as name
from jax.nn import sigmoid
from jaxtyping import Array, Float

from rnnjax.cells import initializers
from rnnjax.cells.base import check_inputs, check_size, zeros
from rnnjax.cells.initializers import Chrono, Initializer, draw
from rnnjax.cells.kernels import matmul
from rnnjax.cells.linear import Linear


class MinGRUParams(NamedTuple):
    """Parameters of a minGRU, blocks in the order z, g."""

    kernel: Any  # [D, 2H]
    bias: Any  # [2H]


class MinGRUCarry(NamedTuple):
    """The state of a minGRU."""

    h: Any  # [*batch, H]


@dataclasses.dataclass(frozen=True)
class MinGRU(Linear):
    """z = s(W_z x + b_z);  g = W_g x + b_g;  h' = (1 - z) h + z g.

    A GRU without its recurrent weights: the gate z sees the input alone, so h is a moving average
    whose rate the input sets. The gradient that passes k steps back is the product of k factors
    1 - z in (0, 1), for each unit by itself: it never grows, and it cannot change its sign. With
    W = 0 and b = 0 it halves at every step.
    Parameters: `kernel [D, 2H]` and `bias [2H]`, blocks in the order z, g.
    Source: Feng et al. 2024, "Were RNNs all we needed?", arXiv:2410.01201, section 3.1, where z has
    no bias by default and g is h-tilde.

    Args:
        features: H, the number of hidden units.
        kernel_init: initialiser of one `[D, H]` block.
        forget_bias: subtracted at initialisation from the bias of z, so that 1 - z, which plays the
            forget gate's part, begins larger: a number or `Chrono(t_max)`.
        dtype: the type in which the matmul is computed; None means the promoted type.
        param_dtype: type of the parameters and of the carry.

    Raises:
        ValueError: `features` is not a positive integer.
    """

    init_only = "kernel_init", "forget_bias"

    features: int
    _: dataclasses.KW_ONLY
    kernel_init: Initializer = initializers.Gaussian()
    forget_bias: float | int | Array | Chrono = 0.0
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        check_size("features", self.features)

    def init(self, key: Array, input_size: int) -> MinGRUParams:
        """Draw the parameters for inputs `[*batch, input_size]`."""
        check_size("input_size", input_size)
        shape = input_size, self.features
        of_kernel, of_bias = jax.random.split(key)
        kernel = initializers.blocks(self.kernel_init, of_kernel, shape, 2, self.param_dtype)
        z = jnp.zeros(self.features, self.param_dtype)
        z = z - draw(self.forget_bias, of_bias, z.shape, z.dtype)
        return MinGRUParams(kernel, jnp.concatenate([z, jnp.zeros_like(z)]))

    def initial_carry(self, batch_shape: Sequence[int]) -> MinGRUCarry:
        """Return h = 0."""
        return MinGRUCarry(zeros(batch_shape, self.features, self.param_dtype))

    def coefficients(self, ready: MinGRUParams, x: Array) -> tuple[MinGRUCarry, MinGRUCarry]:
        """Return 1 - z and z g."""
        check_inputs(x, ready.kernel.shape[0])
        z, g = jnp.split(matmul(x, ready.kernel, self.dtype) + ready.bias, 2, axis=-1)
        z = name(sigmoid(z), "z")
        return MinGRUCarry(1 - z), MinGRUCarry(z * g)

    def output(self, carry: MinGRUCarry) -> Float[Array, "*batch H"]:
        """Return the hidden state h."""
        return carry.h
