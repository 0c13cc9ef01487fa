"""Many-to-one and many-to-many, batch-major: a layer, and a head at its end or at every step."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from rnnjax.layers.attention import last_state
from rnnjax.layers.calls import asked
from rnnjax.layers.checks import check_layers
from rnnjax.layers.composed import final_output, reads_backwards
from rnnjax.layers.crf import CRFHead, check_answers_alone
from rnnjax.layers.padding import valid_steps
from rnnjax.layers.steps import emitted
from rnnjax.recurrence.options import check_masked_output, known


class ManyToOne(nn.Module):
    """Read a sequence, then answer once, batch-major: y = head(pooling(h_1 .. h_T)).

    Args:
        layer: `RNN`, `Bidirectional`, `Stack`, `TCN`, `Transformer`, or a module called like them.
        head: a head, such as `rnnjax.layers.SoftmaxHead(2)`.
        embed: None, or a module that turns inputs (tokens, say) into vectors.
        pooling: `last_state` (of both directions, each after its last step), `mean_state`,
            `AttentionPooling(features)`, or any function of `(outputs, final, seq_lengths)`, where
            `final()` returns the last state, and of `mask` if the model is given one.
    """

    layer: nn.Module
    head: nn.Module
    embed: nn.Module | None = None
    pooling: Callable[..., Array] = last_state

    @nn.compact
    def __call__(
        self,
        inputs: Any,
        *,
        seq_lengths: Any = None,
        mask: Any = None,
        resets: Any = None,
        clip_adjoints: Any = None,
        deterministic: bool | None = None,
    ) -> Array:
        """Return the head's outputs `[*batch, O]`.

        Args:
            inputs: `[*batch, T, D]`, or tokens `[*batch, T]` with `embed`.
            seq_lengths: valid steps of each sequence, `[*batch]`, zeros included.
            mask: booleans `[*batch, T]`; steps where it is false do not count. Layer, embedding
                and pooling must take it.
            resets, clip_adjoints: as for `RNN`.
        """
        layer, head, embed = _parts(self)
        check_answers_alone(head)
        xs = embedded(embed, inputs, seq_lengths, mask)
        options = {"seq_lengths": seq_lengths, "deterministic": deterministic}
        more = asked(layer, mask=mask, resets=resets, clip_adjoints=clip_adjoints)
        carry, ys = layer(xs, return_carry=True, **options, **more)

        def final():
            return final_output(layer, carry, ys, seq_lengths, mask)

        masked = {} if mask is None else {"mask": mask}
        return head(self.pooling(ys, final, seq_lengths, **masked))


class ManyToMany(nn.Module):
    """Answer at every step, batch-major: y_t = head(h_t), as language models and CTC networks do.

    Args:
        layer: `RNN`, `Bidirectional`, `Stack`, `TCN`, `Transformer`, or a module called like them.
        head: a head, such as `rnnjax.layers.SoftmaxHead(vocabulary_size)`; or, for tags that
            depend on each other, `CRFHead(tags)`, whose outputs are a `CRFOutputs`.
        embed: None, or a module that turns inputs (tokens, say) into vectors.
    """

    layer: nn.Module
    head: nn.Module
    embed: nn.Module | None = None

    @nn.compact
    def __call__(
        self,
        inputs: Any,
        *,
        initial_carry: Any = None,
        seq_lengths: Any = None,
        mask: Any = None,
        masked_output: Any = None,
        resets: Any = None,
        reset_carry: Any = None,
        clip_adjoints: Any = None,
        return_carry: bool = False,
        return_carries: bool = False,
        deterministic: bool | None = None,
    ) -> Any:
        """Return the head's outputs `[*batch, T, O]`; with `return_carry`, `(carry, outputs)`.

        Args:
            inputs: `[*batch, T, D]`, or tokens `[*batch, T]` with `embed`. With T = 0 the carry
                is the initial carry.
            mask: booleans `[*batch, T]`; steps where it is false are left out.
            masked_output: the model's outputs at such steps: numbers that broadcast to
                `[*batch, T, O]`, or "last", the head's of the layer's last state.
            return_carries: return `(carry, outputs, carries)`, as `RNN`.
            seq_lengths, resets, reset_carry, clip_adjoints: as for `RNN`.

        Raises:
            TypeError: a mask is given, and the head is a `CRFHead`, or the layer takes none.
        """
        layer, head, embed = _parts(self)
        check_masked_output(masked_output, mask)
        if mask is not None and isinstance(head, CRFHead):
            raise TypeError("a CRFHead takes no mask, only seq_lengths: every step has a class")
        hold = masked_output if isinstance(masked_output, str) else None
        xs = embedded(embed, inputs, seq_lengths, mask)
        options = {"seq_lengths": seq_lengths, "deterministic": deterministic}
        more = asked(layer, mask=mask, masked_output=hold, resets=resets, reset_carry=reset_carry)
        more |= asked(layer, clip_adjoints=clip_adjoints, return_carries=return_carries or None)
        given = {"initial_carry": initial_carry, "return_carry": True} | options | more
        carry, ys, *carries = layer(xs, **given)
        outputs = head(ys, seq_lengths=seq_lengths)
        if mask is not None and hold is None:
            outputs = emitted(outputs, seq_lengths, mask, masked_output)
        if return_carries:
            return carry, outputs, *carries
        return (carry, outputs) if return_carry else outputs

    def step(self, carry: Any, inputs: Any) -> tuple[Any, Array]:
        """Return the next carry and the outputs `[B, O]` of one step's inputs, `[B]` or `[B, D]`.

        For `rnnjax.decoding`: `lambda c, x: model.apply(variables, c, x, method="step")`.

        Raises:
            ValueError: the layer reads from the end of a sequence.
            TypeError: the head is a `CRFHead`, which answers whole sequences.
        """
        check_answers_alone(self.head)
        if reads_backwards(self.layer):
            raise ValueError("a layer that reads from the end cannot run step by step")
        given = jax.tree.map(lambda x: jnp.asarray(x)[:, None], inputs)
        carry, outputs = self(given, initial_carry=carry, return_carry=True, deterministic=True)
        return carry, outputs[:, 0]


RULED_OUT = 1e30  # the negative logit of a class whose logit is -inf


def ctc_loss(
    logits: Array,
    labels: Array,
    *,
    seq_lengths: Any = None,
    label_lengths: Any = None,
    blank: int = 0,
    zero_infinity: bool = False,
) -> Array:
    """Return -ln p(labels | inputs), summed over all alignments, for each sequence `[B]`.

    The network emits a label or a blank at every step; repetitions are merged, then blanks dropped.
    This is `optax.ctc_loss` with lengths instead of padding masks. A labelling that is too long for
    its sequence has no alignment: its probability is 0, its loss infinite and its gradient zero.
    Source: Graves et al. 2006, "Connectionist temporal classification".

    Args:
        logits: `[B, T, K]`, from a `ManyToMany` with a `SoftmaxHead`; class `blank` is the blank.
        labels: integers `[B, U]`, none of them `blank`.
        seq_lengths: steps of each sequence, `[B]`.
        label_lengths: labels of each sequence, `[B]`.
        zero_infinity: give 0 in place of infinite losses, so that such sequences do not count.

    Raises:
        ValueError, TypeError: lengths do not fit, or labels or the blank (where they are known) are
            not classes.
    """
    classes = logits.shape[-1]
    if not 0 <= blank < classes:
        raise ValueError(f"blank must lie in 0..K-1 = 0..{classes - 1}, got {blank}")
    given, labels = known(labels), jnp.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels must be integers, got {labels.dtype}")
    there = valid_steps(label_lengths, labels.shape, "label_lengths")
    counted = True if there is None else known(there)
    if given is not None and counted is not None:
        given = given[counted]
        if ((given < 0) | (given >= classes) | (given == blank)).any():
            raise ValueError(f"labels must lie in 0..{classes - 1} and not be the blank, {blank}")
    padding = [
        jnp.zeros(shape) if valid is None else (~valid).astype(jnp.float32)
        for shape, valid in (
            (logits.shape[:2], valid_steps(seq_lengths, logits.shape[:2])),
            (labels.shape, there),
        )
    ]
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    logits = jnp.where(padding[0][..., None] > 0, 0, logits)
    logits = jnp.maximum(logits, -RULED_OUT)
    labels = jnp.where(padding[1] > 0, 0, labels)
    loss = optax.ctc_loss(logits, padding[0], labels, padding[1], blank_id=blank)
    twice = (labels[:, 1:] == labels[:, :-1]) & (padding[1][:, 1:] == 0)  # a blank between them
    needed = (padding[1] == 0).sum(1) + twice.sum(1)
    impossible = (needed > (padding[0] == 0).sum(1)) | (loss >= RULED_OUT / 2)
    # Where the alignment is almost certain, the sum of probabilities is rounded to more than one.
    return jnp.where(impossible, 0 if zero_infinity else jnp.inf, jnp.maximum(loss, 0))


def embedded(embed: Any, inputs: Any, seq_lengths: Any, mask: Any) -> Any:
    """Return inputs as vectors, by `embed` if there is one."""
    if embed is None:
        return inputs
    return embed(inputs, seq_lengths=seq_lengths, **asked(embed, mask=mask))


def _parts(module: Any) -> tuple[Any, Any, Any]:
    check_layers(layer=module.layer, head=module.head)
    return module.layer, module.head, module.embed
