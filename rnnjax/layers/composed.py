"""Layers made of layers: two directions, and several on top of each other."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from rnnjax.cells.base import Cell
from rnnjax.layers.calls import Recurrent, first_given, without_noise
from rnnjax.layers.checks import check_layers
from rnnjax.layers.padding import at_last_step
from rnnjax.layers.recurrent import RNN

PyTree = Any


def concatenate(forward: Array, backward: Array) -> Array:
    """Return both directions' outputs side by side, `[..., 2H]`."""
    return jnp.concatenate([forward, backward], axis=-1)


class BidirectionalCarry(NamedTuple):
    """The final carries of both directions: after the last step, and after the first."""

    forward: Any
    backward: Any


class Bidirectional(nn.Module):
    """Two layers over the same sequence, one from each end, batch-major, with merged outputs.

        y_t = merge(forward_t, backward_t)

    Source: Schuster, Paliwal 1997, "Bidirectional recurrent neural networks".

    Args:
        forward_rnn, backward_rnn: two layers, an `RNN` each.
        merge_fn: a function of both outputs `[*batch, T, H]` in input order: `concatenate` (side
            by side), `jnp.add`, or your own.
        return_carry: return `(BidirectionalCarry, outputs)`.

    Raises:
        TypeError: a direction is missing, or is no layer.
        ValueError: both directions are the same layer, so that they would share its weights.
    """

    forward_rnn: nn.Module
    backward_rnn: Any = None  # it must be given; None is told so in a sentence
    merge_fn: Callable[[Array, Array], Array] = concatenate
    return_carry: bool = False

    def __post_init__(self):
        if self.backward_rnn is None:
            raise TypeError(
                "Bidirectional needs two layers, Bidirectional(RNN(cell), RNN(cell)); "
                "layers.bidirectional(cell) makes them"
            )
        check_layers(forward_rnn=self.forward_rnn, backward_rnn=self.backward_rnn)
        nn.Module.__post_init__(self)

    @nn.compact
    def __call__(
        self,
        inputs: Any,
        *,
        initial_carry: PyTree = None,
        seq_lengths: Any = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        deterministic: bool | None = None,
    ) -> Any:
        """Run both directions over `inputs [*batch, T, D]`; arguments as for `RNN`."""
        if self.forward_rnn is self.backward_rnn:
            raise ValueError("forward_rnn and backward_rnn must be two layers, got one twice")
        options = {"seq_lengths": seq_lengths, "time_major": time_major}
        options |= {"deterministic": deterministic, "return_carry": True}
        starts = (None, None) if initial_carry is None else initial_carry
        forward: Any = self.forward_rnn
        backward: Any = self.backward_rnn
        last, ahead = forward(inputs, initial_carry=starts[0], **options)
        options |= {"reverse": True, "keep_order": True}
        first, behind = backward(inputs, initial_carry=starts[1], **options)
        ys = self.merge_fn(ahead, behind)
        carry = BidirectionalCarry(last, first)
        return (carry, ys) if first_given(return_carry, self.return_carry) else ys

    @nn.nowrap
    def final_output(
        self, carry: BidirectionalCarry, outputs: Array, seq_lengths: Any = None
    ) -> Array:
        """Return both directions' outputs after their last step, merged, `[*batch, H]`."""
        ends: Any = self.forward_rnn, self.backward_rnn
        pairs = zip(ends, carry, strict=True)
        return self.merge_fn(*(rnn.final_output(c, outputs, seq_lengths) for rnn, c in pairs))


class Stack(nn.Module):
    """Layers on top of each other, batch-major: a deep network. `deep` makes one of one cell.

        x^0 = inputs,   x^{l+1} = layer_l(dropout(x^l))      [+ x^l with `residual`]

    Dropout acts between layers, not before the first (Zaremba, Sutskever, Vinyals 2014,
    arXiv:1409.2329).

    Args:
        layers: any modules that are called like `RNN`.
        residual: add each layer's input to its output, where both have the same width.
        dropout_rate: the probability of dropping an entry between two layers.
        dropout_broadcast_dims: axes that share one mask, as in `flax.linen.Dropout`:
            `(-2,)`, time, is the variational dropout of Gal and Ghahramani 2016.
        return_carry: return `(carries, outputs)`, a tuple with each layer's carry.

    Raises:
        TypeError: `layers` is no list, or holds something that is no layer.
        ValueError: there is no layer, the number of carries is wrong, or `residual` is set and no
            layer keeps the width.
    """

    layers: Sequence[nn.Module]
    residual: bool = False
    dropout_rate: float = 0.0
    dropout_broadcast_dims: Sequence[int] = ()
    return_carry: bool = False

    def __post_init__(self):
        if isinstance(self.layers, nn.Module | Cell):
            raise TypeError(
                f"layers must be a list, Stack([RNN(cell), RNN(cell)]), got one "
                f"{type(self.layers).__name__}; layers.deep(cell, 2) makes them"
            )
        check_layers(**{f"layers[{i}]": layer for i, layer in enumerate(self.layers)})
        for name in ("layers", "dropout_broadcast_dims"):  # lists are allowed; tuples are hashable
            object.__setattr__(self, name, tuple(getattr(self, name)))
        nn.Module.__post_init__(self)

    @nn.compact
    def __call__(
        self,
        inputs: Any,
        *,
        initial_carry: PyTree = None,
        seq_lengths: Any = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        deterministic: bool | None = None,
    ) -> Any:
        """Run the layers over `inputs [*batch, T, D]`; arguments as for `RNN`."""
        if not self.layers:
            raise ValueError("layers must hold at least one layer, got none")
        starts = [None] * len(self.layers) if initial_carry is None else [*initial_carry]
        if len(starts) != len(self.layers):
            raise ValueError(
                f"initial_carry must have an entry for each of {len(self.layers)} layers, got "
                f"{len(starts)}"
            )
        options = {"seq_lengths": seq_lengths, "deterministic": deterministic}
        options |= {} if time_major is None else {"time_major": time_major}
        dropout = nn.Dropout(self.dropout_rate, self.dropout_broadcast_dims)
        xs, carries, added = jnp.asarray(inputs), [], False
        for i, layer in enumerate(self.layers):
            if i and self.dropout_rate:
                xs = dropout(xs, deterministic=without_noise(self, deterministic))
            run: Any = layer
            carry, ys = run(xs, initial_carry=starts[i], return_carry=True, **options)
            carries.append(carry)
            if self.residual and ys.shape == xs.shape:
                ys, added = xs + ys, True
            xs = ys
        if self.residual and not added:
            raise ValueError("residual needs a layer with as many outputs as inputs; none has")
        return (tuple(carries), xs) if first_given(return_carry, self.return_carry) else xs

    @nn.nowrap
    def start_carry(self, batch_shape: tuple[int, ...]) -> PyTree:
        """Return the layers' own initial carries.

        Raises:
            TypeError: a layer is neither `RNN` nor `Stack`: its carry depends on its inputs.
        """
        carries = []
        for layer in self.layers:
            if not isinstance(layer, Recurrent):
                raise TypeError(f"layers must be RNN, all of them, got {type(layer).__name__}")
            carries.append(layer.start_carry(batch_shape))
        return tuple(carries)

    @nn.nowrap
    def final_output(self, carry: PyTree, outputs: Array, seq_lengths: Any = None) -> Array:
        """Return the top layer's final output, `[*batch, H]`.

        With `residual` it is the output at the last valid step.

        Raises:
            ValueError: with `residual`, the top layer is bidirectional: its directions end at
                different steps.
        """
        top: Any = self.layers[-1]
        if not self.residual:
            return top.final_output(carry[-1], outputs, seq_lengths)
        if isinstance(top, Bidirectional):
            raise ValueError(
                "a bidirectional layer with residual has no last state; pool by mean or attention"
            )
        return at_last_step(outputs, seq_lengths)


def reads_backwards(layer: Any) -> bool:
    """Return whether a layer, or one within it, starts at the end of a sequence."""
    if isinstance(layer, Stack):
        return any(map(reads_backwards, layer.layers))
    return isinstance(layer, Bidirectional) or (isinstance(layer, RNN) and layer.reverse)
