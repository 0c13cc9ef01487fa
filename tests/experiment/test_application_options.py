"""Options of applications: any network by name, and which networks can write."""

import dataclasses

import pytest

from rnnjax import experiment
from rnnjax.command_line import ArgumentError
from rnnjax.layers import RNN, TCN, Bidirectional, Stack
from rnnjax.networks import NETWORKS

OWN = """
import rnnjax


class Mine(rnnjax.GRU):
    pass
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reader(experiment.NetworkOptions):
    """Of a network that reads."""

    features: int = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Writer(experiment.WriterOptions):
    """Of a network that writes."""

    features: int = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Forecaster(experiment.CausalOptions):
    """Of a network that predicts what comes next."""


def test_what_predicts_the_next_input_reads_forwards():
    for name in ("gru", "deep_lstm", "tcn", "transformer"):
        assert Forecaster(network=name).network == name
    with pytest.raises(ArgumentError, match="--network must read forwards only, got bidirec"):
        Forecaster(network="bidirectional_gru")


@pytest.mark.parametrize("window", [1, 6, 30])
def test_a_reader_is_any_network_that_looks_back_far_enough(window):
    for name in NETWORKS:
        layer = Reader(network=name).make_layer(window=window)
        if isinstance(layer, TCN):
            assert layer.receptive_field >= window
    assert isinstance(Reader(network="bidirectional_lstm").make_layer(window=1), Bidirectional)


def test_a_writer_is_recurrent_and_reads_forwards():
    assert isinstance(Writer(network="elman").make_layer(), RNN)
    assert isinstance(Writer(network="deep_gru").make_layer(), Stack)
    for name in ("tcn", "transformer", "bidirectional_gru", "deep_bidirectional_gru"):
        with pytest.raises(ArgumentError, match=f"--network must be .* deep_gru.*, got {name}"):
            Writer(network=name)


def test_a_cell_of_ones_own_can_read_and_write(tmp_path):
    (tmp_path / "mine.py").write_text(OWN)
    name = f"{tmp_path}/mine.py:Mine"
    for layer in (Reader(network=name).make_layer(window=3), Writer(network=name).make_layer()):
        assert type(layer.cell).__name__ == "Mine" and layer.cell.features == 8
    deep = Writer(network=f"deep_{name}").make_layer()
    assert [type(layer.cell).__name__ for layer in deep.layers] == ["Mine"] * 2
    with pytest.raises(ArgumentError, match="--network .*Other"):
        Reader(network=f"{tmp_path}/mine.py:Other")


@pytest.mark.parametrize("kind", [Reader, Writer])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"network": "mamba"}, "--network must be .*got mamba"),
        ({"network": ""}, "--network must be "),
        ({"features": 0}, "--features must be at least 1, got 0"),
        ({"seeds": 0}, "--seeds must be at least 1, got 0"),
        ({"clip": 0.0}, "--clip must be positive"),
        ({"checkpoint_every": 0}, "--checkpoint-every must be at least 1"),
    ],
)
def test_every_check_of_the_chain_runs(kind, arguments, message):
    with pytest.raises(ArgumentError, match=message):
        kind(**arguments)


def test_a_transformer_needs_features_for_its_heads():
    with pytest.raises(ArgumentError, match="--features must be a multiple of 4 .*got 30"):
        Reader(network="transformer", features=30)
