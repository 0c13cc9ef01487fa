"""The experiment on whole spectra: a small run, its theory, its verdict, its files and manners."""

import dataclasses
import json
import math

import numpy as np
import pytest
from scripts import ROOT, load

SCRIPT = ROOT / "experiments" / "chaotic_spectrum.py"
pytestmark = pytest.mark.slow
spectrum = load(SCRIPT)
TINY = spectrum.Config(sizes=(6, 12), steps=40, transient=10, seeds=2)


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("chaotic_spectrum") / "run"
    return out, spectrum.run(dataclasses.replace(TINY, out=out))


def test_a_run_writes_everything_it_promises(tiny_run):
    out, summary = tiny_run
    assert json.loads((out / "summary.json").read_text()) == summary
    assert set(summary) == {"sizes", "expected", "distance_to_circular_law", "verdict"}
    assert set(summary["sizes"]) == {"6", "12"}
    assert all(len(entry["mean"]["of_seeds"]) == 2 for entry in summary["sizes"].values())
    for ending in ("png", "svg", "csv"):
        assert (out / f"spectra.{ending}").stat().st_size > 100
    assert summary["verdict"]["outcome"] == "quick run only"


def test_figures_can_be_redrawn(tiny_run):
    out, summary = tiny_run
    (out / "spectra.png").unlink()
    assert spectrum.run(dataclasses.replace(TINY, out=out, redraw=True)) == summary
    assert (out / "spectra.png").exists()


def test_quantities_are_those_of_their_definitions():
    found = spectrum.quantities(np.array([[0.3, 0.1, -0.1, -1.1], [-0.5, -0.6, -0.7, -0.8]]))
    np.testing.assert_allclose(found["lambda_1"], [0.3, -0.5])
    np.testing.assert_allclose(found["positive"], [0.5, 0])
    np.testing.assert_allclose(found["entropy_rate"], [0.1, 0], rtol=1e-6)
    np.testing.assert_allclose(found["dimension"], [(3 + 0.3 / 1.1) / 4, 0], rtol=1e-6)
    np.testing.assert_allclose(found["mean"], [-0.2, -0.65])


def test_the_mean_exponent_of_theory_is_that_of_random_matrices():
    """The mean of ln |singular values| of a Gaussian matrix, and of slopes at a Gaussian state."""
    rng, size, gain = np.random.default_rng(0), 400, 3.0
    w = gain * rng.normal(size=(size, size)) / math.sqrt(size)
    x = rng.normal(size=size)
    for _ in range(200):
        x = w @ np.tanh(x)
    states = []
    for _ in range(200):
        x = w @ np.tanh(x)
        states.append(x)
    slopes = -2 * np.log(np.cosh(np.array(states))).mean()
    measured = np.linalg.slogdet(w)[1] / size + slopes
    assert spectrum.mean_theory(gain) == pytest.approx(measured, abs=0.03)
    assert spectrum.mean_theory(gain) == pytest.approx(-2.2742, abs=2e-3)


def test_the_circular_law_is_that_of_eigenvalues():
    size, gain = 400, 0.8
    w = gain * np.random.default_rng(0).normal(size=(size, size)) / math.sqrt(size)
    found = np.sort(np.log(np.abs(np.linalg.eigvals(w))))[::-1]
    law = spectrum.circular_law(gain, (np.arange(size) + 0.5) / size)
    assert np.abs(found - law)[: size // 2].max() < 0.06


def summary_of(**change):
    """Return a summary that reproduces the claim, but for the largest network's `change`."""
    expected = spectrum.PUBLISHED | {"mean": spectrum.mean_theory(3.0)}
    sizes = {str(n): {k: {"mean": v} for k, v in expected.items()} for n in (64, 128, 256)}
    sizes["256"] |= {name: {"mean": expected[name] + by} for name, by in change.items()}
    return {"sizes": sizes, "expected": expected, "distance_to_circular_law": 0.05}


def test_the_verdict_follows_its_rule():
    usual = spectrum.Config()
    assert spectrum.verdict(usual, summary_of()).outcome == "reproduced"
    for name, allowed in spectrum.ALLOWED.items():
        inside, outside = ({name: sign * allowed / 256} for sign in (-0.99, 1.01))
        assert spectrum.verdict(usual, summary_of(**inside)).outcome == "reproduced", name
        assert spectrum.verdict(usual, summary_of(**outside)).outcome == "not reproduced", name
    apart = summary_of()
    apart["sizes"]["128"]["dimension"]["mean"] += 3.1 / 128
    assert spectrum.verdict(usual, apart).outcome == "not reproduced"
    far = summary_of() | {"distance_to_circular_law": 0.11}
    assert spectrum.verdict(usual, far).outcome == "not reproduced"
    for fewer in ("seeds", "steps", "transient"):
        config = dataclasses.replace(usual, **{fewer: getattr(usual, fewer) - 1})
        assert spectrum.verdict(config, summary_of()).outcome == "quick run only", fewer


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ("--sizes 64", ("--sizes", "two or more")),
        ("--sizes 64 32", ("--sizes", "rising order")),
        ("--sizes 1 2", ("--sizes", "at least 2")),
        ("--steps 0", ("--steps", "at least 1")),
        ("--transient -1", ("--transient", "at least 0")),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, names, refuses):
    refuses(spectrum, arguments, names)
