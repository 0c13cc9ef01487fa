"""A cell over time, as a Flax layer."""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array

from rnnjax.cells.base import Cell, Stochastic, input_sizes
from rnnjax.cells.initializers import Initializer
from rnnjax.layers.calls import first_given, without_noise
from rnnjax.layers.marks import marked, watched
from rnnjax.layers.padding import flip
from rnnjax.layers.parameters import Parameters, from_dict
from rnnjax.layers.steps import flags_first, last_steps, time_first
from rnnjax.recurrence.inputs import batch_shape
from rnnjax.recurrence.options import checked_lengths, numbers, output_shape
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
        keep_order: with `reverse`, return outputs in input order instead of processing order. A
            reversed layer with `mask` or `resets` must.
        initial_carry_init: None for the cell's own initial carry; or an initialiser, which makes
            the initial carry a parameter, "initial_carry", shared by all sequences. (Integer
            leaves keep the cell's own value.)
        unroll, checkpoint_every, truncate_every, clip_adjoints: as in `rnnjax.unroll`.
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
    clip_adjoints: Any = None

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
        reverse: bool | None = None,
        keep_order: bool | None = None,
        deterministic: bool | None = None,
    ) -> Any:
        """Run the cell over `inputs`.

        Args:
            inputs: `[*batch, T, D]`, or `[T, *batch, D]` with `time_major`; of a cell that reads
                images `[*batch, T, height, width, D]`, as the outputs are. If the cell takes a tree
                of inputs, a tree of such arrays: its `init` then receives a tree of their sizes D.
            initial_carry: a pytree like the cell's carry, leaves `[*batch, ...]`.
            seq_lengths: valid steps of each sequence, integers in 0..T, `[*batch]`.
            mask: booleans `[*batch, T]` (time first with `time_major`); where false, the step is
                left out: it leaves the carry unchanged and emits `masked_output`.
            masked_output: numbers that broadcast to the outputs, or "last", the output of the
                carry that masked steps leave unchanged; None means zeros.
            resets: booleans `[*batch, T]` (time first with `time_major`), true at the first step
                of each of several sequences packed into one, such as the episodes of an agent:
                there, and with `reverse` at the sequence's last step, the carry is set to
                `reset_carry` before the step.
            reset_carry: a pytree like the cell's carry; None means the layer's own initial carry.
            deterministic: whether a `Stochastic` cell runs without noise; None means that it does
                unless there is a random stream "dropout".
            return_carries: return `(carry, outputs, carries)`: also the carries after each step,
                leaves `[*batch, T, ...]` in the order of the outputs.
            return_carry, time_major, reverse, keep_order, clip_adjoints: override those of the
                layer.

        Returns:
            Outputs, or with `return_carry` the carry after each sequence's last step, and outputs.

        Raises:
            ValueError, TypeError: an array does not fit, as in `rnnjax.unroll`.
        """
        time_major = bool(first_given(time_major, self.time_major))
        reverse = first_given(reverse, self.reverse)
        flipped = reverse and not first_given(keep_order, self.keep_order)
        if flipped and not (mask is None and resets is None):
            raise ValueError(
                f"keep_order must be true with reverse and {'resets' if mask is None else 'mask'}, "
                "which speak of steps in input order"
            )
        xs = time_first(inputs, time_major, len(self.cell.input_shape(1)))
        batch, total = batch_shape(self.cell, xs), jax.tree.leaves(xs)[0].shape[0]
        seq_lengths = checked_lengths(seq_lengths, total, batch, "seq_lengths")
        params = Parameters(lambda key: self.cell.init(key, input_sizes(xs)), name="cell")()
        if initial_carry is None or (resets is not None and reset_carry is None):
            own = self._learned_carry(batch)
            initial_carry = own if initial_carry is None else initial_carry
            reset_carry = own if resets is not None and reset_carry is None else reset_carry
        if isinstance(self.cell, Stochastic) and not without_noise(self, deterministic):
            xs = self.cell.with_noise(self.make_rng("dropout"), xs)
        resets = flags_first(resets, time_major)
        options = {"reverse": reverse, "seq_lengths": seq_lengths, "reset_carry": reset_carry}
        options |= {"mask": flags_first(mask, time_major), "masked_output": masked_output}
        options |= {"resets": last_steps(resets) if reverse else resets}
        options |= {"clip_adjoints": first_given(clip_adjoints, self.clip_adjoints)}
        options |= {"unroll": self.unroll, "checkpoint_every": self.checkpoint_every}
        options |= {"truncate_every": self.truncate_every}
        if not (masked_output is None or isinstance(masked_output, str) or time_major):
            value = numbers(masked_output, output_shape(self.cell, (*batch, total)))
            options["masked_output"] = jnp.moveaxis(value, len(batch), 0)
        if watched(self, "carry"):
            final, ys, *carries = marked(self, params, xs, initial_carry, options, time_major)
        else:
            options["return_carries"] = return_carries
            final, ys, *carries = unroll(self.cell, params, xs, initial_carry, **options)
        along = ys, *carries
        if flipped:
            along = flip(along, seq_lengths)
        if not time_major:
            along = jax.tree.map(lambda a: jnp.moveaxis(a, 0, len(batch)), along)
        if return_carries:
            return final, *along
        return (final, along[0]) if first_given(return_carry, self.return_carry) else along[0]

    @nn.nowrap
    def start_carry(self, batch_shape: tuple[int, ...]) -> PyTree:
        """Return the cell's own initial carry."""
        return self.cell.initial_carry(batch_shape)

    @nn.nowrap
    def final_output(
        self, carry: PyTree, outputs: Array, seq_lengths: Any = None, mask: Any = None
    ) -> Array:
        """Return the output read from the final carry, `[*batch, H]`."""
        del outputs, seq_lengths, mask
        return self.cell.output(carry)

    @nn.nowrap
    def cell_params(self, params: Any, input_size: Any = 1) -> PyTree:
        """Return the cell's parameters as its own pytree, for `rnnjax.unroll` and diagnostics.

        Args:
            params: the layer's parameters, a dictionary with an entry "cell".
            input_size: any tree of sizes, for a cell that takes a tree of inputs.

        Raises:
            ValueError: they belong to another cell.
        """
        shapes = jax.eval_shape(lambda: self.cell.init(jax.random.key(0), input_size))
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
