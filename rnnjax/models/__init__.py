"""Flax Linen models by shape, batch-major, around any layer: one-to-one to encoder-decoder."""

from rnnjax.models.captioner import Captioner
from rnnjax.models.encoder_decoder import DecoderState, EncoderDecoder, OneToMany, shift_right
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
