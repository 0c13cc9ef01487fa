"""The experiment on singular values: what it measures, its files and manners."""

import dataclasses
import json
import math
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_every_experiment import load

import rnnjax
from rnnjax.cells.initializers import Orthogonal

SCRIPT = Path(__file__).parents[1] / "experiments" / "jacobian_spectrum.py"
spectrum = load(SCRIPT)
TINY = spectrum.Config(cells=("elman",), gains=(0.5, 2.0), features=3, lags=8, examples=2, seeds=2)


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("spectrum") / "run"
    return out, spectrum.run(dataclasses.replace(TINY, out=out))


def test_the_values_are_those_of_brute_force_products():
    """The second seed at the second gain, against NumPy on a Python loop."""
    found = spectrum.singular_values(TINY, "elman")[1, 1]  # [K, B, N]
    with jax.enable_x64(True):
        cell_key, input_key = jax.random.split(jax.random.key(1))
        cell = rnnjax.Elman(3, recurrent_kernel_init=Orthogonal(), param_dtype=jnp.float64)
        W, U, b = map(np.asarray, cell.init(cell_key, 1))
        xs = np.asarray(jax.random.normal(input_key, (50 + 8, 2, 1)))
    U = 2.0 * U
    for example in range(2):
        h, steps = np.zeros(3), []
        for x in xs[:, example]:
            h = np.tanh(x @ W + h @ U + b)
            steps.append((1 - h**2)[:, None] * U.T)
        product, by_lag = np.eye(3), []
        for step in reversed(steps[-8:]):
            product = product @ step
            by_lag.append(np.log(np.linalg.svd(product, compute_uv=False)))
        lags = np.array(TINY.measured_lags)
        np.testing.assert_allclose(found[:, example], np.array(by_lag)[lags - 1], atol=1e-6)


def test_mean_field_theory_against_a_large_network():
    """In a wide network with inputs of its own to every unit."""
    rng = np.random.default_rng(0)
    gain, width = 1.5, 1000
    U = gain * np.linalg.qr(rng.normal(size=(width, width)))[0]
    h, v, logs = np.zeros(width), rng.normal(size=width), []
    for t in range(60):
        h = np.tanh(h @ U + rng.normal(size=width))
        v = (v @ U) * (1 - h**2)
        if t >= 20:
            logs.append(math.log(np.linalg.norm(v)))
        v /= np.linalg.norm(v)
    assert np.mean(logs) == pytest.approx(spectrum.mean_field(gain), abs=0.02)


def test_a_run_writes_everything_it_promises(tiny_run):
    out, summary = tiny_run
    assert json.loads((out / "summary.json").read_text()) == summary
    assert list(summary["cells"]["elman"]) == ["0.5", "2.0"]
    for name in ("leading", "condition", "spectra"):
        for ending in ("png", "svg", "csv"):
            assert (out / f"{name}.{ending}").stat().st_size > 100
    rates = [row["leading_rate"] for row in summary["cells"]["elman"].values()]
    assert rates[0] < rates[1] and rates[0] == pytest.approx(math.log(0.5), abs=0.7)


def test_the_same_arguments_give_the_same_bytes(tiny_run, tmp_path):
    out, _ = tiny_run
    spectrum.run(dataclasses.replace(TINY, out=tmp_path / "again"))
    for name in ("summary.json", "leading.csv", "condition.csv", "spectra.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes(), name


def test_figures_can_be_redrawn(tiny_run):
    out, summary = tiny_run
    (out / "leading.png").unlink()
    assert spectrum.run(dataclasses.replace(TINY, out=out, redraw=True)) == summary
    assert (out / "leading.png").exists()


def test_the_verdict_follows_its_rule():
    low = {"leading_rate": -0.5, "condition_rate": 1.0}
    high = {"leading_rate": 0.1, "condition_rate": 2.0}
    assert spectrum.verdict({"gru": {"2.0": high, "0.5": low}}) == "reproduced"
    for first, last in (
        (dict(low, leading_rate=0.1), dict(high, leading_rate=0.2)),
        (low, dict(high, leading_rate=-0.6)),
        (low, dict(high, condition_rate=-0.1)),
    ):
        assert spectrum.verdict({"gru": {"0.5": first, "2.0": last}}) == "not reproduced"


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ("--gains 1", ("--gains", "two or more")),
        ("--gains 1 nan", ("--gains", "finite")),
        ("--lags 3", ("--lags", "at least 8", "3")),
        ("--features 1", ("--features", "at least 2")),
        ("--draw uniform", ("--draw", "gaussian", "uniform")),
        ("--redraw", ("--redraw", "--out")),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(
    arguments, names, monkeypatch, capsys, tmp_path
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments.split()])
    with pytest.raises(SystemExit) as stop:
        spectrum.main(spectrum.Config, spectrum.run)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert all(name in error for name in names)
