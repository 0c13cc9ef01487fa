"""The context experiment: a small run, a network made by hand, its verdict, its manners."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scripts import ROOT, load

from rnnjax.cells import Rate, RateParams
from rnnjax.experiment.readout import Readout
from rnnjax.runs import Run

SCRIPT = ROOT / "experiments" / "context_decision.py"
pytestmark = pytest.mark.slow
context = load(SCRIPT)
TINY = context.Config(features=4, steps=12, batch_size=8, seeds=1, trials=64, starts=10)


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("context_decision") / "run"
    return out, context.run(dataclasses.replace(TINY, out=out))


def test_a_run_writes_everything_it_promises(tiny_run):
    out, summary = tiny_run
    assert json.loads((out / "summary.json").read_text()) == summary
    (network,) = summary["cells"]["rate"]["networks"]
    assert list(network) == ["motion", "colour"]
    for figure in ("fixed_points", "eigenvalues", "modes", "selection", "psychometric"):
        for ending in ("png", "svg"):
            assert (out / f"{figure}.{ending}").stat().st_size > 100
    for table in ("points", "directions", "trajectories", "psychometric_fits"):
        assert (out / f"{table}.csv").exists()
    assert summary["verdict"]["outcome"] == "quick run only"
    run = Run(out)
    for name, line in network.items():
        points = run.read_table("points")
        here = points["panel"] == f"Rate, {name} context"
        assert here.sum() == line["points"] >= 1
        assert points["q"][here].max() == pytest.approx(line["q"])
    shares = run.read_table("psychometric")
    for stimulus in ("motion", "colour"):
        assert shares["count"][shares["stimulus"] == stimulus].sum() == TINY.trials


def test_figures_can_be_redrawn(tiny_run):
    out, summary = tiny_run
    (out / "psychometric.png").unlink()
    assert context.run(dataclasses.replace(TINY, out=out, redraw=True)) == summary
    assert (out / "psychometric.png").exists()


def by_hand():
    """Return a linear network that integrates motion, and forgets colour, in both contexts.

    Unit 0 has W = 1, so that x_0 sums alpha times its input; the others have W = 0 and decay with
    tau. Unit 1 reads colour, and unit 2 the context.
    """
    cell = Rate(3, activation_fn=lambda x: x, param_dtype=jnp.float64)
    # fixation cue, motion, colour, contexts
    inputs = np.zeros((7, 3))
    inputs[1:3, 0], inputs[3:5, 1], inputs[5:, 2] = (1, -1), (1, -1), (5, -5)
    params = RateParams(jnp.asarray(inputs), jnp.diag(jnp.array([1.0, 0, 0])), jnp.zeros(3), None)
    kernel = np.zeros((3, 3))
    kernel[0] = 0, 0.5, -0.5  # the log odds of the first choice are x_0
    return cell, Readout(params, jnp.asarray(kernel), jnp.zeros(3))


@pytest.mark.parametrize("number", [0, 1])
def test_a_network_made_by_hand_has_the_line_that_it_was_given(number, x64):
    cell, params = by_hand()
    config = dataclasses.replace(TINY, starts=200)
    found = {k: np.asarray(a) for k, a in context.search(config, cell, params, number).items()}
    np.testing.assert_allclose(found["log_odds"], found["states"][:, 0], rtol=1e-12)
    slow_distance = np.linalg.norm(found["states"][:, 1:] - [0, (5, -5)[number]], axis=-1)
    assert slow_distance.max() < 0.1 * found["size"]  # they lie on the line
    np.testing.assert_allclose(found["eigenvalues"], [[1, 0.8, 0.8]] * len(found["q"]), atol=1e-12)
    motion, colour = found["relevant"], found["irrelevant"]
    if number:
        motion, colour = colour, motion
    np.testing.assert_allclose(motion, 1, rtol=1e-9)
    np.testing.assert_allclose(colour, 0, atol=1e-9)
    described = context.describe(found, found)
    assert described["points"] == len(found["q"]) > 10
    assert described["from"] == found["log_odds"].min() < -1 < 1 < described["to"]
    assert described["one_slow"] == 1
    assert described["second_ms"] == pytest.approx(-20 / np.log(0.8))
    assert described["apart"] == 0


def test_numbers_of_slow_points_by_hand():
    values = np.exp(-np.array([[1 / 70, 4 / 62], [1 / 50, 4 / 62], [1 / 70, 2 / 62]]))
    found = {
        "log_odds": np.array([4.0, -4.0, 0.0]),
        "eigenvalues": values,
        "relevant": np.array([0.5, 0.9, 0.7]),
        "irrelevant": np.array([0.1, 0.0, 0.2]),
        "states": np.array([[0.0, 0], [1, 0], [2, 0]]),
        "size": np.array(2.0),
        "q": np.array([1e-5, 3e-5, 2e-5]),
    }
    other = found | {"states": np.array([[0.0, 6], [3, 5], [2, 4]])}
    described = context.describe(found, other)
    expected = {"points": 3, "from": -4, "to": 4, "gap": 0.5, "one_slow": 1 / 3, "slow_ms": 1400}
    expected |= {"second_ms": 310, "relevant": 0.7, "other": 0.1, "apart": 2, "q": 3e-5}
    assert described == pytest.approx(expected)
    nothing = {name: a[:0] if np.ndim(a) else a for name, a in found.items()}
    empty = context.describe(nothing, other)
    assert empty["points"] == 0 and np.isnan(empty["to"])


def summary_of(success=1.0, **change):
    line = {"points": 30, "from": -4.0, "to": 4.0, "gap": 0.1, "one_slow": 0.9}
    line |= {"relevant": 0.8, "other": 0.1, "apart": 1.0}
    networks = [{"motion": line, "colour": line}, {"motion": line, "colour": line | change}]
    return {"cells": {"rate": {"success": success, "networks": networks}}}


def test_the_verdict_follows_its_rule():
    usual = context.Config()
    assert context.verdict(usual, summary_of()).outcome == "reproduced"
    failing = [{"success": 0.5}, {"from": -2.9}, {"to": 2.9}, {"gap": 0.21}, {"one_slow": 0.5}]
    failing += [{"other": 0.25}, {"apart": 0.09}, {"to": np.nan}, {"relevant": np.nan}]
    for change in failing:
        found = context.verdict(usual, summary_of(**change))
        assert found.outcome == "not reproduced", change
        assert list(found.conditions.values()).count(False) == 1, change
    for fewer in ("steps", "seeds", "starts", "trials", "features"):
        config = dataclasses.replace(usual, **{fewer: getattr(usual, fewer) - 1})
        assert context.verdict(config, summary_of()).outcome == "quick run only", fewer


def test_only_the_decision_is_scored():
    trial = context.TASK.sample_sequence(jax.random.key(0))
    mask = np.asarray(trial.mask)
    assert mask.sum() == 5 and (np.asarray(trial.targets)[mask] > 0).all()
    assert not np.asarray(trial.inputs)[mask, :5].any()  # neither cue nor stimulus


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ("--trials 63", ("--trials", "at least 64")),
        ("--starts 0", ("--starts", "at least 1")),
        ("--learning-rate 0", ("--learning-rate", "positive")),
        ("--features 0", ("--features", "at least 1")),
        ("--cells none", ("--cells", "none")),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, names, refuses):
    refuses(context, arguments, names)
