"""What units can hold: a small run, errors by hand, its verdict, its files and manners."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scripts import ROOT, load

import rnnjax
from rnnjax.experiment.readout import Readout
from rnnjax.runs import Run

SCRIPT = ROOT / "experiments" / "papers" / "css17_capacity.py"
pytestmark = pytest.mark.slow
capacity = load(SCRIPT)
TINY = capacity.Config(
    cells=("elman",), units=(2, 4), size=4, length=3, steps=400, batch_size=32, seeds=2
)


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("css17") / "run"
    return out, capacity.run(dataclasses.replace(TINY, out=out))


def test_a_run_writes_everything_it_promises(tiny_run):
    out, summary = tiny_run
    assert json.loads((out / "summary.json").read_text()) == summary
    assert set(summary) == {"size", "cells", "curve", "verdict"}
    assert summary["curve"] == {"2": 0.5, "4": 0}
    errors = summary["cells"]["elman"]
    assert errors["2"] == pytest.approx([0.5, 0.5], abs=0.1)
    assert max(errors["4"]) < 1 / 8
    for figure in ("errors", "errors_log"):
        for ending in ("png", "svg"):
            assert (out / f"{figure}.{ending}").stat().st_size > 100
    assert (out / "metrics.jsonl").stat().st_size > 100
    table = Run(out).read_table("errors")
    curve = table["network"] == "curve"
    np.testing.assert_allclose(table["median"][curve], [1, 0.75, 0.5, 0.25, 0])
    assert table["median"][~curve] == pytest.approx([np.mean(of) for of in errors.values()])
    assert summary["verdict"]["outcome"] == "quick run only"


def test_figures_can_be_redrawn(tiny_run):
    out, summary = tiny_run
    (out / "errors.png").unlink()
    assert capacity.run(dataclasses.replace(TINY, out=out, redraw=True)) == summary
    assert (out / "errors.png").exists()


def test_a_linear_network_made_by_hand_reconstructs():
    """h = Q x / 10, turned by U at every step, is read as 10 (U^(T-1))^T Q^T."""
    cell = rnnjax.Elman(4, activation_fn=rnnjax.cells.identity)
    task, rng = TINY.make_task(), np.random.default_rng(0)
    q, u = (np.linalg.qr(rng.normal(size=(4, 4)))[0] for _ in range(2))
    drawn = cell.init(jax.random.key(0), 4)
    raw = drawn._replace(input_kernel=jnp.asarray(q / 10), recurrent_kernel=jnp.asarray(u))
    kernel = 10 * np.linalg.matrix_power(u, 2).T @ q.T
    batch = task.sample(jax.random.key(1), 50)
    outputs, asked = capacity.answer(cell, Readout(raw, kernel, jnp.zeros(4)), batch)
    assert outputs.shape == asked.targets.shape == (1, 50, 4) and asked.mask.all()
    np.testing.assert_allclose(outputs[0], batch.inputs[0], atol=1e-5)
    assert task.success(task.metrics(outputs, asked))


def summary_of(**change):
    """Return a summary that reproduces the claim, but for one network's error at some units."""
    curve = {"32": 0.5, "56": 0.125, "64": 0.0, "96": 0.0}
    errors = {units: [least + 0.002] * 2 for units, least in curve.items()}
    changed = {units[1:]: error for units, error in change.items()}
    worse = errors | {units: [curve[units], error] for units, error in changed.items()}
    return {"size": 64, "cells": {"elman": errors, "gru": worse}, "curve": curve}


def test_the_verdict_follows_its_rule():
    usual = capacity.Config()
    assert capacity.verdict(usual, summary_of()).outcome == "reproduced"
    assert capacity.verdict(usual, summary_of(_64=0.0078)).outcome == "reproduced"
    for change in ({"_64": 0.0079}, {"_96": 0.2}, {"_32": 0.521}, {"_56": 0.104}):
        found = capacity.verdict(usual, summary_of(**change))
        assert found.outcome == "not reproduced", change
        assert list(found.conditions.values()).count(False) == 1, change
    for fewer in ("steps", "seeds", "batch_size", "size", "length"):
        config = dataclasses.replace(usual, **{fewer: getattr(usual, fewer) - 1})
        assert capacity.verdict(config, summary_of()).outcome == "quick run only", fewer
    config = dataclasses.replace(usual, units=(32, 64))
    assert capacity.verdict(config, summary_of()).outcome == "quick run only"


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ("--units 32 48", ("--units", "some below --size 64 and some not", "32 48")),
        ("--units 64 80", ("--units", "some below --size 64 and some not")),
        ("--units 64 32", ("--units", "rising order")),
        ("--units 0 64", ("--units", "at least 1")),
        ("--length 1", ("--length", "at least 2")),
        ("--size 0", ("--size", "at least 1")),
        ("--cells none", ("--cells", "none")),
        ("--cells gru gru", ("--cells", "each once")),
        ("--cells rnnjax:GRU rnnjax.cells:GRU", ("--cells", "names that differ")),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, names, refuses):
    refuses(capacity, arguments, names)
