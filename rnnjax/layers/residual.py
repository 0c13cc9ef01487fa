"""Residual blocks, which deep networks of modern cells are made of."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from rnnjax.cells.base import Cell, check_size
from rnnjax.layers.calls import Recurrent, asked, first_given, without_noise
from rnnjax.layers.checks import check_layers
from rnnjax.layers.composed import Stack, reads_backwards, time_major_of
from rnnjax.layers.padding import at_last_step
from rnnjax.layers.recurrent import RNN
from rnnjax.layers.steps import emitted
from rnnjax.recurrence.options import check_masked_output

PyTree = Any


class ResidualBlock(nn.Module):
    """A layer over time and a gated perceptron, each after a norm and added to its input.

        x <- x + W_o layer(norm(x))
        x <- x + W_d (phi(W_g norm(x)) * W_u norm(x))

    Batch-major, `[*batch, T, D]` to `[*batch, T, D]`. The norm divides by the root mean square. The
    perceptron mixes the units at each step, which a diagonal recurrence leaves apart, and is what
    makes a stack of linear cells a nonlinear function of its inputs.
    Source: De et al. 2024, "Griffin", arXiv:2402.19427, section 2.1 and figure 2 (without the
    convolution and the gate around the recurrent layer); Shazeer 2020, "GLU variants improve
    Transformer", arXiv:2002.05202; norm first as in Xiong et al. 2020, arXiv:2002.04745.

    Args:
        layer: an `RNN`, or another module that is called like one.
        mlp_dim: the hidden width of the perceptron; None means 8 D / 3, so that its three matrices
            have as many entries as the two of a Transformer's perceptron.
        activation_fn: phi.
        dropout_rate: on both sums.
        return_carry: return `(carry, outputs)`.
        dtype: what the matmuls around the layer compute in.

    Raises:
        TypeError: `layer` is no layer.
        ValueError: `masked_output` is "last": the sum with the input has no last state.
    """

    layer: nn.Module
    mlp_dim: int | None = None
    activation_fn: Callable[[Array], Array] = nn.gelu
    dropout_rate: float = 0.0
    return_carry: bool = False
    dtype: Any = None

    def __post_init__(self):
        check_layers(layer=self.layer)
        nn.Module.__post_init__(self)

    @nn.compact
    def __call__(
        self,
        inputs: Any,
        *,
        initial_carry: PyTree = None,
        seq_lengths: Any = None,
        mask: Any = None,
        masked_output: Any = None,
        resets: Any = None,
        reset_carry: PyTree = None,
        clip_adjoints: Any = None,
        return_carry: bool | None = None,
        return_carries: bool = False,
        time_major: bool | None = None,
        deterministic: bool | None = None,
    ) -> Any:
        """Return outputs of `inputs [*batch, T, D]`; arguments and carries as for the layer."""
        _check_masked_output(masked_output, mask)
        time_first = bool(first_given(time_major, time_major_of(self.layer)))
        xs = emitted(jnp.asarray(inputs), seq_lengths, mask, None, time_first)
        more = asked(self.layer, mask=mask, resets=resets, reset_carry=reset_carry)
        more |= asked(self.layer, clip_adjoints=clip_adjoints, time_major=time_major)
        more |= asked(self.layer, return_carries=return_carries or None)
        more |= {"seq_lengths": seq_lengths, "deterministic": deterministic, "return_carry": True}
        layer: Any = self.layer
        normed = self._norm("layer_norm")(xs)
        carry, ys, *along = layer(normed, initial_carry=initial_carry, **more)
        quiet, width = without_noise(self, deterministic), xs.shape[-1]
        xs = xs + self._dropout(self._dense(width, "output")(ys), quiet)
        normed = self._norm("mlp_norm")(xs)
        hidden = -(-8 * width // 3) if self.mlp_dim is None else self.mlp_dim
        gate = self.activation_fn(self._dense(hidden, "mlp_gate")(normed))
        added = self._dense(width, "mlp_down")(gate * self._dense(hidden, "mlp_up")(normed))
        ys = xs + self._dropout(added, quiet)
        ys = emitted(ys, seq_lengths, mask, masked_output, time_first)
        if return_carries:
            return carry, ys, *along
        return (carry, ys) if first_given(return_carry, self.return_carry) else ys

    @nn.nowrap
    def inner_layers(self) -> tuple[nn.Module, ...]:
        """Return the layer over time."""
        return (self.layer,)

    @nn.nowrap
    def start_carry(self, batch_shape: tuple[int, ...]) -> PyTree:
        """Return the layer's own initial carry.

        Raises:
            TypeError: the layer's carry depends on its inputs.
        """
        if not isinstance(self.layer, Recurrent):
            raise TypeError(f"layer must be RNN or Stack, got {type(self.layer).__name__}")
        return self.layer.start_carry(batch_shape)

    @nn.nowrap
    def final_output(
        self, carry: PyTree, outputs: Array, seq_lengths: Any = None, mask: Any = None
    ) -> Array:
        """Return `outputs [*batch, T, D]` at each sequence's last step that counts.

        Raises:
            ValueError: the layer reads from the end of a sequence.
        """
        del carry
        return _last_output(self, outputs, seq_lengths, mask)

    def _dense(self, features, name):
        return nn.Dense(features, use_bias=False, dtype=self.dtype, name=name)

    def _norm(self, name):
        return nn.RMSNorm(dtype=self.dtype, name=name)

    def _dropout(self, xs, quiet):
        return nn.Dropout(self.dropout_rate)(xs, deterministic=quiet)


class ResidualStack(nn.Module):
    """Residual blocks between a linear embedding and a norm: a deep modern network, batch-major.

        x = W inputs;   x = block_l(x), l = 1 .. L;   y = norm(x)

    `[*batch, T, D]` to `[*batch, T, H]`. With attention in place of the layers it is a
    `Transformer` without positions, so either can stand in the place of the other.
    `residual` makes one of one cell.

    Args:
        layers: one for each block, called like `RNN`.
        features: H, the width of the blocks.
        mlp_dim, activation_fn, dropout_rate, dtype: as in `ResidualBlock`.
        return_carry: return `(carries, outputs)`, a tuple with each layer's carry.

    Raises:
        TypeError: `layers` is no list, or holds something that is no layer.
        ValueError: there is no layer, or the number of carries is wrong.
    """

    layers: Sequence[nn.Module]
    features: int
    mlp_dim: int | None = None
    activation_fn: Callable[[Array], Array] = nn.gelu
    dropout_rate: float = 0.0
    return_carry: bool = False
    dtype: Any = None

    def __post_init__(self):
        if isinstance(self.layers, nn.Module | Cell):
            raise TypeError(
                f"layers must be a list, ResidualStack([RNN(cell), RNN(cell)], features), got one "
                f"{type(self.layers).__name__}; layers.residual(cell, 2) makes them"
            )
        check_layers(**{f"layers[{i}]": layer for i, layer in enumerate(self.layers)})
        object.__setattr__(self, "layers", tuple(self.layers))  # lists cannot be hashed
        nn.Module.__post_init__(self)

    @nn.compact
    def __call__(
        self,
        inputs: Any,
        *,
        seq_lengths: Any = None,
        mask: Any = None,
        masked_output: Any = None,
        return_carry: bool | None = None,
        return_carries: bool = False,
        time_major: bool | None = None,
        **options: Any,
    ) -> Any:
        """Return outputs `[*batch, T, H]` of `inputs [*batch, T, D]`; arguments as for `RNN`.

        `initial_carry`, `reset_carry` and all carries are tuples, with an entry for each layer.
        """
        if not self.layers:
            raise ValueError("layers must hold at least one layer, got none")
        _check_masked_output(masked_output, mask)
        time_first = bool(first_given(time_major, time_major_of(self)))
        xs = emitted(jnp.asarray(inputs), seq_lengths, mask, None, time_first)
        xs = nn.Dense(self.features, dtype=self.dtype, name="embed")(xs)
        blocks = [
            ResidualBlock(
                layer,
                self.mlp_dim,
                self.activation_fn,
                self.dropout_rate,
                dtype=self.dtype,
                name=f"block_{i}",
            )
            for i, layer in enumerate(self.layers)
        ]
        more = {"seq_lengths": seq_lengths, "mask": mask, "time_major": time_major, **options}
        more |= {"return_carry": True, "return_carries": return_carries}
        carry, xs, *along = Stack(blocks, name="blocks")(xs, **more)
        ys = nn.RMSNorm(dtype=self.dtype, name="norm")(xs)
        ys = emitted(ys, seq_lengths, mask, masked_output, time_first)
        if return_carries:
            return carry, ys, *along
        return (carry, ys) if first_given(return_carry, self.return_carry) else ys

    @nn.nowrap
    def inner_layers(self) -> tuple[nn.Module, ...]:
        """Return the layers over time."""
        return tuple(self.layers)

    @nn.nowrap
    def start_carry(self, batch_shape: tuple[int, ...]) -> PyTree:
        """Return the layers' own initial carries.

        Raises:
            TypeError: a layer's carry depends on its inputs.
        """
        return Stack(self.layers).start_carry(batch_shape)

    @nn.nowrap
    def final_output(
        self, carry: PyTree, outputs: Array, seq_lengths: Any = None, mask: Any = None
    ) -> Array:
        """Return `outputs [*batch, T, H]` at each sequence's last step that counts.

        Raises:
            ValueError: a layer reads from the end of a sequence.
        """
        del carry
        return _last_output(self, outputs, seq_lengths, mask)


def residual(
    cell: Cell,
    num_layers: int,
    features: int | None = None,
    *,
    mlp_dim: int | None = None,
    dropout_rate: float = 0.0,
    dtype: Any = None,
    **options: Any,
) -> ResidualStack:
    """Return residual blocks of one cell, batch-major: `[*batch, T, D]` to `[*batch, T, H]`.

        residual(cell, 2) = ResidualStack([RNN(cell), RNN(cell)], features=cell.output_size)

    Args:
        cell: any `rnnjax.Cell`.
        num_layers: L.
        features: the width of the blocks; None means that of the cell's outputs.
        mlp_dim, dropout_rate, dtype: as in `ResidualBlock`.
        options: those of `RNN`, for every layer.

    Raises:
        ValueError: `num_layers` is not a positive integer.
    """
    check_size("num_layers", num_layers)
    layers = [RNN(cell, **options) for _ in range(num_layers)]
    width = cell.output_size if features is None else features
    return ResidualStack(layers, width, mlp_dim, dropout_rate=dropout_rate, dtype=dtype)


def _check_masked_output(masked_output, mask):
    check_masked_output(masked_output, mask)
    if isinstance(masked_output, str):
        raise ValueError(f"masked_output must be numbers with residual, got {masked_output!r}")


def _last_output(layer, outputs, seq_lengths, mask):
    if reads_backwards(layer):
        raise ValueError(
            "a residual block that reads from the end has no last state; pool by mean or attention"
        )
    return at_last_step(outputs, seq_lengths, mask)
