"""The experiment on many tasks: a small run, its numbers by hand, its verdict, its manners."""

import copy
import csv
import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scripts import ROOT, load

from rnnjax.tasks import trials
from rnnjax.tasks.base import Batch

SCRIPT = ROOT / "experiments" / "yang_tasks.py"
yang_tasks = load(SCRIPT)
TINY = yang_tasks.Config(
    tasks=("go", "dlygo", "dm1"), features=8, steps=20, batch_size=2, seeds=1, dt=100.0
)


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("yang_tasks") / "run"
    return out, yang_tasks.run(dataclasses.replace(TINY, out=out), quiet=True)


def columns(out, name):
    with open(out / f"{name}.csv") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_run_writes_everything_it_promises(tiny_run):
    out, summary = tiny_run
    assert json.loads((out / "summary.json").read_text()) == summary
    assert set(summary) == {"cells", "verdict"}
    (network,) = summary["cells"]["rate"]
    assert set(network["performance"]) == set(TINY.tasks)
    for figure in ("performance", "variance", "correlations", "special", "fractional"):
        for ending in ("png", "svg", "csv"):
            assert (out / f"{figure}.{ending}").stat().st_size > 100
    assert summary["verdict"]["outcome"] == "quick run only"
    shown = {(row["task"], row["unit"]): float(row["value"]) for row in columns(out, "variance")}
    tables = np.array([shown[key] for key in shown]).reshape(len(TINY.tasks), -1)
    np.testing.assert_allclose(tables.max(0), 1)
    by_hand = np.corrcoef(tables)[0, 1]
    assert network["alike_correlation"] == pytest.approx(by_hand)
    last = [row for row in columns(out, "performance") if row["step"] == str(TINY.steps)]
    assert {row["task"]: float(row["median"]) for row in last} == network["performance"]


@pytest.mark.slow
def test_figures_can_be_redrawn(tiny_run):
    out, summary = tiny_run
    (out / "variance.png").unlink()
    assert yang_tasks.run(dataclasses.replace(TINY, out=out, redraw=True), quiet=True) == summary
    assert (out / "variance.png").exists()


def test_the_loss_is_that_of_a_loop():
    units, steps, size = 4, 5, 3
    rng = np.random.default_rng(0)
    outputs = rng.normal(size=(steps, size, units + 1))
    targets = np.array([[0, 0, 0], [0, 0, 0], [2, 0, 0], [2, 4, 0], [0, 4, 0]])
    mask = np.array([[1, 1, 1], [1, 1, 1], [1, 1, 1], [1, 1, 1], [0, 1, 1]], bool)
    wanted = []
    for b in range(size):
        parts = {True: [], False: []}
        for t in range(steps):
            if not mask[t, b]:
                continue
            goal = np.full(units + 1, 0.05)
            if targets[t, b]:
                apart = np.abs(np.arange(units) - (targets[t, b] - 1))
                angle = np.minimum(apart, units - apart) * 2 * np.pi / units
                goal[1:] += 0.8 * np.exp(-((angle / (np.pi / 8)) ** 2) / 2)
            else:
                goal[0] = 0.85
            square = (1 / (1 + np.exp(-outputs[t, b])) - goal) ** 2
            square[0] *= 2
            parts[targets[t, b] > 0].append(square.mean())
        wanted.append(sum(np.mean(part) for part in parts.values() if part) / 2)
    batch = Batch(jnp.zeros((steps, size, 1)), jnp.array(targets), jnp.array(mask))
    found = yang_tasks.squared_error(jnp.array(outputs, jnp.float32), batch)
    assert float(found) == pytest.approx(np.mean(wanted), rel=1e-5)


def test_noise_in_the_units_is_for_cells_that_have_it():
    config = dataclasses.replace(TINY, cells=("rate", "gru"))
    tasks, key = config.make_tasks(), jax.random.key(0)
    noisy, plain = (
        yang_tasks.sample(key, tasks, config.make_cell(name), 2) for name in config.cells
    )
    np.testing.assert_array_equal(noisy.inputs.x, plain.inputs)
    assert noisy.inputs.noise.shape == (*plain.inputs.shape[:2], 8)
    assert {task.total_length for task in tasks} == {plain.inputs.shape[0]}


def test_a_network_is_described_by_its_task_variance():
    """Two units serve go and dlygo, two dm1, one all, and one is silent."""
    own = np.array([[1, 2, 0, 0, 1, 0], [1, 2, 0, 0, 1, 0], [0, 0, 3, 1, 1, 0]], float)
    even = np.ones_like(own)
    right = np.array([1.0, 0.5, 0.25])
    found = yang_tasks.describe(TINY.tasks, right, 0, own, even)
    rows = own[:, :5] / own[:, :5].max(0)
    expected = {
        "performance": {"go": 1.0, "dlygo": 0.5, "dm1": 0.25},
        "num": 3,
        "alike_correlation": pytest.approx(1.0),
        "alike_equal": 1.0,
        "alike_special": 0.0,
        "alike_rotated": 0.0,
        "unlike_correlation": pytest.approx(np.corrcoef(rows)[0, 2]),
        "unlike_equal": pytest.approx(0.2),
        "unlike_special": pytest.approx(0.8),
        "unlike_rotated": 0.0,
    }
    assert {key: found[key] for key in expected} == expected
    assert found["silhouette"] > 0.7  # the unit that serves all is alone
    silent = yang_tasks.describe(TINY.tasks, right, 0, 0 * own, 0 * own)
    assert silent["num"] == 0 and silent["unlike_special"] == 0
    assert np.isnan([silent["silhouette"], silent["alike_correlation"]]).all()


def summary_of(**change):
    network = {"performance": {"go": 1.0, "dm1": 0.97}}
    network |= {"alike_correlation": 0.8, "unlike_correlation": 0.1, "alike_equal": 0.8}
    network |= {"unlike_special": 0.2, "alike_special": 0.05, "unlike_rotated": 0.0}
    network |= {"silhouette": 0.5, "shuffled": 0.3}
    return {"cells": {"rate": [copy.deepcopy(network), network | change]}}


def test_the_verdict_follows_its_rule():
    usual = yang_tasks.Config()
    assert yang_tasks.verdict(usual, summary_of()).outcome == "reproduced"
    for change in (
        {"performance": {"go": 1.0, "dm1": 0.94}},
        {"unlike_correlation": 0.8},
        {"alike_equal": 0.5},
        {"unlike_special": 0.1},
        {"alike_special": 0.2},
        {"unlike_rotated": 0.2},
        {"shuffled": 0.5},
        {"silhouette": float("nan")},
    ):
        found = yang_tasks.verdict(usual, summary_of(**change))
        assert found.outcome == "not reproduced", change
        assert list(found.conditions.values()).count(False) == 1, change
    fewer = [{name: getattr(usual, name) - 1} for name in ("steps", "seeds", "features")]
    for change in (*fewer, {"batch_size": usual.batch_size - 1}, {"tasks": usual.tasks[1:]}):
        config = dataclasses.replace(usual, **change)
        assert yang_tasks.verdict(config, summary_of()).outcome == "quick run only", change


def test_all_twenty_tasks_have_one_length():
    config = dataclasses.replace(TINY, tasks=trials.RULES)
    assert len({task.total_length for task in config.make_tasks()}) == 1


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ("--tasks go dlygo jump", ("--tasks", "multidlydm", "jump")),
        ("--tasks go go dm1", ("--tasks", "each once", "go go dm1")),
        ("--tasks go dlygo", ("--tasks", "different families", "go dlygo")),
        ("--tasks ctxdm1 ctxdm2 go", ("--tasks", "modality", "ctxdm1 ctxdm2 go")),
        ("--dt 150", ("--dt", "at most 100", "150")),
        ("--dt nan", ("--dt", "nan")),
        ("--rate-cost -1", ("--rate-cost", "at least 0")),
        ("--features 3", ("--features", "at least 4")),
        ("--cells none", ("--cells", "none")),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, names, refuses):
    refuses(yang_tasks, arguments, names)
