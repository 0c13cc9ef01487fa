"""Cells: one file each, pure JAX. Your own cell needs no entry here."""

from rnnjax.cells import constraints, initializers
from rnnjax.cells.antisymmetric_rnn import AntisymmetricRNN, AntisymmetricRNNCarry
from rnnjax.cells.base import Cell, Noisy, Stochastic
from rnnjax.cells.brc import BRC, NBRC, BRCCarry, BRCParams
from rnnjax.cells.co_rnn import CoRNN, CoRNNCarry
from rnnjax.cells.constrained import Constrained
from rnnjax.cells.conv_lstm import ConvLSTM, ConvLSTMCarry, ConvLSTMParams
from rnnjax.cells.delta_net import DeltaNet, DeltaNetCarry, DeltaNetParams
from rnnjax.cells.elman import Elman, ElmanCarry, identity
from rnnjax.cells.gated import Gated, GatedParams, GatedStep
from rnnjax.cells.gated_delta_net import GatedDeltaNet, GatedDeltaNetParams
from rnnjax.cells.gru import GRU, GRUCarry, GRUParams
from rnnjax.cells.ind_rnn import IndRNN, IndRNNCarry
from rnnjax.cells.janet import JANET, JANETCarry
from rnnjax.cells.layer_norm import LayerNorm, LayerNormParams
from rnnjax.cells.lem import LEM, LEMCarry, LEMParams
from rnnjax.cells.linear import Linear
from rnnjax.cells.linear_attention import (
    LinearAttention,
    LinearAttentionCarry,
    LinearAttentionParams,
)
from rnnjax.cells.low_rank import LowRank, LowRankFactors
from rnnjax.cells.lru import LRU, LRUCarry, LRUParams
from rnnjax.cells.lstm import LSTM, LSTMCarry
from rnnjax.cells.lstm1997 import LSTM1997, LSTM1997Carry, LSTM1997Params
from rnnjax.cells.lstmp import LSTMP, LSTMPCarry, LSTMPParams
from rnnjax.cells.mgu import MGU, MGUCarry, MGUParams
from rnnjax.cells.min_gru import MinGRU, MinGRUCarry, MinGRUParams
from rnnjax.cells.min_lstm import MinLSTM, MinLSTMCarry, MinLSTMParams
from rnnjax.cells.mlstm import MLSTM, MLSTMCarry, MLSTMParams
from rnnjax.cells.orthogonal_rnn import (
    OrthogonalRNN,
    OrthogonalRNNCarry,
    OrthogonalRNNParams,
)
from rnnjax.cells.para_gru import ParaGRU, ParaGRUCarry, ParaGRUParams
from rnnjax.cells.para_lstm import ParaLSTM, ParaLSTMCarry, ParaLSTMParams
from rnnjax.cells.rate import Rate, RateCarry, RateParams, TimedInputs
from rnnjax.cells.rg_lru import RGLRU, RGLRUCarry, RGLRUParams
from rnnjax.cells.s5 import S5, S5Carry, S5Params
from rnnjax.cells.slstm import SLSTM, SLSTMCarry
from rnnjax.cells.ur_lstm import URLSTM, URLSTMCarry
from rnnjax.cells.variational_dropout import VariationalDropout
from rnnjax.cells.wrapper import Wrapper
from rnnjax.cells.zoneout import Zoneout

__all__ = [
    "BRC",
    "GRU",
    "JANET",
    "LEM",
    "LRU",
    "LSTM",
    "LSTM1997",
    "LSTMP",
    "MGU",
    "MLSTM",
    "NBRC",
    "RGLRU",
    "S5",
    "SLSTM",
    "URLSTM",
    "AntisymmetricRNN",
    "AntisymmetricRNNCarry",
    "BRCCarry",
    "BRCParams",
    "Cell",
    "CoRNN",
    "CoRNNCarry",
    "Constrained",
    "ConvLSTM",
    "ConvLSTMCarry",
    "ConvLSTMParams",
    "DeltaNet",
    "DeltaNetCarry",
    "DeltaNetParams",
    "Elman",
    "ElmanCarry",
    "GRUCarry",
    "GRUParams",
    "Gated",
    "GatedDeltaNet",
    "GatedDeltaNetParams",
    "GatedParams",
    "GatedStep",
    "IndRNN",
    "IndRNNCarry",
    "JANETCarry",
    "LEMCarry",
    "LEMParams",
    "LRUCarry",
    "LRUParams",
    "LSTM1997Carry",
    "LSTM1997Params",
    "LSTMCarry",
    "LSTMPCarry",
    "LSTMPParams",
    "LayerNorm",
    "LayerNormParams",
    "Linear",
    "LinearAttention",
    "LinearAttentionCarry",
    "LinearAttentionParams",
    "LowRank",
    "LowRankFactors",
    "MGUCarry",
    "MGUParams",
    "MLSTMCarry",
    "MLSTMParams",
    "MinGRU",
    "MinGRUCarry",
    "MinGRUParams",
    "MinLSTM",
    "MinLSTMCarry",
    "MinLSTMParams",
    "Noisy",
    "OrthogonalRNN",
    "OrthogonalRNNCarry",
    "OrthogonalRNNParams",
    "ParaGRU",
    "ParaGRUCarry",
    "ParaGRUParams",
    "ParaLSTM",
    "ParaLSTMCarry",
    "ParaLSTMParams",
    "RGLRUCarry",
    "RGLRUParams",
    "Rate",
    "RateCarry",
    "RateParams",
    "S5Carry",
    "S5Params",
    "SLSTMCarry",
    "Stochastic",
    "TimedInputs",
    "URLSTMCarry",
    "VariationalDropout",
    "Wrapper",
    "Zoneout",
    "constraints",
    "identity",
    "initializers",
]
