"""Cells: one file each, pure JAX. Your own cell needs no entry here."""

from rnnjax.cells import initializers
from rnnjax.cells.base import Cell, Noisy, Stochastic
from rnnjax.cells.conv_lstm import ConvLSTM, ConvLSTMCarry, ConvLSTMParams
from rnnjax.cells.elman import Elman, ElmanCarry, identity
from rnnjax.cells.gated import Gated, GatedParams, GatedStep
from rnnjax.cells.gru import GRU, GRUCarry, GRUParams
from rnnjax.cells.layer_norm import LayerNorm, LayerNormParams
from rnnjax.cells.linear import Linear
from rnnjax.cells.linear_attention import (
    LinearAttention,
    LinearAttentionCarry,
    LinearAttentionParams,
)
from rnnjax.cells.lru import LRU, LRUCarry, LRUParams
from rnnjax.cells.lstm import LSTM, LSTMCarry
from rnnjax.cells.lstmp import LSTMP, LSTMPCarry, LSTMPParams
from rnnjax.cells.min_gru import MinGRU, MinGRUCarry, MinGRUParams
from rnnjax.cells.min_lstm import MinLSTM, MinLSTMCarry, MinLSTMParams
from rnnjax.cells.mlstm import MLSTM, MLSTMCarry, MLSTMParams
from rnnjax.cells.rg_lru import RGLRU, RGLRUCarry, RGLRUParams
from rnnjax.cells.s5 import S5, S5Carry, S5Params
from rnnjax.cells.variational_dropout import VariationalDropout
from rnnjax.cells.wrapper import Wrapper
from rnnjax.cells.zoneout import Zoneout

__all__ = [
    "GRU",
    "LRU",
    "LSTM",
    "LSTMP",
    "MLSTM",
    "RGLRU",
    "S5",
    "Cell",
    "ConvLSTM",
    "ConvLSTMCarry",
    "ConvLSTMParams",
    "Elman",
    "ElmanCarry",
    "GRUCarry",
    "GRUParams",
    "Gated",
    "GatedParams",
    "GatedStep",
    "LRUCarry",
    "LRUParams",
    "LSTMCarry",
    "LSTMPCarry",
    "LSTMPParams",
    "LayerNorm",
    "LayerNormParams",
    "Linear",
    "LinearAttention",
    "LinearAttentionCarry",
    "LinearAttentionParams",
    "MLSTMCarry",
    "MLSTMParams",
    "MinGRU",
    "MinGRUCarry",
    "MinGRUParams",
    "MinLSTM",
    "MinLSTMCarry",
    "MinLSTMParams",
    "Noisy",
    "RGLRUCarry",
    "RGLRUParams",
    "S5Carry",
    "S5Params",
    "Stochastic",
    "VariationalDropout",
    "Wrapper",
    "Zoneout",
    "identity",
    "initializers",
]
