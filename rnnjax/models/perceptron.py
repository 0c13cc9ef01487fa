"""One-to-one: no time at all."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from rnnjax.layers.crf import check_answers_alone
from rnnjax.layers.marks import mark
from rnnjax.layers.padding import valid_steps, zero_padding


class OneToOne(nn.Module):
    """A perceptron with hidden layers, a network without recurrence, batch-major:

        h^0 = x,   h^{l+1} = phi(W_l h^l + b_l),   y = head(h^L)

    If phi is the identity, all layers collapse to one linear map.
    Source: Rumelhart, Hinton, Williams 1986, "Learning representations by back-propagating
    errors".

    Args:
        head: a head, such as `rnnjax.layers.SoftmaxHead(10)`.
        hidden: the widths of the hidden layers.
        activation_fn: phi: `jnp.tanh`, `jax.nn.relu`, `jax.nn.sigmoid`, `rnnjax.cells.identity` or
            any function of an array.
        embed: None, or a module that turns inputs (tokens, say) into vectors.
        dtype: what the hidden layers compute in.
    """

    head: nn.Module
    hidden: Sequence[int] = (64,)
    activation_fn: Callable[[Array], Array] = jnp.tanh
    embed: nn.Module | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, inputs: Any, *, seq_lengths: Any = None) -> Array:
        """Return the head's outputs `[*batch, O]` of `inputs [*batch, D]`.

        With a time axis, `[*batch, T, D]`, each step is computed independently, and `seq_lengths`
        says which steps are valid.
        """
        check_answers_alone(self.head)
        embed: Any = self.embed
        xs = inputs if embed is None else embed(inputs, seq_lengths=seq_lengths)
        valid = None if seq_lengths is None else valid_steps(seq_lengths, xs.shape[:-1])
        xs = zero_padding(xs, valid)
        for i, width in enumerate(self.hidden):
            xs = self.activation_fn(nn.Dense(width, dtype=self.dtype, name=f"hidden_{i}")(xs))
            xs = mark(self, f"hidden_{i}_outputs", xs)
        head: Any = self.head
        return head(xs, seq_lengths=seq_lengths)
