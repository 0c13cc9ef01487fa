"""The curse of memory: what a run writes and says."""

import copy
import dataclasses
import json

import numpy as np
import pytest
from scripts import ROOT, load

from rnnjax.diagnostics.linear_recurrences import second_moments
from rnnjax.runs import Run

pytestmark = pytest.mark.slow

curse = load(ROOT / "experiments" / "curse_of_memory.py")

TINY = curse.Config(
    rhos=(0.0, 0.5, 1.0), lambdas=3, closest=0.05, steps=1000, chains=160, seeds=8, seed=1
)
FIGURES = "curse", "remedy", "agreement", "gradients"


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("curse") / "run"
    return out, curse.run(dataclasses.replace(TINY, out=out))


def test_a_small_run_reproduces_the_claim_and_writes_what_it_promises(tiny_run):
    out, summary = tiny_run
    assert json.loads((out / "summary.json").read_text()) == summary
    assert summary["verdict"]["outcome"] == "reproduced"
    assert list(summary["rhos"]) == ["0.0", "0.5", "1.0"]
    assert summary["largest_gradient"] == pytest.approx(0.95, rel=1e-5)
    for rho, entry in summary["rhos"].items():
        assert entry["relative_error"] < 0.3 and entry["relative_sensitivity_rises"]
        want = second_moments("plain", 0.95, float(rho))
        assert entry["closed_form"]["plain sensitivity"] == pytest.approx(want[1], rel=1e-5)
        assert entry["simulated"]["plain sensitivity"] == pytest.approx(want[1], rel=0.3)
    for name in FIGURES:
        for ending in ("png", "svg"):
            assert (out / f"{name}.{ending}").stat().st_size > 1000


def test_tables_hold_the_spread_over_seeds(tiny_run):
    table = Run(tiny_run[0]).read_table("moments")
    assert len(table["rho"]) == 3 * 3 * 2 * 3  # rhos, networks, moments, lambdas
    assert (table["q25"] < table["median"]).all() and (table["median"] < table["q75"]).all()
    assert (table["standard_error"] > 0).all()
    gradient = Run(tiny_run[0]).read_table("gradients")
    np.testing.assert_allclose(gradient["median"], gradient["lambda"] ** gradient["lag"], rtol=1e-4)


def test_figures_can_be_redrawn_from_the_tables(tiny_run):
    out, summary = tiny_run
    before = {name: (out / f"{name}.svg").read_bytes() for name in FIGURES}
    for name in FIGURES:
        (out / f"{name}.svg").unlink()
    assert curse.run(dataclasses.replace(TINY, out=out, redraw=True)) == summary
    assert {name: (out / f"{name}.svg").read_bytes() for name in FIGURES} == before


def test_every_part_of_the_verdict_counts(tiny_run):
    summary = tiny_run[1]

    def after(entry=None, **changes):
        changed = copy.deepcopy(summary) | changes
        changed["rhos"]["0.5"] |= entry or {}
        return curse.verdict(TINY, changed).outcome

    assert after() == "reproduced"
    assert after(allowed_standard_errors=0.01) == "not reproduced"
    assert after({"standard_errors": 1e3}) == "not reproduced"
    assert after({"relative_sensitivity_rises": False}) == "not reproduced"
    assert after(largest_gradient=1.01) == "not reproduced"
    assert after(least_gradient_after_memory=0.1) == "not reproduced"
    assert after({"largest_standard_error": 0.3}) == "inconclusive"


def test_a_wrong_closed_form_would_be_found_out(tiny_run, monkeypatch):
    """Half of what moves with rho, left out, is many standard errors off."""
    table = Run(tiny_run[0]).read_table("moments")
    rows = (table["moment"] == "plain sensitivity") & (table["rho"] == 0.5)
    decay = table["lambda"][rows]
    p, q = 1 - decay**2, 1 - decay / 2
    wrong = table["theory"][rows] - decay / 2 / (p * q) ** 2
    off = np.abs(table["mean"][rows] - wrong) / table["standard_error"][rows]
    assert off.max() > tiny_run[1]["allowed_standard_errors"]


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ("--rhos 0 1.5", ("--rhos", "between 0 and 1", "1.5")),
        ("--rhos 0 0", ("--rhos", "once")),
        ("--closest 1e-6", ("--closest", "1e-4", "1e-06")),
        ("--closest 0.7", ("--closest", "below 0.5", "0.7")),
        ("--seeds 1", ("--seeds", "at least 2", "1")),
        ("--lambdas 1", ("--lambdas", "at least 2", "1")),
        ("--steps 0", ("--steps", "at least 1", "0")),
        ("--chains none", ("--chains", "whole number", "none")),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, names, refuses):
    refuses(curse, arguments, names)
