"""A cell over time, as a Flax layer."""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array

from rnnjax.cells.base import Cell, Stochastic
from rnnjax.cells.initializers import Initializer
from rnnjax.layers.calls import first_given, without_noise
from rnnjax.layers.marks import marked, watched
from rnnjax.layers.padding import flip
from rnnjax.layers.parameters import Parameters, from_dict
from rnnjax.recurrence.options import checked_lengths
from rnnjax.recurrence.sequential import unroll

PyTree = Any


class RNN(nn.Module):
    """A cell unrolled over time, batch-major: `[*batch, T, D]` to `[*batch, T, H]`.

        s_0 = initial_carry,   s_{t+1} = step(s_t, x_t),   y_t = output(s_{t+1})

    The cell runs in `rnnjax.unroll`, which is time-major. Its parameters are the dictionary "cell";
    `layer.cell_params(variables["params"])` returns them as the pytree that `rnnjax.unroll` and
    `rnnjax.diagnostics` take. Arguments have the names of `flax.linen.RNN`; arguments of a call
    override those of the layer.

    Args:
        cell: any `rnnjax.Cell`.
        time_major: sequences are `[T, *batch, D]`.
        return_carry: return `(carry, outputs)`, the last carry first. As the `initial_carry` of the
            next call it continues the sequence: any number of calls equals one call.
        reverse: read each sequence from its last valid step to its first.
        keep_order: with `reverse`, return outputs in input order instead of processing order.
        initial_carry_init: None for the cell's own initial carry; or an initialiser, which makes
            the initial carry a parameter, "initial_carry", shared by all sequences. (Integer
            leaves keep the cell's own value.)
        unroll, checkpoint_every, truncate_every: as in `rnnjax.unroll`.
    """

    cell: Cell
    time_major: bool = False
    return_carry: bool = False
    reverse: bool = False
    keep_order: bool = False
    initial_carry_init: Initializer | None = None
    unroll: int = 1
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
            inputs: `[*batch, T, D]`, or `[T, *batch, D]` with `time_major`; of a cell that reads
                images `[*batch, T, height, width, D]`, as the outputs are.
            initial_carry: a pytree like the cell's carry, leaves `[*batch, ...]`.
            seq_lengths: valid steps of each sequence, integers in 0..T, `[*batch]`.
            deterministic: whether a `Stochastic` cell runs without noise; None means that it does
                unless there is a random stream "dropout".
            return_carry, time_major, reverse, keep_order: override those of the layer.

        Returns:
            Outputs, or with `return_carry` the carry after each sequence's last step, and outputs.

        Raises:
            ValueError, TypeError: an array does not fit, as in `rnnjax.unroll`.
        """
        time_major = first_given(time_major, self.time_major)
        reverse = first_given(reverse, self.reverse)
        own = len(self.cell.input_shape(1))  # axes of one example's input at one step
        if jnp.ndim(inputs) <= own:
            raise ValueError(
                f"inputs must have an axis for time and {'one' if own == 1 else own} for features, "
                f"got shape {jnp.shape(inputs)}"
            )
        xs: Any = jnp.asarray(inputs) if time_major else jnp.moveaxis(inputs, -1 - own, 0)
        batch = xs.shape[1:-own]
        seq_lengths = checked_lengths(seq_lengths, xs.shape[0], batch, "seq_lengths")
        params = Parameters(lambda key: self.cell.init(key, xs.shape[-1]), name="cell")()
        if initial_carry is None:
            initial_carry = self._learned_carry(batch)
        if isinstance(self.cell, Stochastic) and not without_noise(self, deterministic):
            xs = self.cell.with_noise(self.make_rng("dropout"), xs)
        options = {"reverse": reverse, "seq_lengths": seq_lengths, "unroll": self.unroll}
        options |= {"checkpoint_every": self.checkpoint_every}
        options |= {"truncate_every": self.truncate_every}
        if watched(self, "carry"):
            final, ys = marked(self, params, xs, initial_carry, options, bool(time_major))
        else:
            final, ys = unroll(self.cell, params, xs, initial_carry, **options)
        if reverse and not first_given(keep_order, self.keep_order):
            ys = flip(ys, seq_lengths)
        ys = ys if time_major else jnp.moveaxis(ys, 0, len(batch))
        return (final, ys) if first_given(return_carry, self.return_carry) else ys

    @nn.nowrap
    def start_carry(self, batch_shape: tuple[int, ...]) -> PyTree:
        """Return the cell's own initial carry."""
        return self.cell.initial_carry(batch_shape)

    @nn.nowrap
    def final_output(self, carry: PyTree, outputs: Array, seq_lengths: Any = None) -> Array:
        """Return the output read from the final carry, `[*batch, H]`."""
        del outputs, seq_lengths
        return self.cell.output(carry)

    @nn.nowrap
    def cell_params(self, params: Any) -> PyTree:
        """Return the cell's parameters as its own pytree, for `rnnjax.unroll` and diagnostics.

        Args:
            params: the layer's parameters, a dictionary with an entry "cell".

        Raises:
            ValueError: they belong to another cell.
        """
        shapes = jax.eval_shape(lambda: self.cell.init(jax.random.key(0), 1))
        return from_dict(shapes, params["cell"])

    def _learned_carry(self, batch):
        if (init := self.initial_carry_init) is None:
            return None
        leaves, structure = jax.tree.flatten(self.cell.initial_carry(()))
        learned = [leaf if jnp.issubdtype(leaf.dtype, jnp.inexact) else None for leaf in leaves]

        def draw(key):  # None in place of an integer leaf
            keys = jax.random.split(key, len(leaves))
            pairs = zip(keys, learned, strict=True)
            return structure.unflatten(
                [s if s is None else init(k, s.shape, s.dtype) for k, s in pairs]
            )

        drawn = iter(jax.tree.leaves(Parameters(draw, name="initial_carry")()))
        pairs = zip(leaves, learned, strict=True)
        start = [own if learned is None else next(drawn) for own, learned in pairs]
        return structure.unflatten([jnp.broadcast_to(s, (*batch, *s.shape)) for s in start])
