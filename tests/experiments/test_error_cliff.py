"""The cliff of one recurrent unit: its closed forms, and the experiment that measures them."""

import dataclasses
import json
import math
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scripts import ROOT, load

from rnnjax.diagnostics import searches

pytestmark = pytest.mark.slow

SCRIPT = ROOT / "experiments" / "error_cliff.py"


cliff = load(SCRIPT)


def error(w, b, steps=50):
    """The loss and its gradient by a NumPy loop that carries the derivatives forward."""
    x, dw, db = np.full(np.broadcast(w, b).shape, 0.5), 0.0, 0.0
    for _ in range(steps):
        s = 1 / (1 + np.exp(-x))
        dw, db = s + w * s * (1 - s) * dw, 1 + w * s * (1 - s) * db
        x = w * s + b
    s = 1 / (1 + np.exp(-x))
    slope = 2 * (s - 0.7) * s * (1 - s)
    return (s - 0.7) ** 2, slope * dw, slope * db


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("cliff") / "run"
    config = cliff.Config(points=5, steps=200, starts=3, out=out)
    return out, cliff.run(config)


def read(out, name):
    from rnnjax.runs import Run

    return Run(out).read_table(name)


def test_the_loss_and_its_gradient_are_those_of_a_loop(x64):
    for w, b in ((4.5, -2.0), (5.0, -2.61), (6.0, -3.3), (-2.0, 1.0)):
        loss, *gradient = error(w, b)
        got, slopes = jax.value_and_grad(cliff.loss)(cliff.Params(w, b))
        np.testing.assert_allclose(got, loss, rtol=1e-9)
        np.testing.assert_allclose(slopes, gradient, rtol=1e-8)


def test_the_stated_values():
    want = -2.65561, -2.34439, 0.5, -0.62246, 4.255, -2.6123, 6.6e3
    assert [f"{v:.4g}" for v in cliff.STATED.values()] == [f"{v:.4g}" for v in want]
    assert [*cliff.ALLOWED.values()] == [5e-6, 5e-6, 5e-6, 5e-6, 5e-4, 5e-5, 0.05 * 6.6e3]


def test_what_is_measured_is_what_is_stated(small_run):
    out, summary = small_run
    assert json.loads((out / "summary.json").read_text()) == summary
    rows = summary["closed_forms"]
    assert rows.keys() == cliff.STATED.keys()
    for name, row in rows.items():
        assert row["error"] == pytest.approx(row["measured"] - row["stated"])
        assert abs(row["error"]) <= row["allowed"], name
    assert 0 < abs(rows["saddle-node, lower b"]["error"]) < 1e-6  # measured, not computed


def test_no_cliff_is_missed(small_run, x64):
    """Against NumPy on fine grids around where the gradient peaks, found by hand."""
    _, summary = small_run
    b = np.linspace(-2.6125, -2.6122, 30_001)
    _, *gradient = error(5.0, b)
    norms = np.hypot(*gradient)
    rows = summary["closed_forms"]
    assert rows["steepest b at w = 5"]["measured"] == pytest.approx(b[norms.argmax()], abs=1e-8)
    measured = rows["largest gradient at w = 5"]["measured"]
    assert measured == pytest.approx(norms.max(), rel=1e-6)
    edge = 0.5 - 6 / (1 + math.exp(-0.5))
    _, *gradient = error(6.0, edge + np.linspace(-1e-7, 1e-7, 20_001))
    row = summary["at_w_6"]
    assert row["largest_gradient"] == pytest.approx(np.hypot(*gradient).max(), rel=1e-4)
    assert row["largest_gradient"] > 1e7 > 10 > row["largest_gradient_on_200001_points"]
    biases = searches.refine(lambda b: cliff.along(6.0, b)["answer"], -6.0, 0.0, rise=0.01)
    x = np.full_like(biases, 0.5)
    for _ in range(50):
        x = 6 / (1 + np.exp(-x)) + biases
    answers = 1 / (1 + np.exp(-x))
    assert np.diff(answers).max() < 0.011 and np.diff(biases).min() < 1e-8


def test_the_surface_is_that_of_the_loop(small_run):
    out, _ = small_run
    table = read(out, "surface")
    assert len(table["w"]) == 25 and set(zip(table["w"], table["b"], strict=True)) >= {(4.5, -1.6)}
    loss, *gradient = error(table["w"], table["b"])
    np.testing.assert_allclose(table["loss"], loss, rtol=1e-9)
    np.testing.assert_allclose(np.exp(table["log_gradient_norm"]), np.hypot(*gradient), rtol=1e-7)


def test_the_states_are_fixed_and_stable_or_not(small_run):
    out, _ = small_run
    table = read(out, "bifurcation")
    s = 1 / (1 + np.exp(-table["median"]))
    residual = 5 * s + table["b"] - table["median"]
    np.testing.assert_allclose(residual, 0, atol=1e-6)
    unstable = table["state"] == "parting"
    assert (5 * (s * (1 - s))[unstable] > 1).all() and (5 * (s * (1 - s))[~unstable] < 1).all()
    assert unstable.sum() > 30 and (table["state"] == "low").sum() > 60
    assert (table["median"][table["state"] == "low"] < 0).all()
    assert (table["median"][table["state"] == "high"] > 0).all()
    between = table["b"][unstable]
    assert between.min() > -2.65562 and between.max() < -2.34438


def test_the_paths_follow_the_rule_of_descent(small_run):
    out, summary = small_run
    table = read(out, "paths")
    for name, clip in (("plain", math.inf), ("clipped", 1.0)):
        rows = {key: column[table["path"] == name] for key, column in table.items()}
        assert (rows["w"][0], rows["b"][0]) == (5.2, -2.2)
        assert rows["step"].tolist() == list(range(201))
        with np.errstate(over="ignore"):
            loss, gw, gb = error(rows["w"], rows["b"])
        norm = np.hypot(gw, gb)
        size = 0.05 * np.minimum(1, clip / np.maximum(norm, 1e-300))
        np.testing.assert_allclose(rows["loss"], loss, rtol=1e-6)
        np.testing.assert_allclose(rows["grad_norm"], norm, rtol=1e-5)  # before clipping
        for key, slope in (("w", gw), ("b", gb)):
            step = -(size * slope)[:-1]
            np.testing.assert_allclose(np.diff(rows[key]), step, rtol=1e-4, atol=1e-12)
        moves = np.hypot(np.diff(rows["w"]), np.diff(rows["b"]))
        assert summary["paths"][name]["largest_step"] == pytest.approx(moves.max())
        assert summary["paths"][name]["late_loss"] == pytest.approx(np.median(loss[150:]))
    assert summary["paths"]["clipped"]["largest_step"] == pytest.approx(0.05)


def test_the_claim_holds(small_run):
    """The thrown path ends where the gradient is zero; the clipped one is better off."""
    out, summary = small_run
    plain, clipped = summary["paths"]["plain"], summary["paths"]["clipped"]
    assert cliff.verdict(cliff.Config(), summary).outcome == "reproduced"
    assert [*summary["verdict"]["conditions"].values()] == [True] * 4
    assert plain["largest_step"] > 5 and not plain["stays_on_surface"]
    assert clipped["late_loss"] < 0.02 and clipped["stays_on_surface"]
    assert plain["late_loss"] == pytest.approx(0.09, abs=1e-3)  # (1 - 0.7)^2
    assert summary["share_of_starts_that_leave"]["clipped"] == 0
    for name in ("surface", "bifurcation", "cliff"):
        for ending in ("png", "svg", "csv"):
            assert (out / f"{name}.{ending}").stat().st_size > 100


def test_a_verdict_can_be_no(small_run):
    _, summary = small_run
    broken = json.loads(json.dumps(summary))
    broken["paths"]["plain"]["largest_step"] = 4.9
    broken["closed_forms"]["basin boundary, slope"]["error"] = 1e-3
    broken["share_of_starts_that_leave"]["clipped"] = 0.1
    broken["paths"]["clipped"]["stays_on_surface"] = False
    verdict = cliff.verdict(cliff.Config(), broken)
    assert verdict.outcome == "not reproduced" and not any(verdict.conditions.values())


def test_too_few_steps_or_starts_are_a_quick_run_only(small_run):
    _, summary = small_run
    assert summary["verdict"]["outcome"] == "quick run only"
    assert summary["verdict"]["reason"] == "--steps 200 is below 400; --starts 3 is below 10"
    fewer = cliff.verdict(cliff.Config(starts=9), summary)
    assert (fewer.outcome, fewer.reason) == ("quick run only", "--starts 9 is below 10")
    assert cliff.verdict(cliff.Config(steps=500, starts=11), summary).outcome == "reproduced"


def test_figures_can_be_redrawn(small_run):
    out, summary = small_run
    before = {path: path.read_bytes() for path in [*out.glob("*.svg"), *out.glob("*.png")]}
    assert len(before) == 6
    for path in before:
        path.unlink()
    assert cliff.run(cliff.Config(out=out, redraw=True)) == summary
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ("--points 1", ("--points", "at least 2", "1")),
        ("--steps 0", ("--steps", "at least 1", "0")),
        ("--clip 0", ("--clip", "positive", "0")),
        ("--learning-rate nan", ("--learning-rate", "positive", "nan")),
        ("--w-min 7", ("--w-min", "--w-max", "7", "6")),
        ("--b-max inf", ("--b-min", "--b-max", "finite", "inf")),
        ("--start 5 0", ("--start", "4.0..6.0", "-3.6..-1.6", "5.0 0.0")),
        ("--start 5", ("--start",)),
        ("--redraw", ("--redraw", "--out")),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, names, refuses):
    refuses(cliff, arguments, names)


def test_help_names_every_option():
    command = [sys.executable, "-W", "error", str(SCRIPT), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for field in dataclasses.fields(cliff.Config):
        assert "--" + field.name.replace("_", "-") in done.stdout


def test_64_bits_are_asked_for_only_within_the_run(small_run):
    assert jnp.ones(()).dtype == jnp.float32
