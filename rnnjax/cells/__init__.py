"""Cells: one file each, pure JAX. Your own cell needs no entry here."""

from rnnjax.cells import initializers
from rnnjax.cells.antisymmetric_rnn import AntisymmetricRNN, AntisymmetricRNNCarry
from rnnjax.cells.base import Cell, Noisy, Stochastic
from rnnjax.cells.co_rnn import CoRNN, CoRNNCarry
from rnnjax.cells.conv_lstm import ConvLSTM, ConvLSTMCarry, ConvLSTMParams
from rnnjax.cells.elman import Elman, ElmanCarry, identity
from rnnjax.cells.gated import Gated, GatedParams, GatedStep
from rnnjax.cells.gru import GRU, GRUCarry, GRUParams
from rnnjax.cells.ind_rnn import IndRNN, IndRNNCarry
from rnnjax.cells.janet import JANET, JANETCarry
from rnnjax.cells.layer_norm import LayerNorm, LayerNormParams
from rnnjax.cells.lem import LEM, LEMCarry, LEMParams
from rnnjax.cells.linear import Linear
from rnnjax.cells.lstm import LSTM, LSTMCarry
from rnnjax.cells.lstmp import LSTMP, LSTMPCarry, LSTMPParams
from rnnjax.cells.mgu import MGU, MGUCarry, MGUParams
from rnnjax.cells.min_gru import MinGRU, MinGRUCarry, MinGRUParams
from rnnjax.cells.orthogonal_rnn import (
    OrthogonalRNN,
    OrthogonalRNNCarry,
    OrthogonalRNNParams,
)
from rnnjax.cells.ur_lstm import URLSTM, URLSTMCarry
from rnnjax.cells.variational_dropout import VariationalDropout
from rnnjax.cells.wrapper import Wrapper
from rnnjax.cells.zoneout import Zoneout

__all__ = [
    "GRU",
    "JANET",
    "LEM",
    "LSTM",
    "LSTMP",
    "MGU",
    "URLSTM",
    "AntisymmetricRNN",
    "AntisymmetricRNNCarry",
    "Cell",
    "CoRNN",
    "CoRNNCarry",
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
    "IndRNN",
    "IndRNNCarry",
    "JANETCarry",
    "LEMCarry",
    "LEMParams",
    "LSTMCarry",
    "LSTMPCarry",
    "LSTMPParams",
    "LayerNorm",
    "LayerNormParams",
    "Linear",
    "MGUCarry",
    "MGUParams",
    "MinGRU",
    "MinGRUCarry",
    "MinGRUParams",
    "Noisy",
    "OrthogonalRNN",
    "OrthogonalRNNCarry",
    "OrthogonalRNNParams",
    "Stochastic",
    "URLSTMCarry",
    "VariationalDropout",
    "Wrapper",
    "Zoneout",
    "identity",
    "initializers",
]
