"""Cells and networks by name: built in, from a file, from a module; and what is not a cell."""

import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax
from rnnjax import networks
from rnnjax.command_line import ArgumentError
from rnnjax.experiment import CellOptions
from rnnjax.layers import RNN, TCN, Bidirectional, Stack, Transformer

MINE = """
import dataclasses
from typing import NamedTuple
import jax.numpy as jnp
import rnnjax
from beside import DECAY


class State(NamedTuple):
    total: jnp.ndarray


@dataclasses.dataclass(frozen=True)
class Sum(rnnjax.Cell):
    features: int

    def init(self, key, input_size):
        return ()

    def initial_carry(self, batch_shape):
        return State(jnp.zeros((*batch_shape, self.features)))

    def project(self, params, x):
        return x.sum(-1, keepdims=True)

    def step(self, params, carry, u):
        return State(DECAY * carry.total + u)

    def output(self, carry):
        return carry.total


@dataclasses.dataclass(frozen=True)
class Fixed(Sum):
    features: int = dataclasses.field(default=3, init=False)


@dataclasses.dataclass(frozen=True)
class Demanding(Sum):
    depth: int


class Unfinished(rnnjax.Cell):
    def init(self, key, input_size):
        return ()


NOTHING = 3
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "beside.py").write_text("DECAY = 0.5\n")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("beside", None)


@pytest.mark.parametrize("name", networks.CELLS)
def test_built_in_cells(name):
    cell = networks.make_cell(name, 5)
    assert cell == {"elman": rnnjax.Elman, "lstm": rnnjax.LSTM, "gru": rnnjax.GRU}[name](5)
    assert networks.short_name(name) == name
    assert networks.make_cell("lstm", 5, forget_bias=2.0) == rnnjax.LSTM(5, forget_bias=2.0)


@pytest.mark.parametrize("name", ["./mine.py:Sum", "mine:Sum"])
def test_a_cell_of_ones_own(name, folder):
    cell = networks.make_cell(name, 4)
    assert cell == networks.make_cell(f"{folder}/mine.py:Sum", 4)  # one class for one file
    assert hash(cell) == hash(networks.make_cell(name, 4))
    _, ys = rnnjax.unroll(cell, (), jnp.ones((3, 2, 1)))
    assert ys.shape == (3, 2, 4) and ys[2, 0, 0] == 1.75
    assert networks.short_name(name) == networks.label(name) == "Sum"
    assert networks.make_cell("./mine.py:Fixed", 4).output_size == 3


def test_what_is_not_varied_is_said_in_one_line(folder):
    plain = networks.not_varied("./mine.py:Sum", networks.make_cell("./mine.py:Sum", 4))
    assert plain == "Sum: neither gain nor forget bias is varied, because it is not Gated"
    gated = networks.not_varied("./mine.py:Mine", rnnjax.Elman(3))
    assert gated.startswith("Mine: the forget bias is not varied, because ")


def test_a_cell_of_an_installed_module():
    assert networks.cell_class("rnnjax.cells:GRU") is rnnjax.GRU
    assert networks.cell_class("rnnjax.cells.lstm:LSTM") is rnnjax.LSTM


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "mamba",
            "must be elman, lstm, gru, linear, .*, mamba2, or FILE.py:CLASS or MODULE:CLASS for",
        ),
        ("mine.py", "must be elman, lstm, gru, linear, .*, or FILE.py:CLASS"),
        ("./none.py:Sum", "there is no file ./none.py"),
        ("folder/none:Sum", "there is no file folder/none"),
        ("none_such:Sum", "there is no module none_such, and no file none_such.py"),
        ("none.such:Sum", "there is no module none.such, and no file none/such.py"),
        ("./mine.py:Product", "./mine.py:Product: ./mine.py has no Product"),
        ("./mine.py:NOTHING", "./mine.py:NOTHING: NOTHING is not a subclass of rnnjax.Cell"),
        ("./mine.py:State", "State is not a subclass of rnnjax.Cell"),
        ("./mine.py:Unfinished", "Unfinished is abstract; it has to define initial_carry, output"),
        ("./mine.py:Demanding", r"Demanding\(features=4\) failed: .*depth"),
        ("./broken.py:Sum", r"broken.py cannot be loaded: ZeroDivisionError"),
    ],
)
def test_what_is_not_a_cell_is_one_line(name, message, folder):
    (folder / "broken.py").write_text("1 / 0\n")
    with pytest.raises(ValueError, match=message) as error:
        networks.make_cell(name, 4)
    assert "\n" not in str(error.value)
    with pytest.raises(ArgumentError, match=r"^--cells .*") as error:
        CellOptions(cells=("lstm", name))
    assert "\n" not in str(error.value)


def test_options_name_each_cell_once(folder):
    config = CellOptions(cells=("lstm", "./mine.py:Sum"), features=3)
    assert [config.make_cell(name).output_size for name in config.cells] == [3, 3]
    for cells in ((), ("lstm", "lstm")):
        with pytest.raises(ArgumentError, match="--cells needs one or more values, each once"):
            CellOptions(cells=cells)
    with pytest.raises(ArgumentError, match="--cells must have names that differ"):
        CellOptions(cells=("./mine.py:Sum", "mine:Sum"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "form", "cell", "label"),
    [
        ("gru", "", "gru", "GRU"),
        ("deep_gru", "deep_", "gru", "deep GRU"),
        ("bidirectional_lstm", "bidirectional_", "lstm", "bidirectional LSTM"),
        ("deep_bidirectional_elman", "deep_bidirectional_", "elman", "deep bidirectional Elman"),
        ("tcn", "", "tcn", "causal CNN"),
        ("transformer", "", "transformer", "Transformer"),
        ("deep_./mine.py:Sum", "deep_", "./mine.py:Sum", "deep Sum"),
    ],
)
def test_names_of_networks(name, form, cell, label, folder):
    assert networks.split(name) == (form, cell)
    assert networks.label(name) == networks.label(networks.short_name(name)) == label
    assert networks.causal(name) == ("bidirectional" not in name)
    layer = networks.network(name, 4, window=7)
    xs = jnp.ones((2, 7, 3))
    ys, _ = layer.init_with_output(jax.random.key(0), xs)
    assert ys.shape == (2, 7, 8 if "bidirectional" in name else 4)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mamba", "must be tcn, elman, .*, or FILE.py:CLASS"),
        ("deep_tcn", "must be tcn, elman"),
        ("deep_./none.py:Sum", "there is no file ./none.py"),
    ],
)
def test_what_is_not_a_network(name, message):
    with pytest.raises(ValueError, match=message):
        networks.network(name, 4, window=7)
    with pytest.raises(ValueError, match="multiple of 4, got 6"):
        networks.network("transformer", 6, window=7)


def test_every_name_is_the_network_that_it_says():
    kinds = {"tcn": TCN, "transformer": Transformer, "bidirectional_gru": Bidirectional}
    for name in networks.NETWORKS:
        layer = networks.network(name, 8, window=9)
        assert type(layer) is kinds.get(name, Stack if name == "deep_gru" else RNN)
        if isinstance(layer, RNN):
            assert layer.cell == networks.make_cell(name, 8)
    deep = networks.network("deep_bidirectional_lstm", 8, window=9)
    assert [type(layer) for layer in deep.layers] == [Bidirectional] * 2


@pytest.mark.parametrize("window", [1, 5, 6, 29, 30, 64, 784])
def test_the_smallest_cnn_that_sees_the_window(window):
    layer = networks.network("tcn", 4, window=window)
    assert layer.receptive_field >= window
    smaller = TCN(4, num_blocks=max(1, layer.num_blocks - 1))
    assert layer.num_blocks == 1 or smaller.receptive_field < window
    assert networks.network("tcn", 4, window=window, blocks=3).num_blocks == 3
    assert networks.network("transformer", 4, window=window).window == window


@pytest.mark.parametrize("name", ["mamba", "deep_tcn", "wide_gru", "bidirectional_deep_gru", ""])
def test_another_name_is_refused(name):
    with pytest.raises(ValueError, match="must be tcn, elman, .*, got"):
        networks.network(name, 8, window=9)


def test_what_reads_backwards_is_not_causal():
    found = {name for name in networks.NETWORKS if not networks.causal(name)}
    assert found == {"bidirectional_gru"} and not networks.causal("deep_bidirectional_lstm")


def test_every_cell_of_the_library_has_a_name():
    abstract = {"Cell", "Gated", "GatedStep", "Linear", "Stochastic", "Wrapper"}
    arguments_beside_features = {"Constrained", "ConvLSTM", "LSTMP", "LayerNorm"}
    arguments_beside_features |= {"VariationalDropout", "Zoneout"}
    kinds = {
        name: kind
        for name, kind in vars(rnnjax.cells).items()
        if isinstance(kind, type) and issubclass(kind, rnnjax.Cell)
    }
    named = {networks.cell_class(name) for name in networks.NAMED_CELLS}
    assert {n for n, k in kinds.items() if k not in named} == abstract | arguments_beside_features
    for name in networks.NAMED_CELLS:
        assert networks.make_cell(name, 5, param_dtype=jnp.float16).features == 5
        assert networks.label(name).lower().replace("-", "") == name


@pytest.mark.parametrize(
    ("name", "decay"), [("retnet", "fixed"), ("gla", "vector"), ("mamba2", "scalar")]
)
def test_names_with_arguments(name, decay):
    cell: Any = networks.make_cell(name, 4, num_heads=2)
    assert cell == rnnjax.cells.LinearAttention(4, num_heads=2, decay=decay)
    irnn: Any = networks.make_cell("irnn", 4)
    np.testing.assert_array_equal(irnn.init(jax.random.key(0), 3).recurrent_kernel, np.eye(4))
    assert irnn.activation_fn is jax.nn.relu


def test_linear_is_elman_without_tanh():
    cell = networks.make_cell("linear", 3, param_dtype=jnp.float16)
    assert isinstance(cell, rnnjax.Elman) and cell.param_dtype == jnp.float16
    params = cell.init(jax.random.key(0), 2)
    _, hidden = rnnjax.unroll(cell, params, 100 * jnp.ones((1, 2), jnp.float16))
    np.testing.assert_allclose(hidden[0], 100 * np.ones(2) @ params.input_kernel, rtol=1e-2)
    assert networks.label("linear") == "linear"


@pytest.mark.parametrize(
    ("name", "file"),
    [
        *(("gru", None), ("deep_gru", None), ("package.module:Cell", None), ("mine:Cell", None)),
        *(("./mine.py:Cell", "mine.py"), ("deep_/a/mine.py:Cell", "/a/mine.py")),
        *(("../a.b/mine.pyc:Cell", "../a.b/mine.pyc"), ("a,b+c.py:Cell", "a,b+c.py")),
        *(("postgresql://host:db", None), ("mine.py", None), ("mine.py:", None)),
    ],
)
def test_the_file_that_a_name_has_its_cell_from(name, file):
    assert networks.own_file(name) == (file and Path(file))
