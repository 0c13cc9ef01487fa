"""A causal convolutional network: it sees a past of fixed length at once."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jaxtyping import Array

from rnnjax.layers.calls import first_given, without_noise
from rnnjax.layers.marks import mark
from rnnjax.layers.padding import at_last_step, last_rows, valid_steps, zero_padding


class CausalTaps(nn.Module):
    """A causal convolution of inputs preceded by their past: y_t = sum_k x_{t-(K-1-k)d} W_k + b.

    The parameters are those of `flax.linen.Conv`: `kernel [K, C, features]`, `bias [features]`. It
    is one matmul of the shifted inputs side by side, because XLA's gradient of a dilated
    convolution takes more than ten times as long on a CPU.
    """

    features: int
    kernel_size: int
    dilation: int
    dtype: Any = None

    @nn.compact
    def __call__(self, xs: Array) -> Array:
        """Return `[*batch, T, features]` of `xs [*batch, (K - 1) dilation + T, C]`."""
        shape = self.kernel_size, xs.shape[-1], self.features
        kernel = self.param("kernel", nn.initializers.he_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        xs, kernel, bias = promote_dtype(xs, kernel, bias, dtype=self.dtype)
        total = xs.shape[-2] - (self.kernel_size - 1) * self.dilation
        shifts = [k * self.dilation for k in range(self.kernel_size)]
        taps = jnp.concatenate([xs[..., start : start + total, :] for start in shifts], axis=-1)
        return taps @ kernel.reshape(-1, self.features) + bias


class TCN(nn.Module):
    """Residual blocks of two causal convolutions, batch-major, with dilations 1, 2, 4, ...

        block(x) = phi(x + phi(conv(phi(conv(x))))),  y_t depends on x_{t-R+1} .. x_t alone,
        R = 1 + 2 (kernel_size - 1) (2^num_blocks - 1)

    It is called like `RNN`. Its carry holds the last inputs of each convolution, so it can stream.
    The paper's weight normalisation is left out.
    Source: Bai, Kolter, Koltun 2018, "An empirical evaluation of generic convolutional and
    recurrent networks for sequence modeling", arXiv:1803.01271, section 3.

    Args:
        features: H, the channels of each block.
        kernel_size: taps of a convolution.
        num_blocks: number of blocks; each doubles the dilation of the block before.
        dropout_rate: after each convolution; whole channels are dropped, as in the paper.
        activation_fn: phi.
        time_major, return_carry: as in `RNN`.
        dtype: what the convolutions compute in.
    """

    features: int
    kernel_size: int = 3
    num_blocks: int = 4
    dropout_rate: float = 0.0
    activation_fn: Callable[[Array], Array] = nn.relu
    time_major: bool = False
    return_carry: bool = False
    dtype: Any = None

    @property
    def receptive_field(self) -> int:
        """R, the number of steps that an output depends on, including its own."""
        return 1 + 2 * (self.kernel_size - 1) * (2**self.num_blocks - 1)

    @nn.compact
    def __call__(
        self,
        inputs: Any,
        *,
        initial_carry: Any = None,
        seq_lengths: Any = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        deterministic: bool | None = None,
    ) -> Any:
        """Return outputs `[*batch, T, H]` of `inputs [*batch, T, D]`; arguments as for `RNN`."""
        time_major = first_given(time_major, self.time_major)
        xs = jnp.moveaxis(inputs, 0, -2) if time_major else jnp.asarray(inputs)
        valid = valid_steps(seq_lengths, xs.shape[:-1])
        xs = zero_padding(xs, valid)
        quiet = without_noise(self, deterministic)
        before = [None] * 2 * self.num_blocks if initial_carry is None else [*initial_carry]
        carries = []

        def convolved(ys, number):
            dilation = 2 ** (number // 2)
            reach = dilation * (self.kernel_size - 1)
            past = before[number]
            if past is None:
                past = jnp.zeros((*ys.shape[:-2], reach, ys.shape[-1]), ys.dtype)
            ys = jnp.concatenate([past.astype(ys.dtype), ys], axis=-2)
            carries.append(last_rows(ys, reach, seq_lengths))
            name = f"conv_{number}"
            taps = CausalTaps(self.features, self.kernel_size, dilation, self.dtype, name=name)
            ys = taps(ys)
            ys = self.activation_fn(ys)
            return nn.Dropout(self.dropout_rate, broadcast_dims=(-2,))(ys, deterministic=quiet)

        for block in range(self.num_blocks):
            ys = convolved(convolved(xs, 2 * block), 2 * block + 1)
            if xs.shape[-1] != self.features:
                xs = nn.Dense(self.features, dtype=self.dtype, name=f"skip_{block}")(xs)
            xs = mark(self, f"block_{block}", self.activation_fn(xs + ys))
        ys = zero_padding(xs, valid)
        ys = jnp.moveaxis(ys, -2, 0) if time_major else ys
        return (tuple(carries), ys) if first_given(return_carry, self.return_carry) else ys

    @nn.nowrap
    def final_output(self, carry: Any, outputs: Array, seq_lengths: Any = None) -> Array:
        """Return `outputs [*batch, T, H]` at each sequence's last valid step; zero if none."""
        del carry
        return at_last_step(outputs, seq_lengths)
