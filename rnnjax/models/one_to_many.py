"""One-to-many: a decoder that reads its own outputs."""

import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from rnnjax.layers.calls import Recurrent, asked
from rnnjax.layers.crf import check_answers_alone
from rnnjax.layers.padding import valid_steps, zero_padding
from rnnjax.recurrence.options import known


class DecoderState(NamedTuple):
    """A decoder's state between two steps; every leaf has the leading axis B."""

    carry: Any  # of the recurrent layer
    memory: Any = None  # [B, S, K], for attention
    memory_lengths: Any = None  # [B]
    memory_mask: Any = None  # [B, S]


class OneToMany(nn.Module):
    """From one vector to a sequence, batch-major: a network that reads its previous output.

        s_0 = tanh(W context + b),   s_{t+1} = step(s_t, embed(y_{t-1})),   y_t ~ head(h_t)

    for every part of the carry; with `attention`, the head reads
    tanh(W [attention(h_t, memory), h_t]) instead of h_t.
    Sources: Vinyals et al. 2015, "Show and tell", arXiv:1411.4555; Luong, Pham, Manning 2015,
    arXiv:1508.04025, equation 5.

    Args:
        layer: `RNN`, or a `Stack` of them.
        head: a head; its samples are fed back.
        embed: turns the previous output into a vector: `Embed` for tokens; None for real values. An
            encoder may use the same `Embed`: then both share one table.
        attention: None, `AdditiveAttention`, `DotProductAttention`, or a module called like them.
    """

    layer: nn.Module
    head: nn.Module
    embed: nn.Module | None = None
    attention: nn.Module | None = None

    @nn.compact
    def start(
        self,
        context: Array,
        memory: Any = None,
        memory_lengths: Any = None,
        memory_mask: Any = None,
    ) -> DecoderState:
        """Return the state before the first step.

        Args:
            context: `[B, C]`.
            memory: `[B, S, K]`, for `attention`.
            memory_lengths: valid steps of the memory, `[B]`.
            memory_mask: booleans `[B, S]`, false at steps that are not attended to.

        Raises:
            ValueError: memory without attention, or attention without memory.
            TypeError: `layer` is not recurrent, or `head` answers whole sequences.
        """
        if (memory is None) != (self.attention is None):
            raise ValueError("memory is given if and only if the decoder has attention")
        if memory is None and memory_lengths is not None:
            raise ValueError("memory_lengths were given without memory")
        if memory is None and memory_mask is not None:
            raise ValueError("memory_mask was given without memory")
        check_answers_alone(self.head)
        context, layer = jnp.asarray(context), self.layer
        if not isinstance(layer, Recurrent):
            raise TypeError(f"layer must be RNN or a Stack of them, got {type(layer).__name__}")
        leaves, structure = jax.tree.flatten(layer.start_carry(context.shape[:-1]))
        for i, leaf in enumerate(leaves):
            if jnp.issubdtype(leaf.dtype, jnp.inexact):
                parts = 2 if jnp.iscomplexobj(leaf) else 1  # real and imaginary
                width = parts * math.prod(leaf.shape[context.ndim - 1 :])
                start = jnp.tanh(nn.Dense(width, name=f"start_{i}")(context))
                start = start.reshape(*leaf.shape[: context.ndim - 1], parts, width // parts)
                start = start[..., 0, :] if parts == 1 else lax.complex(*jnp.moveaxis(start, -2, 0))
                leaves[i] = start.reshape(leaf.shape).astype(leaf.dtype)
        if memory is not None:
            full = jnp.full(memory.shape[:-2], memory.shape[-2], jnp.int32)
            memory_lengths = full if memory_lengths is None else jnp.asarray(memory_lengths)
        return DecoderState(structure.unflatten(leaves), memory, memory_lengths, memory_mask)

    def __call__(
        self,
        context: Array,
        previous: Any,
        *,
        memory: Any = None,
        memory_lengths: Any = None,
        memory_mask: Any = None,
        seq_lengths: Any = None,
        sampling_rate: Any = None,
        deterministic: bool | None = None,
    ) -> Array:
        """Return the head's outputs `[B, T, O]`, given the previous output at every step.

        This is teacher forcing: `previous` holds the targets, one step late (`shift_right`). With a
        `sampling_rate`, each of them except the first is replaced with that probability by a sample
        of the model's own output at the step before, from the random streams "sampling" and
        "choice"; no gradient passes through the samples. The model then runs step by step: every
        dropout mask, variational ones included, is drawn again at each step, and `sow` and
        `perturb` do not see the states.
        Source of scheduled sampling: Bengio et al. 2015, arXiv:1506.03099.

        Args:
            context: `[B, C]`.
            previous: tokens `[B, T]`, or values `[B, T, O]` without `embed`.
            memory, memory_lengths, memory_mask: as in `start`.
            seq_lengths: valid steps of the outputs, `[B]`.
            sampling_rate: None, or a number in 0..1, traced or not.

        Raises:
            ValueError: `sampling_rate` is not in 0..1; others as in `start`.
        """
        rate = known(sampling_rate)
        if sampling_rate is not None and rate is not None and not 0 <= rate <= 1:
            raise ValueError(f"sampling_rate must lie in 0..1, got {sampling_rate}")
        state = self.start(context, memory, memory_lengths, memory_mask)
        if sampling_rate is not None and not self.is_initializing():
            said = jnp.asarray(previous)
            valid = valid_steps(seq_lengths, said.shape[:2])
            if valid is not None:  # the padding may hold anything
                said = jnp.where(valid.reshape(*valid.shape, *(1,) * (said.ndim - 2)), said, 0)
            outputs = self._scheduled(state, said, sampling_rate, deterministic)
            return zero_padding(outputs, valid)
        layer: Any = self.layer
        embed: Any = self.embed
        xs = previous if embed is None else embed(previous, seq_lengths=seq_lengths)
        options = {"seq_lengths": seq_lengths, "deterministic": deterministic}
        hs = layer(xs, initial_carry=state.carry, **options)
        return self._answer(state, hs, seq_lengths)

    def step(
        self, state: DecoderState, previous: Any, *, deterministic: bool | None = True
    ) -> tuple[DecoderState, Array]:
        """Return the next state and the outputs `[B, O]`, given the previous output `[B(, O)]`.

        For `rnnjax.decoding`: `lambda s, y: model.apply(variables, s, y, method="step")`.
        """
        layer: Any = self.layer
        embed: Any = self.embed
        xs = jnp.asarray(previous)[:, None]
        xs = xs if embed is None else embed(xs)
        options = {"initial_carry": state.carry, "return_carry": True}
        carry, hs = layer(xs, deterministic=deterministic, **options)
        return state._replace(carry=carry), self._answer(state, hs)[:, 0]

    @nn.compact
    def _answer(self, state, hs, seq_lengths=None):
        attention: Any = self.attention
        if attention is not None:
            memory, lengths = state.memory, state.memory_lengths
            masked = asked(attention, mask=state.memory_mask)
            contexts, _ = attention(hs, memory, seq_lengths=lengths, **masked)
            both = jnp.concatenate([contexts.astype(hs.dtype), hs], axis=-1)
            hs = jnp.tanh(nn.Dense(hs.shape[-1], name="attended")(both))
        head: Any = self.head
        return head(hs, seq_lengths=seq_lengths)

    def _scheduled(self, state, previous, rate, deterministic):
        head: Any = self.head

        def body(decoder, loop, given, first):
            state, said = loop
            own = jax.random.bernoulli(decoder.make_rng("sampling"), rate, given.shape[:1]) & ~first
            own = own.reshape(own.shape + (1,) * (given.ndim - 1))
            token = jnp.where(own, said, given)
            state, outputs = decoder.step(state, token, deterministic=deterministic)
            said = head.sample(lax.stop_gradient(outputs), key=decoder.make_rng("choice"))
            return (state, said.astype(given.dtype)), outputs

        scan: Any = nn.scan(
            body,
            variable_broadcast=("params", "constants"),
            split_rngs={"params": False, "sampling": True, "choice": True, "dropout": True},
            in_axes=(1, 0),  # pyright: ignore[reportArgumentType]
            out_axes=1,
        )
        first = jnp.arange(previous.shape[1]) == 0
        nothing = jnp.zeros((previous.shape[0], *previous.shape[2:]), previous.dtype)
        return scan(self, (state, nothing), previous, first)[1]
