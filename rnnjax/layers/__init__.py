"""Flax Linen layers, batch-major: a cell over time, and the layers around it.

Arguments have the names of `flax.linen.RNN` and of `rnnjax.unroll`: `initial_carry`, `seq_lengths`,
`return_carry` (the last carry), `return_carries` (all), `mask`, `resets`, `time_major`, `reverse`,
`keep_order`, `unroll`. A deep or bidirectional network is one line, `deep(LSTM(64), num_layers=3,
bidirectional=True)`, and so is one of residual blocks, `residual(RGLRU(64), num_layers=3)`.
Importing this package imports Flax.
"""

from rnnjax.layers.attention import (
    AdditiveAttention,
    AttentionPooling,
    DotProductAttention,
    last_state,
    mean_state,
)
from rnnjax.layers.calls import Recurrent
from rnnjax.layers.composed import Bidirectional, BidirectionalCarry, Stack, concatenate
from rnnjax.layers.convolution import TCN
from rnnjax.layers.crf import CRFHead, bio_forbidden
from rnnjax.layers.deep import bidirectional, deep
from rnnjax.layers.embedding import Embed, pretrained
from rnnjax.layers.heads import GaussianHead, Head, LinearHead, LogisticHead, SoftmaxHead
from rnnjax.layers.linear_chain import CRFOutputs
from rnnjax.layers.padding import masked_mean
from rnnjax.layers.recurrent import RNN
from rnnjax.layers.residual import ResidualBlock, ResidualStack, residual
from rnnjax.layers.transformer import Transformer, TransformerCarry

__all__ = [
    "RNN",
    "TCN",
    "AdditiveAttention",
    "AttentionPooling",
    "Bidirectional",
    "BidirectionalCarry",
    "CRFHead",
    "CRFOutputs",
    "DotProductAttention",
    "Embed",
    "GaussianHead",
    "Head",
    "LinearHead",
    "LogisticHead",
    "Recurrent",
    "ResidualBlock",
    "ResidualStack",
    "SoftmaxHead",
    "Stack",
    "Transformer",
    "TransformerCarry",
    "bidirectional",
    "bio_forbidden",
    "concatenate",
    "deep",
    "last_state",
    "masked_mean",
    "mean_state",
    "pretrained",
    "residual",
]
