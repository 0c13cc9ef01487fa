"""Recurrent layers: a cell over time, two directions, several layers.

Every layer here and beside it is called alike:

    outputs = layer(inputs, seq_lengths=None, deterministic=None)         [*batch, T, D] -> [.., H]
    carry, outputs = layer(inputs, initial_carry=carry, return_carry=True)

Steps past a sequence's end leave the carry unchanged and emit zeros. Random masks (dropout,
zoneout) are drawn if `apply` gets `rngs={"dropout": key}`, unless `deterministic` says otherwise.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array

from rnnjax.cells.base import Cell, Initializer, Stochastic
from rnnjax.layers.marks import marked, watched
from rnnjax.layers.padding import at_last_step
from rnnjax.layers.parameters import Parameters, from_dict
from rnnjax.shapes import checked_lengths
from rnnjax.unroll import unroll

PyTree = Any


def first_given(*values: Any) -> Any:
    """Return the first of the values that is not None."""
    return next((value for value in values if value is not None), None)


def concatenate(forward: Array, backward: Array) -> Array:
    """Return both directions' outputs side by side, `[..., 2H]`."""
    return jnp.concatenate([forward, backward], axis=-1)


class RNN(nn.Module):
    """A cell unrolled over time by `rnnjax.unroll`: `[*batch, T, D]` to `[*batch, T, H]`.

        s_0 = initial carry,   s_{t+1} = step(s_t, x_t),   y_t = output(s_{t+1})

    The parameters stand under "cell", a dictionary of the cell's own; as the pytree that
    `rnnjax.unroll` and `rnnjax.diagnostics` take they are `layer.cell_params(variables["params"])`.
    Arguments are named as in `flax.linen.RNN`, and those of a call override those of the layer.

    Args:
        cell: any `rnnjax.Cell`.
        time_major: sequences are `[T, *batch, D]`.
        return_carry: return `(carry, outputs)`. Given back as `initial_carry` it continues the
            sequence: steps in any number of calls equal one call.
        reverse: read each sequence from its last valid step to its first.
        keep_order: with `reverse`, return outputs in input order and not as they were computed.
        initial_carry_init: None for the cell's own initial carry, or an initialiser with which the
            initial carry is drawn as a parameter, "initial_carry", which all sequences share.
        checkpoint_every, truncate_every: as in `rnnjax.unroll`.
    """

    cell: Cell
    time_major: bool = False
    return_carry: bool = False
    reverse: bool = False
    keep_order: bool = False
    initial_carry_init: Initializer | None = None
    checkpoint_every: int | Literal["sqrt"] | None = None
    truncate_every: int | None = None

    @nn.compact
    def __call__(
        self,
        inputs: Any,
        *,
        initial_carry: PyTree = None,
        seq_lengths: Any = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
        deterministic: bool | None = None,
    ) -> Any:
        """Run the cell over `inputs`.

        Args:
            inputs: `[*batch, T, D]`, or `[T, *batch, D]` with `time_major`.
            initial_carry: a pytree like the cell's carry, leaves `[*batch, ...]`.
            seq_lengths: valid steps of each sequence, integers in 0..T, `[*batch]`.
            deterministic: whether a `Stochastic` cell goes without noise; None means unless there
                is a random stream "dropout".

        Returns:
            Outputs, or with `return_carry` the carry after each sequence's last step, and outputs.

        Raises:
            ValueError, TypeError: an array does not fit, as in `rnnjax.unroll`.
        """
        time_major = first_given(time_major, self.time_major)
        reverse = first_given(reverse, self.reverse)
        if jnp.ndim(inputs) < 2:
            raise ValueError(
                f"inputs must have an axis for time and one for features, got shape "
                f"{jnp.shape(inputs)}"
            )
        xs = jnp.asarray(inputs) if time_major else jnp.moveaxis(inputs, -2, 0)
        seq_lengths = checked_lengths(seq_lengths, xs.shape[0], xs.shape[1:-1], "seq_lengths")
        draw = functools.partial(self.cell.init, input_size=xs.shape[-1])
        params = Parameters(draw, name="cell")()
        if initial_carry is None:
            initial_carry = self._learned_carry(xs.shape[1:-1])
        if isinstance(self.cell, Stochastic) and not without_noise(self, deterministic):
            xs = self.cell.with_noise(self.make_rng("dropout"), xs)
        options = {"reverse": reverse, "lengths": seq_lengths}
        options |= {"checkpoint_every": self.checkpoint_every}
        options |= {"truncate_every": self.truncate_every}
        if watched(self, "carry"):
            final, ys = marked(self, params, xs, initial_carry, options, bool(time_major))
        else:
            final, ys = unroll(self.cell, params, xs, initial_carry, **options)
        if reverse and not first_given(keep_order, self.keep_order):
            ys = flip(ys, seq_lengths)
        ys = ys if time_major else jnp.moveaxis(ys, 0, -2)
        return (final, ys) if first_given(return_carry, self.return_carry) else ys

    @nn.nowrap
    def start_carry(self, batch_shape: tuple[int, ...]) -> PyTree:
        """Return the cell's own initial carry."""
        return self.cell.initial_carry(batch_shape)

    @nn.nowrap
    def final_output(self, carry: PyTree, outputs: Array, seq_lengths: Any = None) -> Array:
        """Return the output that the final carry gives, `[*batch, H]`."""
        del outputs, seq_lengths
        return self.cell.output(carry)

    @nn.nowrap
    def cell_params(self, params: Any) -> PyTree:
        """Return the cell's own pytree of its parameters, for `rnnjax.unroll` and diagnostics.

        Args:
            params: this layer's, a dictionary with an entry "cell".

        Raises:
            ValueError: they are not those of this cell.
        """
        shapes = jax.eval_shape(lambda: self.cell.init(jax.random.key(0), 1))
        return from_dict(shapes, params["cell"])

    def _learned_carry(self, batch):
        if (init := self.initial_carry_init) is None:
            return None
        leaves, structure = jax.tree.flatten(self.cell.initial_carry(()))
        learned = [leaf if jnp.issubdtype(leaf.dtype, jnp.inexact) else None for leaf in leaves]

        def draw(key):  # None stands where the carry keeps an integer
            keys = jax.random.split(key, len(leaves))
            pairs = zip(keys, learned, strict=True)
            return structure.unflatten(
                [s if s is None else init(k, s.shape, s.dtype) for k, s in pairs]
            )

        drawn = iter(jax.tree.leaves(Parameters(draw, name="initial_carry")()))
        pairs = zip(leaves, learned, strict=True)
        start = [own if learned is None else next(drawn) for own, learned in pairs]
        return structure.unflatten([jnp.broadcast_to(s, (*batch, *s.shape)) for s in start])


class BidirectionalCarry(NamedTuple):
    """The final carries of both directions: after the last step, and after the first."""

    forward: Any
    backward: Any


class Bidirectional(nn.Module):
    """Two layers over the same sequence, one from each end, with merged outputs.

        y_t = merge(forward_t, backward_t)

    Source: Schuster, Paliwal 1997, "Bidirectional recurrent neural networks".

    Args:
        forward_rnn, backward_rnn: two layers, an `RNN` each.
        merge_fn: of both outputs, in input order: `concatenate` (side by side), `jnp.add`, or any
            function of two arrays `[*batch, T, H]`.
        return_carry: return `(BidirectionalCarry, outputs)`.

    Raises:
        ValueError: both directions are one and the same layer, whose weights they would share.
    """

    forward_rnn: nn.Module
    backward_rnn: nn.Module
    merge_fn: Callable[[Array, Array], Array] = concatenate
    return_carry: bool = False

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
        """Return the merged outputs of both directions where each has read all, `[*batch, H]`."""
        ends: Any = self.forward_rnn, self.backward_rnn
        pairs = zip(ends, carry, strict=True)
        return self.merge_fn(*(rnn.final_output(c, outputs, seq_lengths) for rnn, c in pairs))


class Stack(nn.Module):
    """Layers on top of each other: a deep network.

        x^0 = inputs,   x^{l+1} = layer_l(dropout(x^l))      [+ x^l with `residual`]

    Dropout acts between layers, not before the first (Zaremba, Sutskever, Vinyals 2014,
    arXiv:1409.2329).

    Args:
        layers: any modules that are called like `RNN`.
        residual: add its input to each layer's output, wherever the two have the same width.
        dropout_rate: the probability to drop an entry between two layers.
        dropout_broadcast_dims: axes along which one mask is used, as in `flax.linen.Dropout`:
            `(-2,)`, time, is the variational dropout of Gal and Ghahramani 2016.
        return_carry: return `(carries, outputs)`, a tuple with each layer's carry.

    Raises:
        ValueError: there is no layer, the number of carries is another, or `residual` finds no
            layer that keeps the width.
    """

    layers: Sequence[nn.Module]
    residual: bool = False
    dropout_rate: float = 0.0
    dropout_broadcast_dims: Sequence[int] = ()
    return_carry: bool = False

    def __post_init__(self):
        for name in ("layers", "dropout_broadcast_dims"):  # hashable, if lists were given
            object.__setattr__(self, name, tuple(getattr(self, name)))
        super().__post_init__()

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
        layers: Any = self.layers
        for layer in layers:
            if not hasattr(layer, "start_carry"):
                raise TypeError(f"layers must be RNN, all of them, got {type(layer).__name__}")
        return tuple(layer.start_carry(batch_shape) for layer in layers)

    @nn.nowrap
    def final_output(self, carry: PyTree, outputs: Array, seq_lengths: Any = None) -> Array:
        """Return the last layer's, `[*batch, H]`; with `residual`, outputs at the last valid step.

        Raises:
            ValueError: `residual` around a layer of two directions, which end at different steps.
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


def without_noise(module: nn.Module, deterministic: bool | None) -> bool:
    """Return whether to draw no masks: what `deterministic` says, or if there is no stream."""
    return not module.has_rng("dropout") if deterministic is None else deterministic


def flip(ys: Array, lengths: Any) -> Array:
    """Return `ys [T, *batch, H]` with each sequence's valid part reversed; padding stays behind."""
    if lengths is None:
        return ys[::-1]
    total = ys.shape[0]
    time = jnp.arange(total).reshape(total, *(1 for _ in jnp.shape(lengths)))
    source = jnp.where(time < lengths, lengths - 1 - time, time)
    return jnp.take_along_axis(ys, source[..., None], axis=0)
