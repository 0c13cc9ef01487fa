"""Many-to-many without alignment: one sequence is read, then another is written."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from rnnjax.layers.calls import asked
from rnnjax.layers.composed import final_output
from rnnjax.models.one_to_many import DecoderState, OneToMany
from rnnjax.models.sequence import embedded


class EncoderDecoder(nn.Module):
    """Read one sequence, then write another, batch-major: many-to-many without alignment.

        context, memory = encoder(inputs);   outputs = decoder(context, previous, memory)

    The context is the encoder's final output; with attention the decoder also attends to all of
    the encoder's outputs.
    Sources: Sutskever, Vinyals, Le 2014, arXiv:1409.3215; Cho et al. 2014, arXiv:1406.1078.

    Args:
        encoder: `RNN`, `Bidirectional`, `Stack`, `TCN`, `Transformer`, or a module called like
            them.
        decoder: a `OneToMany`.
        embed: None, or a module that turns inputs (tokens, say) into vectors.
    """

    encoder: nn.Module
    decoder: OneToMany
    embed: nn.Module | None = None

    @property
    def head(self) -> nn.Module:
        """The decoder's head, whose loss is that of the outputs."""
        return self.decoder.head

    def start(
        self,
        inputs: Any,
        *,
        seq_lengths: Any = None,
        mask: Any = None,
        resets: Any = None,
        clip_adjoints: Any = None,
        deterministic: bool | None = None,
    ) -> DecoderState:
        """Return the decoder's state after reading `inputs [B, S, D]`, or tokens `[B, S]`."""
        more = {"resets": resets, "clip_adjoints": clip_adjoints}
        return self.decoder.start(*self._read(inputs, seq_lengths, mask, deterministic, more))

    def __call__(
        self,
        inputs: Any,
        previous: Any,
        *,
        seq_lengths: Any = None,
        mask: Any = None,
        resets: Any = None,
        clip_adjoints: Any = None,
        target_lengths: Any = None,
        sampling_rate: Any = None,
        deterministic: bool | None = None,
    ) -> Array:
        """Return the outputs `[B, T, O]`, given the previous output at every step.

        Args:
            inputs: `[B, S, D]`, or tokens `[B, S]` with `embed`.
            previous, sampling_rate: as in `OneToMany`.
            seq_lengths: valid steps of the inputs, `[B]`.
            mask: booleans `[B, S]`; inputs where it is false are neither read nor attended to.
            resets, clip_adjoints: as for `RNN`, of the encoder.
            target_lengths: valid steps of the outputs, `[B]`.
        """
        more = {"resets": resets, "clip_adjoints": clip_adjoints}
        context, *memory = self._read(inputs, seq_lengths, mask, deterministic, more)
        return self.decoder(
            context,
            previous,
            memory=memory[0],
            memory_lengths=memory[1],
            memory_mask=memory[2],
            seq_lengths=target_lengths,
            sampling_rate=sampling_rate,
            deterministic=deterministic,
        )

    def step(self, state: DecoderState, previous: Any) -> tuple[DecoderState, Array]:
        """Return the next state and the outputs `[B, O]`, as `OneToMany.step`."""
        return self.decoder.step(state, previous)

    def _read(self, inputs, seq_lengths, mask, deterministic, more):
        """Return the context, and for attention the memory, its lengths and its mask."""
        encoder: Any = self.encoder
        xs = embedded(self.embed, inputs, seq_lengths, mask)
        options = {"seq_lengths": seq_lengths, "deterministic": deterministic}
        carry, ys = encoder(xs, return_carry=True, **options, **asked(encoder, mask=mask, **more))
        context = final_output(encoder, carry, ys, seq_lengths, mask)
        memory = (ys, seq_lengths, mask) if self.decoder.attention else (None, None, None)
        return context, *memory


def shift_right(targets: Any, start: Any) -> Array:
    """Return `targets [B, T, ...]` one step late, with `start` in front: the previous outputs.

    Args:
        start: a token, a value, or one per sequence, `[B, ...]`.

    Raises:
        TypeError: the targets are integers and `start` is not.
    """
    targets, start = jnp.asarray(targets), jnp.asarray(start)
    if jnp.issubdtype(targets.dtype, jnp.integer) > jnp.issubdtype(start.dtype, jnp.integer):
        raise TypeError(f"start must be an integer, a token, got {start.dtype}")
    shape = targets.shape[0], *targets.shape[2:]
    first = jnp.broadcast_to(start.astype(targets.dtype), shape)[:, None]
    return jnp.concatenate([first, targets], axis=1)[:, : targets.shape[1]]
