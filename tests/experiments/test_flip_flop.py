"""The flip-flop experiment: a small run, its points by hand, its verdict, its files and manners."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scripts import ROOT, load

import rnnjax
from rnnjax import dynamics
from rnnjax.experiment.readout import Readout

SCRIPT = ROOT / "experiments" / "flip_flop.py"
pytestmark = pytest.mark.slow
flip_flop = load(SCRIPT)
TINY = flip_flop.Config(
    bits=1, length=12, features=3, steps=60, batch_size=8, cells=("gru",), seeds=1, starts=20
)


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("flip_flop") / "run"
    return out, flip_flop.run(dataclasses.replace(TINY, out=out))


def test_a_run_writes_everything_it_promises(tiny_run):
    out, summary = tiny_run
    assert json.loads((out / "summary.json").read_text()) == summary
    assert set(summary) == {"bits", "cells", "verdict"}
    (network,) = summary["cells"]["gru"]["networks"]
    assert sum(network["by_unstable_directions"]) >= 1 and network["largest_q"] <= 1e-20
    for figure in ("fixed_points", "eigenvalues"):
        for ending in ("png", "svg"):
            assert (out / f"{figure}.{ending}").stat().st_size > 100
    for table in ("points", "directions", "trajectories", "eigenvalues"):
        assert (out / f"{table}.csv").exists()
    assert summary["verdict"]["outcome"] == "quick run only"


def test_figures_can_be_redrawn(tiny_run):
    out, summary = tiny_run
    (out / "fixed_points.png").unlink()
    assert flip_flop.run(dataclasses.replace(TINY, out=out, redraw=True)) == summary
    assert (out / "fixed_points.png").exists()


def test_a_network_made_by_hand_has_its_memories_at_the_corners(x64):
    """Two units h' = tanh(g h + W x) of their own, read out as h / h*: two bits."""
    gain, star = 1.5, 1.0
    for _ in range(200):
        star = np.tanh(gain * star)
    cell = rnnjax.Elman(2, param_dtype=jnp.float64)
    drawn = cell.init(jax.random.key(0), 2)
    raw = drawn._replace(input_kernel=4 * jnp.eye(2), recurrent_kernel=gain * jnp.eye(2))
    params = Readout(raw, jnp.eye(2) / star, jnp.zeros(2))
    config = dataclasses.replace(TINY, bits=2, starts=300)
    batch = config.make_task().sample(jax.random.key(1), 20)
    found = flip_flop.search(config, cell, params, batch.inputs)
    described = flip_flop.describe({name: np.asarray(a) for name, a in found.items()})
    expected = {"stable": 4, "corners": 4, "saddles": 4, "edges": 4}
    assert expected.items() <= described.items()
    assert described["by_unstable_directions"] == [4, 4, 1]
    points = dynamics.fixed_points(
        cell,
        raw,
        jnp.zeros(2),
        type(cell.initial_carry(()))(jax.random.normal(jax.random.key(2), (200, 2))),
    )
    np.testing.assert_allclose(
        np.sort(np.asarray(found["outputs"]).ravel()),
        np.sort(points.points.h.ravel() / star),
        atol=1e-9,
    )


def test_only_points_near_corners_and_edges_count():
    outputs = np.array([[1.05, -0.95], [1.0, 0.5], [1.0, 0.0], [0.8, 0.0], [1.3, 1.0], [0.0, 0.0]])
    found = {"outputs": outputs, "num_unstable": np.array([0, 0, 1, 1, 0, 2])}
    found |= {"q": np.zeros(6), "participation_ratio": 2.0}
    described = flip_flop.describe(found)
    assert described == {
        "stable": 3,
        "corners": 1,
        "saddles": 2,
        "edges": 1,
        "by_unstable_directions": [3, 2, 1],
        "largest_q": 0.0,
        "participation_ratio": 2.0,
    }


def summary_of(**change):
    network = {"stable": 8, "corners": 8, "saddles": 12, "edges": 12}
    return {"bits": 3, "cells": {"gru": {"networks": [network, network | change]}}}


def test_the_verdict_follows_its_rule():
    usual = flip_flop.Config()
    assert flip_flop.verdict(usual, summary_of()).outcome == "reproduced"
    for key, value in (("stable", 9), ("corners", 7), ("saddles", 13), ("edges", 11)):
        found = flip_flop.verdict(usual, summary_of(**{key: value}))
        assert found.outcome == "not reproduced", key
    for fewer in ("steps", "seeds", "starts", "features"):
        config = dataclasses.replace(usual, **{fewer: getattr(usual, fewer) - 1})
        assert flip_flop.verdict(config, summary_of()).outcome == "quick run only", fewer


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ("--bits 0", ("--bits", "at least 1")),
        ("--probability 1.5", ("--probability", "1.5")),
        ("--starts 0", ("--starts", "at least 1")),
        ("--noise -1", ("--noise", "at least 0")),
        ("--cells none", ("--cells", "none")),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, names, refuses):
    refuses(flip_flop, arguments, names)
