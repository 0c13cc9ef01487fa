"""The convolutional LSTM: an LSTM at every place of a grid, which hears its neighbours."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name as name
from jax.nn import sigmoid
from jaxtyping import Array, Inexact

from rnnjax.cells import initializers
from rnnjax.cells.base import Cell, check_size, in_types_of
from rnnjax.cells.gated import INITIALISERS
from rnnjax.cells.initializers import Chrono, Initializer
from rnnjax.cells.lstm import with_forget_bias


class ConvLSTMParams(NamedTuple):
    """Parameters of a convolutional LSTM, gate blocks in the order i, f, g, o."""

    input_kernel: Any  # [*kernel_size, D, 4H]
    recurrent_kernel: Any  # [*kernel_size, H, 4H]
    bias: Any  # [4H]


class ConvLSTMCarry(NamedTuple):
    """The state of a convolutional LSTM: at each place the cell state c and the hidden state h."""

    c: Any  # [*batch, *spatial_shape, H]
    h: Any  # [*batch, *spatial_shape, H]


@dataclasses.dataclass(frozen=True)
class ConvLSTM(Cell):
    """c' = s(f) c + s(i) tanh(g);  h' = s(o) tanh(c');  (i, f, g, o) = W * x + U * h + b.

    The star is a convolution over the spatial axes, and everything else acts at each place.
    Sequences of images `[T, *batch, height, width, D]` give outputs of the same shape with H
    channels; there may be any number of spatial axes. Both convolutions pad with zeros ("SAME"), so
    that shapes stay. The gradient spreads through h and stays in c: at lag k it reaches places
    k (K - 1) / 2 away for a kernel of K, while the carousel keeps it where it is. Parameters:
    `input_kernel [*kernel_size, D, 4H]`, `recurrent_kernel [*kernel_size, H, 4H]`, `bias [4H]`,
    gate blocks in the order i, f, g, o.

    Its step is a plain one: a convolution is no product that the fast backward knows.
    Source: Shi et al. 2015, "Convolutional LSTM network: a machine learning approach for
    precipitation nowcasting", arXiv:1506.04214, equation 3 without the peepholes, as in Keras and
    Flax.

    Args:
        features: H, the number of channels of the state.
        spatial_shape: the lengths of the spatial axes, `(height, width)` for images.
        kernel_size: of both kernels, along every spatial axis, or one number for each.
        kernel_init: initialiser of one gate's block of W as a matrix `[rows, H]`, whose rows are
            the D channels under all taps of the kernel, or a tuple of 4, one for each gate.
        recurrent_kernel_init: the same of U, whose rows are H channels under all taps.
        bias_init: initialiser of one `[H]` block of b, or a tuple of 4.
        forget_bias: as in `LSTM`.
        dtype: the type in which the convolutions are computed (accumulating in `param_dtype`);
            None means the promoted type of inputs and parameters. The elementwise part and the
            carry stay in `param_dtype`.
        param_dtype: type of the parameters and of the carry.

    Raises:
        ValueError: a size is not a positive integer, or `kernel_size` or a tuple of initialisers
            has not as many entries as there are spatial axes or gates.
    """

    init_only = *INITIALISERS, "forget_bias"

    features: int
    spatial_shape: Sequence[int]
    _: dataclasses.KW_ONLY
    kernel_size: int | Sequence[int] = 3
    kernel_init: Initializer | tuple[Initializer, ...] = initializers.Gaussian()
    recurrent_kernel_init: Initializer | tuple[Initializer, ...] = initializers.Orthogonal()
    bias_init: Initializer | tuple[Initializer, ...] = jax.nn.initializers.zeros
    forget_bias: float | int | Array | Chrono = 1.0
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        check_size("features", self.features)
        space, taps = self.spatial_shape, self.kernel_size
        if not isinstance(space, Sequence) or not space:
            raise ValueError(
                f"spatial_shape must be a tuple, (height, width) for images; got {space!r}"
            )
        taps = tuple(taps) if isinstance(taps, Sequence) else (taps,) * len(space)
        if len(taps) != len(space):
            raise ValueError(
                f"kernel_size must be one number or {len(space)}, one for each spatial axis; got "
                f"{self.kernel_size!r}"
            )
        for field, sizes in (("spatial_shape", tuple(space)), ("kernel_size", taps)):
            for size in sizes:
                check_size(f"each entry of {field}", size)
            object.__setattr__(self, field, sizes)  # lists are allowed; tuples are hashable
        for field in INITIALISERS:
            init = getattr(self, field)
            if isinstance(init, tuple) and len(init) != 4:
                raise ValueError(
                    f"{field} must be one initialiser or 4, one for each of the gates i, f, g, o; "
                    f"got a tuple of {len(init)}"
                )

    def init(self, key: Array, input_size: int) -> ConvLSTMParams:
        """Draw the parameters for inputs of `input_size` channels."""
        check_size("input_size", input_size)
        input_key, recurrent_key, bias_key = jax.random.split(key, 3)
        bias = initializers.blocks(self.bias_init, bias_key, (self.features,), 4, self.param_dtype)
        return ConvLSTMParams(
            self._kernel(self.kernel_init, input_key, input_size),
            self._kernel(self.recurrent_kernel_init, recurrent_key, self.features),
            with_forget_bias(bias, self.forget_bias, key),
        )

    def _kernel(self, init: Any, key: Array, channels: int) -> Array:
        taps: Any = self.kernel_size
        shape = math.prod(taps) * channels, self.features
        matrix = initializers.blocks(init, key, shape, 4, self.param_dtype)
        return matrix.reshape(*taps, channels, 4 * self.features)

    def input_shape(self, input_size: int) -> tuple[int, ...]:
        """Return `(*spatial_shape, input_size)`."""
        return *self.spatial_shape, input_size

    def initial_carry(self, batch_shape: Sequence[int]) -> ConvLSTMCarry:
        """Return c = h = 0."""
        state = jnp.zeros((*batch_shape, *self.input_shape(self.features)), self.param_dtype)
        return ConvLSTMCarry(state, state)

    def project(self, ready: ConvLSTMParams, x: Array) -> Array:
        """Return `W * x + b`, `[*batch, *spatial_shape, 4H]`.

        Raises:
            ValueError: x is not `[*batch, *spatial_shape, D]`.
        """
        want = self.input_shape(ready.input_kernel.shape[-2])
        if jnp.shape(x)[-len(want) :] != want:
            axes = ", ".join(map(str, want))
            raise ValueError(f"inputs must have shape [..., {axes}], got {jnp.shape(x)}")
        return self._convolved(x, ready.input_kernel) + ready.bias

    def step(self, ready: ConvLSTMParams, carry: ConvLSTMCarry, u: Array) -> ConvLSTMCarry:
        """Return the next (c, h)."""
        packed = u + self._convolved(carry.h, ready.recurrent_kernel)
        i, f, g, o = jnp.split(packed, 4, axis=-1)
        i, f, o = name(sigmoid(i), "i"), name(sigmoid(f), "f"), name(sigmoid(o), "o")
        c = f * carry.c + i * jnp.tanh(g)
        return in_types_of(carry, ConvLSTMCarry(c, o * jnp.tanh(c)))

    def output(self, carry: ConvLSTMCarry) -> Inexact[Array, "*batch H"]:
        """Return the hidden state h, `[*batch, *spatial_shape, H]`."""
        return carry.h

    def _convolved(self, x: Array, kernel: Array) -> Array:
        """Return the convolution of `x [*batch, *spatial_shape, C]` with a kernel.

        As in `rnnjax.cells.kernels.matmul`, products in `dtype` accumulate in the kernel's type.
        """
        axes = len(self.spatial_shape)
        batch, image = x.shape[: -axes - 1], x.shape[-axes - 1 :]
        compute = jnp.result_type(x, kernel) if self.dtype is None else self.dtype
        places = tuple(range(1, axes + 1))
        layout = (0, axes + 1, *places), (axes + 1, axes, *range(axes)), (0, axes + 1, *places)
        y = lax.conv_general_dilated(
            x.reshape(-1, *image).astype(compute),
            kernel.astype(compute),
            (1,) * axes,
            "SAME",
            dimension_numbers=lax.ConvDimensionNumbers(*layout),
            preferred_element_type=compute if self.dtype is None else kernel.dtype,
        )
        return y.reshape(*batch, *image[:-1], kernel.shape[-1])
