"""Flax Linen models by shape, batch-major, around any layer: one-to-one to encoder-decoder."""

from rnnjax.models.captioner import Captioner
from rnnjax.models.encoder_decoder import EncoderDecoder, shift_right
from rnnjax.models.one_to_many import DecoderState, OneToMany
from rnnjax.models.perceptron import OneToOne
from rnnjax.models.sequence import ManyToMany, ManyToOne, ctc_loss

__all__ = [
    "Captioner",
    "DecoderState",
    "EncoderDecoder",
    "ManyToMany",
    "ManyToOne",
    "OneToMany",
    "OneToOne",
    "ctc_loss",
    "shift_right",
]
