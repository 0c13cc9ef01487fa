"""The experiment on Newton's method: its claim in small, its verdict, its files and manners."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scripts import ROOT, load

import rnnjax
from rnnjax import initializers

SCRIPT = ROOT / "experiments" / "newton.py"
pytestmark = pytest.mark.slow
newton = load(SCRIPT)
TINY = newton.Config(
    gains=(0.5, 3.0),
    features=6,
    lengths=(10, 30),
    cells=("elman", "gru"),
    max_iterations=12,
    seeds=2,
)


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("newton") / "run"
    return out, newton.run(dataclasses.replace(TINY, out=out))


def test_a_run_writes_everything_it_promises(tiny_run):
    out, summary = tiny_run
    assert json.loads((out / "summary.json").read_text()) == summary
    assert set(summary) == {"attempts", "verdict"}
    rows = summary["attempts"]
    assert len(rows) == 2 * 2 * 2 * 2 * 2  # cells, gains, Jacobians, lengths, seeds
    for ending in ("png", "svg", "csv"):
        assert (out / f"iterations.{ending}").stat().st_size > 100
    calm = [row for row in rows if row["gain"] == 0.5 and row["jacobian"] == "dense"]
    assert all(row["converged"] and row["iterations"] < 12 for row in calm)


def test_iterations_and_exponents_are_those_of_the_library(tiny_run):
    """Of one network, made by hand; what ran out of iterations is said not to have converged."""
    _, summary = tiny_run
    with jax.enable_x64(True):
        cell = rnnjax.Elman(
            6, recurrent_kernel_init=initializers.Gaussian(3.0), param_dtype=jnp.float64
        )
        params = cell.init(jax.random.key(TINY.members[1]), 1)
        xs = jnp.sin(2 * jnp.pi * jnp.arange(30) / 20)[:, None]
        options = {"tolerance": 1e-10, "max_iterations": 12}
        report = rnnjax.unroll_newton(cell, params, xs, **options)[-1]
        exponent = rnnjax.diagnostics.lyapunov_spectrum(cell, params, xs, 1, transient=3).exponents
    wanted = {"cell": "elman", "gain": 3.0, "jacobian": "dense", "length": 30}
    wanted["seed"] = TINY.members[1]
    (row,) = (row for row in summary["attempts"] if wanted.items() <= row.items())
    assert row["iterations"] == int(report.iterations)
    assert row["converged"] == bool(report.converged)
    assert row["exponent"] == pytest.approx(float(exponent[0]), rel=1e-9)
    assert row["forecast"] == rnnjax.diagnostics.newton_forecast(row["exponent"], 30).iterations


def test_the_same_arguments_give_the_same_bytes(tiny_run, tmp_path):
    out, _ = tiny_run
    newton.run(dataclasses.replace(TINY, out=tmp_path / "again"))
    for name in ("summary.json", "iterations.csv", "attempts.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes(), name


def test_figures_can_be_redrawn(tiny_run):
    out, summary = tiny_run
    (out / "iterations.png").unlink()
    assert newton.run(dataclasses.replace(TINY, out=out, redraw=True)) == summary
    assert (out / "iterations.png").exists()


def attempts(**change):
    """Return a summary that reproduces the claim, with one row of the calm network changed."""
    rows = []
    for length in (100, 300, 1000):
        calm = {"cell": "elman", "gain": 0.5, "seed": 0, "jacobian": "dense", "length": length}
        calm |= {"exponent": -0.5, "iterations": 4, "converged": True}
        rows += [calm, calm | {"gain": 2.0, "exponent": 0.1, "iterations": 300, "converged": False}]
    rows[-2] |= change  # T = 1000
    return {"attempts": rows}


def test_the_verdict_follows_its_rule():
    usual = newton.Config()
    assert newton.verdict(usual, attempts()).outcome == "reproduced"
    assert newton.verdict(usual, attempts(iterations=6)).outcome == "reproduced"
    for change in ({"iterations": 7}, {"iterations": 21}, {"converged": False}):
        assert newton.verdict(usual, attempts(**change)).outcome == "not reproduced", change
    quick = attempts()
    quick["attempts"][-1] |= {"iterations": 100, "converged": True}  # chaotic, in a tenth of T
    assert newton.verdict(usual, quick).outcome == "not reproduced"
    only_calm = {"attempts": [row for row in attempts()["attempts"] if row["exponent"] < 0]}
    assert newton.verdict(usual, only_calm).outcome == "not reproduced"
    for fewer in ("features", "max_iterations", "seeds"):
        config = dataclasses.replace(usual, **{fewer: getattr(usual, fewer) - 1})
        assert newton.verdict(config, attempts()).outcome == "quick run only", fewer
    config = dataclasses.replace(usual, lengths=(100, 1000))
    assert newton.verdict(config, attempts()).outcome == "reproduced"
    config = dataclasses.replace(usual, lengths=(100, 300))
    assert newton.verdict(config, attempts()).reason == "--lengths 300 is below 1000"


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ("--gains 0", ("--gains", "positive")),
        ("--lengths 10", ("--lengths", "two or more")),
        ("--tolerance 0", ("--tolerance", "positive")),
        ("--cells lru", ("--cells", "Gated", "lru")),
        ("--max-iterations 0", ("--max-iterations", "at least 1")),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, names, refuses):
    refuses(newton, arguments, names)


def test_gains_are_those_of_the_recurrent_kernel():
    found = newton.attempts(TINY, "elman", 0.5)
    assert found["iterations"].shape == found["converged"].shape == (2, 2, 2)
    assert (np.asarray(found["exponents"]) < 0).all()
