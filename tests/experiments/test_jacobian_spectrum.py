"""The experiment on singular values: its theory, its claims in small, its files and manners."""

import copy
import dataclasses
import functools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scripts import ROOT, load

import rnnjax
from rnnjax.cells.initializers import Gaussian, Orthogonal
from rnnjax.diagnostics import mean_field_exponent
from rnnjax.experiment import jacobian_spectra
from rnnjax.runs import Run

pytestmark = pytest.mark.slow

SCRIPT = ROOT / "experiments" / "jacobian_spectrum.py"
spectrum = load(SCRIPT)
TINY = spectrum.Config(
    cells=("elman", "gru"),
    kernels=("orthogonal",),
    gains=(1.0, 3.0),
    forget_biases=(3.0,),
    features=10,
    length=20,
    lags=4,
    seeds=2,
)
LAGS = jacobian_spectra.spaced_lags(TINY.length, TINY.lags)
FIGURES = "leading_orthogonal", "condition_orthogonal", "mean_field", "forget_bias", "spectrum"
TABLES = "leading", "condition", "root_mean_square", "forget_bias", "spectrum"


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("spectrum") / "run"
    return out, spectrum.run(dataclasses.replace(TINY, out=out))


def test_the_values_are_those_of_products_of_hand_made_jacobians(x64):
    config = dataclasses.replace(TINY, seed=1, seeds=1)
    found, bound, mean_field = spectrum.spectra(config, "elman", "orthogonal", 1.5, None).values()
    assert found.shape == (5, 1, 2, 10) and bound == pytest.approx(math.log(1.5))
    assert mean_field == mean_field_exponent(1.5, config.input_scale**2)
    params_key, inputs_key = jax.random.split(jax.random.key(1))
    cell = rnnjax.Elman(
        10,
        kernel_init=Gaussian(config.input_scale),
        recurrent_kernel_init=Orthogonal(1.5),
        param_dtype=jnp.float64,
    )
    W, U, b = map(np.asarray, cell.init(params_key, 10))
    h, steps = np.zeros(10), []
    for x in np.asarray(jax.random.normal(inputs_key, (40, 2, 10)))[:, 0]:
        h = np.tanh(x @ W + h @ U + b)
        steps.append((1 - h**2)[:, None] * U.T)
    assert LAGS.tolist() == [1, 5, 10, 15, 20]
    for i, lag in ((0, 1), (1, 5)):
        product = functools.reduce(np.matmul, steps[: -lag - 1 : -1])
        want = np.linalg.svd(product, compute_uv=False)
        np.testing.assert_allclose(found[i, 0, 0], np.log(want), rtol=1e-7, atol=1e-7)


def test_a_linear_orthogonal_network_scales_every_direction_alike(x64):
    config = dataclasses.replace(TINY, features=2, seeds=1)
    found, bound = spectrum.spectra(config, "linear", "orthogonal", 3.0, None).values()
    want = LAGS[:, None, None, None] * math.log(3)
    np.testing.assert_allclose(found, np.broadcast_to(want, found.shape), atol=1e-9)
    place = {"cell": "linear", "kernel": "orthogonal", "gain": 3.0}
    _, entry = jacobian_spectra.describe(place, LAGS, found, {"leading": bound})
    rules = conditions(config, [entry], [], 1.7)
    assert len(rules) == 2 and all(rules.values())
    broken = conditions(config, [entry | {"largest_condition": 1e-6}], [], 1.7)
    assert list(broken.values()) == [False, True]


def conditions(config, entries, biased, critical):
    summary = {"initialisations": entries, "forget_biases": biased}
    summary["critical_gain_of_mean_field"] = critical
    return spectrum.verdict(config, summary).conditions


def test_a_small_run_finds_what_is_claimed_and_writes_what_it_promises(tiny_run):
    out, summary = tiny_run
    assert json.loads((out / "summary.json").read_text()) == summary
    places = [(e["cell"], e["gain"]) for e in summary["initialisations"]]
    assert places == [(cell, gain) for cell in TINY.cells for gain in TINY.gains]
    for name in FIGURES:
        for ending in ("png", "svg"):
            assert (out / f"{name}.{ending}").stat().st_size > 1000
    rules = summary["verdict"]["conditions"]
    assert len(rules) == 7
    for words in ("exceeds", "falls exponentially", "grows exponentially", "3/4", "outlives"):
        assert [holds for rule, holds in rules.items() if words in rule] == [True], words
    rates = {(e["cell"], e["gain"]): e["leading"]["rate"] for e in summary["initialisations"]}
    assert rates["elman", 1.0] < -0.3 and rates["elman", 3.0] > rates["elman", 1.0] + 0.2
    table = Run(out).read_table("leading")
    elman = table["cell"] == "elman"
    bound = table["lag"] * np.log(table["gain"])
    np.testing.assert_allclose(table["theory"][elman], bound[elman], atol=1e-9)
    assert (table["q75"][elman] <= bound[elman] + 1e-9).all()


def test_the_same_arguments_give_the_same_bytes(tiny_run, tmp_path):
    out, _ = tiny_run
    spectrum.run(dataclasses.replace(TINY, out=tmp_path / "again"))
    for name in ("summary.json", *(f"{table}.csv" for table in TABLES)):
        assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes(), name


def test_figures_can_be_redrawn(tiny_run):
    out, summary = tiny_run
    before = {name: (out / f"{name}.svg").read_bytes() for name in FIGURES}
    for name in FIGURES:
        (out / f"{name}.svg").unlink()
    assert spectrum.run(dataclasses.replace(TINY, out=out, redraw=True)) == summary
    assert {name: (out / f"{name}.svg").read_bytes() for name in FIGURES} == before


def test_every_rule_can_fail_and_is_left_out_without_data(tiny_run):
    summary = tiny_run[1]

    def rules(changes=None, bias=None):
        entries, biased = copy.deepcopy((summary["initialisations"], summary["forget_biases"]))
        growing = {("elman", 3.0, "leading"): {"rate": 0.1}}  # ten units are too few for it
        for (cell, gain, key), value in (growing | (changes or {})).items():
            (entry,) = [e for e in entries if (e["cell"], e["gain"]) == (cell, gain)]
            entry[key] = entry[key] | value if isinstance(value, dict) else value
        biased[0]["leading"] |= bias or {}
        critical = summary["critical_gain_of_mean_field"]
        found = conditions(TINY, entries, biased, critical)
        return [rule for rule, holds in found.items() if not holds and "/H" not in rule]

    assert rules() == []
    for changes, word in (
        ({("elman", 3.0, "largest_over_bound"): 1e-3}, "exceeds"),
        ({("elman", 1.0, "leading"): {"r2": 0.9}}, "falls exponentially"),
        ({("elman", 3.0, "leading"): {"rate": -0.1}}, "grows"),
        ({("gru", 3.0, "condition"): {"rate": -0.1}}, "condition number"),
    ):
        (rule,) = rules(changes)
        assert word in rule
    assert len(rules(bias={"rate": -1.0})) == 2  # too fast, and faster than the carousel alone
    assert conditions(TINY, [], [], 1.7) == {}


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ("--gains 1 nan", ("--gains", "positive", "nan")),
        ("--gains 1 1", ("--gains", "once")),
        ("--lags 3", ("--lags", "at least 4", "3")),
        ("--length 5", ("--length", "at least 10", "5")),
        ("--features 1", ("--features", "at least 2", "1")),
        ("--input-scale 0", ("--input-scale", "positive", "0")),
        ("--forget-biases inf", ("--forget-biases", "finite", "inf")),
        ("--kernels uniform", ("--kernels", "gaussian", "uniform")),
        ("--cells gru gru", ("--cells", "once")),
        ("--redraw", ("--redraw", "--out")),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, names, refuses):
    refuses(spectrum, arguments, names)


OWN = """
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import rnnjax

class Weights(NamedTuple):
    W: Any
    U: Any

class State(NamedTuple):
    s: Any

@dataclasses.dataclass(frozen=True)
class Plain(rnnjax.Cell):
    features: int

    def init(self, key, input_size):
        W, U = jax.random.normal(key, (2, self.features, self.features))
        return Weights(W[:input_size], U / self.features)

    def initial_carry(self, batch_shape):
        return State(jnp.zeros((*batch_shape, self.features)))

    def project(self, ready, x):
        return x @ ready.W

    def step(self, ready, carry, u):
        return State(jnp.tanh(carry.s @ ready.U + u))

    def output(self, carry):
        return carry.s

class Gate(rnnjax.Elman):
    pass

class Diagonal(rnnjax.Elman):
    def init(self, key, input_size):
        params = self.init_blocks(key, input_size)
        return params._replace(recurrent_kernel=jnp.full(self.features, 0.5, self.param_dtype))
"""


@pytest.mark.parametrize("own", ["Plain", "Gate", "Diagonal"])
def test_a_cell_of_ones_own_is_measured_and_drawn(own, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(OWN)
    config = dataclasses.replace(
        TINY, cells=(f"./mine.py:{own}",), features=5, out=tmp_path / "run"
    )
    summary = spectrum.run(config)
    gated = own == "Gate"
    assert ("neither kernel nor gain is varied" in capsys.readouterr().out) != gated
    places = [(e["cell"], e["kernel"], e["gain"]) for e in summary["initialisations"]]
    varied = [(own, "orthogonal", gain) for gain in TINY.gains]
    assert places == (varied if gated else [(own, "own", 1.0)])
    assert summary["forget_biases"] == []
    assert summary["verdict"]["outcome"] == "inconclusive"  # no rule is about it
    kernel = "orthogonal" if gated else "own"
    names = f"leading_{kernel}", f"condition_{kernel}", "spectrum"
    drawn = {path.stem for path in config.out.glob("*.svg")}
    assert drawn == set(names)
    for name in names:
        assert own in (config.out / f"{name}.svg").read_text()
