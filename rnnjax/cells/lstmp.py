"""Long short-term memory with a recurrent projection: a wide memory behind a narrow state."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name as name
from jax.nn import sigmoid
from jaxtyping import Array

from rnnjax.cells import initializers
from rnnjax.cells.base import check_size, zeros
from rnnjax.cells.gated import INITIALISERS, Gated
from rnnjax.cells.initializers import Chrono, Initializer
from rnnjax.cells.kernels import matmul
from rnnjax.cells.lstm import with_forget_bias


class LSTMPParams(NamedTuple):
    """Parameters of an LSTMP, gate blocks in the order i, f, g, o."""

    input_kernel: Any  # [D, 4H]
    recurrent_kernel: Any  # [P, 4H]
    bias: Any  # [4H]
    projection_kernel: Any  # [H, P], PyTorch's weight_hr transposed


class LSTMPCarry(NamedTuple):
    """The state of an LSTMP: the cell state c (the carousel) and the projected state h."""

    c: Any  # [*batch, H]
    h: Any  # [*batch, P]


@dataclasses.dataclass(frozen=True)
class LSTMP(Gated):
    """c' = s(f) c + s(i) tanh(g);  h' = (s(o) tanh(c')) R;  (i, f, g, o) = W x + U h + b.

    An LSTM of H cells whose hidden state is projected to P < H numbers by R `[H, P]`: what the
    network remembers (c) is wider than what it multiplies and puts out (h). Through h the gradient
    of a step passes a matrix of rank P, through c one of rank H; recurrent weights take 5HP numbers
    instead of 4H^2. Parameters: `input_kernel [D, 4H]`, `recurrent_kernel [P, 4H]`, `bias [4H]`,
    gate blocks in the order i, f, g, o, and `projection_kernel [H, P]`, which is R. With P = H and
    R = I it is `LSTM`.

    The step multiplies twice, by U and by R. It keeps the fast backward: the gradient of U, four
    times as large as R, is one product for many steps, and that of R is summed step by step.
    Source: Sak, Senior, Beaufays 2014, "Long short-term memory based recurrent neural network
    architectures for large vocabulary speech recognition", arXiv:1402.1128, equations 7-13 with one
    projection, a tanh at the output and no peepholes, as PyTorch's `proj_size`.

    Args:
        features: H, the number of cells.
        proj_size: P, the width of h and of the outputs.
        projection_kernel_init: initialiser of R `[H, P]`.
        forget_bias: as in `LSTM`.

    Raises:
        ValueError: `proj_size` is not a positive integer, or as in `Gated`.
    """

    gate_names = ("i", "f", "g", "o")
    init_only = *INITIALISERS, "projection_kernel_init", "forget_bias"

    proj_size: int
    _: dataclasses.KW_ONLY
    projection_kernel_init: Initializer = initializers.Orthogonal()
    forget_bias: float | int | Array | Chrono = 1.0

    def __post_init__(self):
        check_size("proj_size", self.proj_size)
        Gated.__post_init__(self)

    def init(self, key: Array, input_size: int) -> LSTMPParams:
        """Draw the parameters for inputs `[*batch, input_size]`."""
        params = self.init_blocks(key, input_size, self.proj_size)
        bias = with_forget_bias(params.bias, self.forget_bias, key)
        shape = self.features, self.proj_size
        project = self.projection_kernel_init(jax.random.fold_in(key, 1), shape, self.param_dtype)
        return LSTMPParams(*params._replace(bias=bias), projection_kernel=project)

    def initial_carry(self, batch_shape: Sequence[int]) -> LSTMPCarry:
        """Return c = 0 and h = 0."""
        widths = self.features, self.proj_size
        return LSTMPCarry(*(zeros(batch_shape, width, self.param_dtype) for width in widths))

    def gates(
        self, params: LSTMPParams, carry: LSTMPCarry, u: tuple[Array, ...], v: tuple[Array, ...]
    ) -> LSTMPCarry:
        """Return the next (c, h)."""
        i, f, g, o = (a + b for a, b in zip(u, v, strict=True))
        i, f, o = name(sigmoid(i), "i"), name(sigmoid(f), "f"), name(sigmoid(o), "o")
        c = f * carry.c + i * jnp.tanh(g)
        return LSTMPCarry(c, matmul(o * jnp.tanh(c), params.projection_kernel, self.dtype))
