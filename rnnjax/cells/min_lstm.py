"""The minimal LSTM, whose gates do not see the state and add up to one."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name as name
from jax.nn import log_sigmoid, sigmoid
from jaxtyping import Array, Float

from rnnjax.cells import initializers
from rnnjax.cells.base import check_inputs, check_size, zeros
from rnnjax.cells.initializers import Chrono, Initializer, draw
from rnnjax.cells.kernels import matmul
from rnnjax.cells.linear import Linear


class MinLSTMParams(NamedTuple):
    """Parameters of a minLSTM, blocks in the order f, i, g."""

    kernel: Any  # [D, 3H]
    bias: Any  # [3H]


class MinLSTMCarry(NamedTuple):
    """The state of a minLSTM."""

    h: Any  # [*batch, H]


@dataclasses.dataclass(frozen=True)
class MinLSTM(Linear):
    """f = s(W_f x + b_f);  i = s(W_i x + b_i);  g = W_g x + b_g;
    h' = f / (f + i) h + i / (f + i) g.

    An LSTM without its recurrent weights, whose gates are normalised: h is a weighted mean of its
    past and of g. The gradient that passes k steps back is the product of k factors f / (f + i) in
    (0, 1), for each unit by itself. Only the ratio of the gates matters: where they agree, open or
    closed, the gradient halves. It is computed as s(ln f - ln i), which has no 0 / 0 where both
    gates are closed.
    Parameters: `kernel [D, 3H]` and `bias [3H]`, blocks in the order f, i, g.
    Source: Feng et al. 2024, "Were RNNs all we needed?", arXiv:2410.01201, section 3.2, where g is
    h-tilde. The variant of its appendix that scans in log space needs a positive g; this one does
    not.

    Args:
        features: H, the number of hidden units.
        kernel_init: initialiser of one `[D, H]` block.
        forget_bias: added to the bias of f at initialisation: a number, or `Chrono(t_max)`, which
            is subtracted from the bias of i as well. f / (f + i) then begins as s(b_f).
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

    def init(self, key: Array, input_size: int) -> MinLSTMParams:
        """Draw the parameters for inputs `[*batch, input_size]`."""
        check_size("input_size", input_size)
        shape = input_size, self.features
        of_kernel, of_bias = jax.random.split(key)
        kernel = initializers.blocks(self.kernel_init, of_kernel, shape, 3, self.param_dtype)
        shape = (self.features,)
        f = draw(self.forget_bias, of_bias, shape, self.param_dtype)
        zero = jnp.zeros_like(f)
        i = -f if isinstance(self.forget_bias, Chrono) else zero
        return MinLSTMParams(kernel, jnp.concatenate([f, i, zero]))

    def initial_carry(self, batch_shape: Sequence[int]) -> MinLSTMCarry:
        """Return h = 0."""
        return MinLSTMCarry(zeros(batch_shape, self.features, self.param_dtype))

    def coefficients(self, ready: MinLSTMParams, x: Array) -> tuple[MinLSTMCarry, MinLSTMCarry]:
        """Return f / (f + i) and i / (f + i) g; these are the gates named f and i."""
        check_inputs(x, ready.kernel.shape[0])
        f, i, g = jnp.split(matmul(x, ready.kernel, self.dtype) + ready.bias, 3, axis=-1)
        ratio = log_sigmoid(f) - log_sigmoid(i)
        f, i = name(sigmoid(ratio), "f"), name(sigmoid(-ratio), "i")
        return MinLSTMCarry(f), MinLSTMCarry(i * g)

    def output(self, carry: MinLSTMCarry) -> Float[Array, "*batch H"]:
        """Return the hidden state h."""
        return carry.h
