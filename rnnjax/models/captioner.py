"""One-to-many from an image: a perceptron's output sets the first state of a decoder."""

from typing import Any

import flax.linen as nn

from rnnjax.models.one_to_many import OneToMany
from rnnjax.models.perceptron import OneToOne


class Captioner(nn.Module):
    """A decoder whose context is the output of a perceptron.

        context = perceptron(x),   logits = decoder(context, previous tokens)

    Batch-major. Source: Vinyals et al. 2015, "Show and tell", arXiv:1411.4555.

    Attributes:
        perceptron: `[B, D]` to the context, `[B, C]`.
        decoder: computes its first state from the context.
    """

    perceptron: OneToOne
    decoder: OneToMany

    def __call__(self, inputs: Any, previous: Any, *, seq_lengths: Any = None) -> Any:
        """Return logits `[B, T, V]` of inputs `[B, D]`, given the previous tokens, `[B, T]`."""
        return self.decoder(self.perceptron(inputs), previous, seq_lengths=seq_lengths)

    def context(self, inputs: Any) -> Any:
        """Return the context, `[B, C]`."""
        return self.perceptron(inputs)

    def decode(self, context: Any, previous: Any, *, seq_lengths: Any = None) -> Any:
        """Return the decoder's logits `[B, T, V]`, given a context."""
        return self.decoder(context, previous, seq_lengths=seq_lengths)

    def start(self, inputs: Any) -> Any:
        """Return the decoder's state before the first token."""
        return self.decoder.start(self.perceptron(inputs))

    def step(self, state: Any, previous: Any) -> Any:
        """Return the next state and logits `[B, V]`, given the previous token, `[B]`."""
        return self.decoder.step(state, previous)
