"""The spectrum of rate networks: a small run, exponents by hand, its verdict, its manners."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from scripts import ROOT, load

from rnnjax.diagnostics.growth import first_frame
from rnnjax.runs import Run

SCRIPT = ROOT / "experiments" / "papers" / "ewa23_spectrum.py"
pytestmark = pytest.mark.slow
spectrum = load(SCRIPT)
TINY = spectrum.Config(sizes=(4, 5, 8), time=40, transient=10, seeds=2)


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("ewa23") / "run"
    return out, spectrum.run(dataclasses.replace(TINY, out=out))


def test_a_run_writes_everything_it_promises(tiny_run):
    out, summary = tiny_run
    assert json.loads((out / "summary.json").read_text()) == summary
    assert set(summary) == {"sizes", "example", "distance", "verdict"}
    assert set(summary["sizes"]) == {"4", "5", "8"} and summary["example"] is None
    for figure in ("spectra", "local"):
        for ending in ("png", "svg", "csv"):
            assert (out / f"{figure}.{ending}").stat().st_size > 100
    assert summary["verdict"]["outcome"] == "quick run only"
    table = Run(out).read_table("spectra")
    published = table["median"][table["series"] == spectrum.CODE]
    np.testing.assert_array_equal(published, spectrum.CURVE)


def test_figures_can_be_redrawn(tiny_run):
    out, summary = tiny_run
    (out / "spectra.png").unlink()
    assert spectrum.run(dataclasses.replace(TINY, out=out, redraw=True)) == summary
    assert (out / "spectra.png").exists()


def by_hand(size, seed, time):
    """Return the mean of ln |det J| / N, and the first exponent by finite differences, in 1/tau."""
    rng = np.random.RandomState(seed)
    weights = 4 * rng.randn(size, size) / np.sqrt(size)
    np.fill_diagonal(weights, 0)
    x = 3 * np.random.RandomState(seed).randn(size)
    y, logs, growth = None, [], []
    for t in range(1000 + 100 + time * 10):  # to the attractor, the transient, and what counts
        if t == 1000:
            y = x + 1e-6 * np.asarray(first_frame(size, [jnp.asarray(x)], 0)[0][0])
        jacobian = 0.9 * np.eye(size) + 0.1 * weights / np.cosh(x) ** 2
        logs.append(np.linalg.slogdet(jacobian)[1])
        x = 0.9 * x + 0.1 * weights @ np.tanh(x)
        if y is not None:
            y = 0.9 * y + 0.1 * weights @ np.tanh(y)
            if (t + 1) % 10 == 0:
                distance = np.linalg.norm(y - x)
                growth.append(np.log(distance / 1e-6))
                y = x + (y - x) * 1e-6 / distance
    return np.mean(logs[1100:]) / size / 0.1, np.mean(growth[10:])


@pytest.mark.parametrize(("size", "time"), [(4, 40), (8, 20)])
def test_exponents_are_those_by_hand(tiny_run, size, time, x64):
    found = tiny_run[1]["sizes"][str(size)]
    for place, seed in enumerate((1, 2)):
        mean, first = by_hand(size, seed, time)
        assert found["mean"][place] == pytest.approx(mean, abs=1e-7)
        assert found["differences"][place] == pytest.approx(first, abs=1e-4)
        assert found["lambda_1"][place] == pytest.approx(first, abs=1e-4)


def test_quantities_are_those_of_their_definitions():
    found = spectrum.quantities(np.array([[0.3, 0.1, -0.1, -1.1], [-0.5, -0.6, -0.7, -0.8]]))
    np.testing.assert_allclose(found["lambda_1"], [0.3, -0.5])
    np.testing.assert_allclose(found["entropy_rate"], [0.1, 0], rtol=1e-6)
    np.testing.assert_allclose(found["dimension"], [(3 + 0.3 / 1.1) / 4, 0], rtol=1e-6)
    np.testing.assert_allclose(found["mean"], [-0.2, -0.65])


def summary_of(*, example=None, distance=0.03, differences=0.16, dimensions=(6.0, 15.0, 24.0)):
    """Return a summary that reproduces the claim, but for what is given."""
    sizes = {
        str(n): {"lambda_1": [0.16], "differences": [0.16], "dimension": [d / n]}
        for n, d in zip((100, 200, 300), dimensions, strict=True)
    }
    sizes["200"]["differences"] = [differences]
    example = spectrum.PUBLISHED | (example or {})
    return {"sizes": sizes, "example": example, "distance": distance}


def test_the_verdict_follows_its_rule():
    usual = spectrum.Config()
    assert spectrum.verdict(usual, summary_of()).outcome == "reproduced"
    for name, allowed in spectrum.ALLOWED.items():
        for by, outcome in ((0.99, "reproduced"), (-1.01, "not reproduced")):
            changed = summary_of(example={name: spectrum.PUBLISHED[name] + by * allowed})
            assert spectrum.verdict(usual, changed).outcome == outcome, name
    wrong = (
        {"distance": 0.051},
        {"differences": 0.1621},
        {"dimensions": (6.0, 15.0, 21.0)},
        {"dimensions": (20.0, 42.0, 64.0)},
    )
    for change in wrong:
        found = spectrum.verdict(usual, summary_of(**change))
        assert found.outcome == "not reproduced", change
        assert list(found.conditions.values()).count(False) == 1, change
    assert spectrum.verdict(usual, summary_of() | {"example": None}).outcome == "inconclusive"
    for fewer in ("seeds", "time", "transient"):
        config = dataclasses.replace(usual, **{fewer: getattr(usual, fewer) - 1})
        assert spectrum.verdict(config, summary_of()).outcome == "quick run only", fewer
    config = dataclasses.replace(usual, sizes=(100, 200, 299))
    assert spectrum.verdict(config, summary_of()).outcome == "quick run only"


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ("--sizes 64 128", ("--sizes", "three or more")),
        ("--sizes 64 32 16", ("--sizes", "rising order")),
        ("--sizes 1 2 3", ("--sizes", "at least 2")),
        ("--time 5", ("--time", "at least 6")),
        ("--transient -1", ("--transient", "at least 0")),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, names, refuses):
    refuses(spectrum, arguments, names)
