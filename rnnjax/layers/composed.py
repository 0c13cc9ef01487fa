"""Layers made of layers: two directions, and several on top of each other."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from rnnjax.cells.base import Cell
from rnnjax.layers.calls import Composed, Recurrent, asked, first_given, without_noise
from rnnjax.layers.checks import check_layers
from rnnjax.layers.padding import at_last_step
from rnnjax.layers.recurrent import RNN
from rnnjax.layers.steps import emitted
from rnnjax.recurrence.options import check_masked_output

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
        """Run both directions over `inputs [*batch, T, D]`; arguments as for `RNN`.

        `resets` mark the first step of each sequence, where the direction from the end stops.
        `initial_carry`, `reset_carry` and all carries are pairs, one for each direction.
        """
        if self.forward_rnn is self.backward_rnn:
            raise ValueError("forward_rnn and backward_rnn must be two layers, got one twice")
        check_masked_output(masked_output, mask)
        hold = masked_output if isinstance(masked_output, str) else None
        options: dict[str, Any] = {"seq_lengths": seq_lengths, "deterministic": deterministic}
        options |= {"time_major": time_major, "return_carry": True}
        more = {"mask": mask, "masked_output": hold, "resets": resets}
        more |= {"clip_adjoints": clip_adjoints, "return_carries": return_carries or None}
        starts = (None, None) if initial_carry is None else initial_carry
        after_reset = (None, None) if reset_carry is None else reset_carry
        forward: Any = self.forward_rnn
        backward: Any = self.backward_rnn
        options["initial_carry"] = starts[0]
        ahead = asked(forward, reset_carry=after_reset[0], **more)
        last, ahead, *carries = forward(inputs, **options, **ahead)
        options |= {"initial_carry": starts[1], "reverse": True, "keep_order": True}
        behind = asked(backward, reset_carry=after_reset[1], **more)
        first, behind, *others = backward(inputs, **options, **behind)
        ys = self.merge_fn(ahead, behind)
        if mask is not None and hold is None:
            time_first = bool(first_given(time_major, time_major_of(self)))
            ys = emitted(ys, seq_lengths, mask, masked_output, time_first)
        carry = BidirectionalCarry(last, first)
        if return_carries:
            return carry, ys, BidirectionalCarry(carries[0], others[0])
        return (carry, ys) if first_given(return_carry, self.return_carry) else ys

    @nn.nowrap
    def inner_layers(self) -> tuple[nn.Module, ...]:
        """Return the layers of both directions."""
        return self.forward_rnn, self.backward_rnn

    @nn.nowrap
    def final_output(
        self, carry: BidirectionalCarry, outputs: Array, seq_lengths: Any = None, mask: Any = None
    ) -> Array:
        """Return both directions' outputs after their last step, merged, `[*batch, H]`."""
        ends: Any = self.forward_rnn, self.backward_rnn
        pairs = zip(ends, carry, strict=True)
        return self.merge_fn(
            *(final_output(rnn, c, outputs, seq_lengths, mask) for rnn, c in pairs)
        )


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
        """Run the layers over `inputs [*batch, T, D]`; arguments as for `RNN`.

        `initial_carry`, `reset_carry` and all carries are tuples, with an entry for each layer.
        """
        if not self.layers:
            raise ValueError("layers must hold at least one layer, got none")
        check_masked_output(masked_output, mask)
        hold = isinstance(masked_output, str)
        if hold and self.residual:
            raise ValueError('masked_output must be numbers with residual, got "last"')
        starts = self._for_each("initial_carry", initial_carry)
        after_reset = self._for_each("reset_carry", reset_carry)
        options: dict[str, Any] = {"seq_lengths": seq_lengths, "deterministic": deterministic}
        options |= {} if time_major is None else {"time_major": time_major}
        more = {"mask": mask, "resets": resets, "clip_adjoints": clip_adjoints}
        more |= {"return_carries": return_carries or None}
        dropout = nn.Dropout(self.dropout_rate, self.dropout_broadcast_dims)
        xs = jnp.asarray(inputs) if isinstance(inputs, list) else inputs
        carries, along, added = [], [], False
        for i, layer in enumerate(self.layers):
            if i and self.dropout_rate:
                xs = dropout(xs, deterministic=without_noise(self, deterministic))
            run: Any = layer
            top = masked_output if hold and layer is self.layers[-1] else None
            given = asked(layer, masked_output=top, reset_carry=after_reset[i], **more)
            options["initial_carry"] = starts[i]
            carry, ys, *rest = run(xs, return_carry=True, **options, **given)
            carries.append(carry)
            along += rest
            if self.residual and ys.shape == jnp.shape(xs):
                ys, added = xs + ys, True
            xs = ys
        if self.residual and not added:
            raise ValueError("residual needs a layer with as many outputs as inputs; none has")
        if not hold and (self.residual or mask is not None):
            time_first = bool(first_given(time_major, time_major_of(self)))
            xs = emitted(xs, seq_lengths, mask, masked_output, time_first)
        if return_carries:
            return tuple(carries), xs, tuple(along)
        return (tuple(carries), xs) if first_given(return_carry, self.return_carry) else xs

    def _for_each(self, name, carry):
        """Return the layers' entries of a carry, None for each without one."""
        entries = [None] * len(self.layers) if carry is None else [*carry]
        if len(entries) != len(self.layers):
            raise ValueError(
                f"{name} must have an entry for each of {len(self.layers)} layers, got "
                f"{len(entries)}"
            )
        return entries

    @nn.nowrap
    def inner_layers(self) -> tuple[nn.Module, ...]:
        """Return the layers, from the inputs up."""
        return tuple(self.layers)

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
    def final_output(
        self, carry: PyTree, outputs: Array, seq_lengths: Any = None, mask: Any = None
    ) -> Array:
        """Return the top layer's final output, `[*batch, H]`.

        With `residual` it is the output at the last step that counts.

        Raises:
            ValueError: with `residual`, the top layer is bidirectional: its directions end at
                different steps.
        """
        top: Any = self.layers[-1]
        if not self.residual:
            return final_output(top, carry[-1], outputs, seq_lengths, mask)
        if isinstance(top, Bidirectional):
            raise ValueError(
                "a bidirectional layer with residual has no last state; pool by mean or attention"
            )
        return at_last_step(outputs, seq_lengths, mask)


def reads_backwards(layer: Any) -> bool:
    """Return whether a layer, or one within it, starts at the end of a sequence."""
    if isinstance(layer, Bidirectional):
        return True
    if isinstance(layer, Composed):
        return any(map(reads_backwards, layer.inner_layers()))
    return isinstance(layer, RNN) and layer.reverse


def final_output(layer: Any, carry: PyTree, outputs: Array, seq_lengths: Any, mask: Any) -> Array:
    """Return `layer.final_output(...)`, of a layer that need not know of masks."""
    rest = () if mask is None else (mask,)
    return layer.final_output(carry, outputs, seq_lengths, *rest)


def time_major_of(layer: Any) -> bool:
    """Return whether a layer, called without `time_major`, takes sequences with time first."""
    if isinstance(layer, Composed):
        return time_major_of(layer.inner_layers()[0])
    return bool(getattr(layer, "time_major", False))
