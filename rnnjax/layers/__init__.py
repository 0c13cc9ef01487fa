"""Flax Linen layers: a cell over time, and what stands around it. Importing this imports Flax."""

from rnnjax.layers.attention import (
    AdditiveAttention,
    AttentionPooling,
    DotProductAttention,
    last_state,
    mean_state,
)
from rnnjax.layers.composed import Bidirectional, BidirectionalCarry, Stack, concatenate
from rnnjax.layers.convolution import TCN
from rnnjax.layers.embedding import Embed, pretrained
from rnnjax.layers.heads import GaussianHead, Head, LinearHead, LogisticHead, SoftmaxHead
from rnnjax.layers.padding import masked_mean
from rnnjax.layers.recurrent import RNN
from rnnjax.layers.transformer import Transformer, TransformerCarry

__all__ = [
    "RNN",
    "TCN",
    "AdditiveAttention",
    "AttentionPooling",
    "Bidirectional",
    "BidirectionalCarry",
    "DotProductAttention",
    "Embed",
    "GaussianHead",
    "Head",
    "LinearHead",
    "LogisticHead",
    "SoftmaxHead",
    "Stack",
    "Transformer",
    "TransformerCarry",
    "concatenate",
    "last_state",
    "masked_mean",
    "mean_state",
    "pretrained",
]
