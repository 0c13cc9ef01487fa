"""Cells and networks by name: built in, from a file or module of one's own, and what is refused."""

import pytest

import rnnjax
from rnnjax import networks
from rnnjax.layers import RNN, TCN, Bidirectional, Stack, Transformer


def test_every_name_is_the_network_that_it_says():
    kinds = {"tcn": TCN, "transformer": Transformer, "bidirectional_gru": Bidirectional}
    for name in networks.NETWORKS:
        layer = networks.network(name, 8, window=9)
        assert type(layer) is kinds.get(name, Stack if name == "deep_gru" else RNN)
        if isinstance(layer, RNN):
            assert layer.cell == networks.CELLS[name](8)
    deep = networks.network("deep_bidirectional_lstm", 8, window=9)
    assert [type(layer) for layer in deep.layers] == [Bidirectional] * 2


@pytest.mark.parametrize("window", [1, 5, 6, 29, 30, 64, 784])
def test_the_smallest_cnn_that_sees_the_window(window):
    layer = networks.network("tcn", 4, window=window)
    assert layer.receptive_field >= window
    smaller = TCN(4, num_blocks=max(1, layer.num_blocks - 1))
    assert layer.num_blocks == 1 or smaller.receptive_field < window
    assert networks.network("transformer", 4, window=window).window == window


@pytest.mark.parametrize("name", ["mamba", "deep_tcn", "wide_gru", "bidirectional_deep_gru", ""])
def test_another_name_is_refused(name):
    with pytest.raises(ValueError, match="must be tcn, elman, .*, got"):
        networks.network(name, 8, window=9)


def test_what_reads_backwards_is_not_causal():
    found = {name for name in networks.NETWORKS if not networks.causal(name)}
    assert found == {"bidirectional_gru"} and not networks.causal("deep_bidirectional_lstm")


def test_a_cell_of_ones_own_is_loaded_once_from_its_file(tmp_path):
    (tmp_path / "mine.py").write_text("import rnnjax\nclass Mine(rnnjax.Elman): pass\n")
    name = f"{tmp_path}/mine.py:Mine"
    cell = networks.make_cell(name, 5)
    assert isinstance(cell, rnnjax.Elman) and cell == networks.make_cell(name, 5)
    assert networks.short_name(f"deep_{name}") == "deep_Mine"
    assert networks.label(f"bidirectional_{name}") == "bidirectional Mine"
