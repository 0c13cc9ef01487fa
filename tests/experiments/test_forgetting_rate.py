"""The forgetting rate: a small run, its numbers by other means, its verdict, its manners."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scripts import ROOT, load

from rnnjax import experiment, online
from rnnjax.experiment import readout
from rnnjax.runs import Run

SCRIPT = ROOT / "experiments" / "forgetting_rate.py"
pytestmark = pytest.mark.slow
forgetting_rate = load(SCRIPT)
TINY = forgetting_rate.Config(
    cells=("elman",),
    delays=(1, 3),
    length=7,
    features=3,
    steps=20,
    batch_size=4,
    seeds=1,
    sequences=3,
    draws=400,
)


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("forgetting_rate") / "run"
    return out, forgetting_rate.run(dataclasses.replace(TINY, out=out))


def test_a_run_writes_everything_it_promises(tiny_run):
    out, summary = tiny_run
    assert json.loads((out / "summary.json").read_text()) == summary
    assert set(summary) == {"chance", "cells", "verdict"}
    assert [(n["delay"], n["seed"]) for n in summary["cells"]["elman"]] == [(1, 0), (3, 0)]
    for name in ("errors.csv", "networks.csv", *("errors", "crossings")):
        for path in [name] if "." in name else [f"{name}.png", f"{name}.svg"]:
            assert (out / path).stat().st_size > 100
    table = Run(out).read_table("networks")
    assert table["k_10000"].tolist() == [n["k_10000"] for n in summary["cells"]["elman"]]
    rows = experiment.select(Run(out).read_table("errors"), series="UORO, 100 draws")
    assert rows["k"].tolist() == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(rows["q25"], np.sqrt(table["variance"].min() / 100), rtol=1e-6)
    assert summary["verdict"]["outcome"] == "quick run only"
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 4


def test_figures_can_be_redrawn(tiny_run):
    out, summary = tiny_run
    (out / "crossings.png").unlink()
    assert forgetting_rate.run(dataclasses.replace(TINY, out=out, redraw=True)) == summary
    assert (out / "crossings.png").exists()


def test_errors_are_those_of_online_methods_one_sequence_at_a_time():
    """Windows by `online.Truncated`, V by other draws of UORO, half-life of jax.grad."""
    cell, (task, _) = TINY.make_cell("elman"), TINY.make_tasks()
    params, key = readout.init(cell, task, jax.random.key(4)), jax.random.key(5)
    found = forgetting_rate.compare(TINY, cell, task, params, 3, key)
    batch = TINY.make_tasks()[1].sample(jax.random.split(key, 4)[0], 3)

    def gradients(method, xs, target, key=None):
        def loss(y, t):
            answer = y @ params.kernel + params.bias
            return jnp.where(t == 6, jnp.sum((answer - target) ** 2), 0)

        options = {"key": key} if key is not None else {}
        return ravel_pytree(online.gradient(method, cell, params.cell, xs, loss, **options)[0])[0]

    pairs = list(zip(jnp.moveaxis(batch.inputs, 1, 0), batch.targets[-1], strict=True))
    exact = np.stack([gradients(online.RTRL(), *pair) for pair in pairs])
    square = np.sum(exact**2)
    assert found["missed"].shape == (7,) and found["missed"][0] == pytest.approx(1)
    for k in (1, 2, 6):
        own = np.stack([gradients(online.Truncated(k), *pair) for pair in pairs])
        assert found["missed"][k] == pytest.approx(np.sum((own - exact) ** 2) / square, rel=1e-4)

    draw = jax.jit(jax.vmap(lambda *given: gradients(online.UORO(), *given), (None, None, 0)))
    keys = jax.random.split(jax.random.key(6), 1000)
    drawn = np.stack([draw(*pair, keys) for pair in pairs])  # [B, M, P]
    off = drawn - exact[:, None]
    errors = np.sum(off**2, axis=(0, 2)) / square
    allowed = 4 * errors.std() * np.sqrt(1 / 1000 + 1 / TINY.draws)
    assert abs(errors.mean() - found["variance"]) < allowed
    groups = off.reshape(3, 10, 100, -1).mean(2)  # the average of 100 draws errs by V / 100
    averaged = np.sum(groups**2, axis=(0, 2)) / square
    assert averaged.mean() == pytest.approx(errors.mean() / 100, rel=0.5)

    def norms(start):  # of dL/ds at the steps of each sequence, by adding to the states
        def loss(added):
            carry = cell.initial_carry((3,))
            for t, x in enumerate(batch.inputs):
                carry = carry._replace(h=carry.h + added[t])
                carry = cell.step(params.cell, carry, cell.project(params.cell, x))
            answer = cell.output(carry) @ params.kernel + params.bias
            return jnp.sum((answer - batch.targets[-1]) ** 2)

        return jnp.linalg.norm(jax.grad(loss)(start), axis=-1)

    median = np.median(np.log(norms(jnp.zeros((7, 3, 3)))), axis=1)[::-1]
    slope = np.polyfit(np.arange(1, 8), median, 1)[0]
    assert found["half_life"] == pytest.approx(-np.log(2) / slope, rel=1e-4)
    outputs = readout.apply(cell, params, batch.inputs)
    want = np.mean((outputs - batch.targets)[3:] ** 2)
    assert found["loss"] == pytest.approx(float(want), rel=1e-5)


def test_what_a_batch_holds_depends_on_the_delay_alone():
    key = jax.random.key(1)
    for delay in TINY.delays:
        batch = jax.jit(lambda key, delay: TINY.sample(key, delay, 2))(key, delay)
        np.testing.assert_array_equal(batch.targets[delay:], batch.inputs[:-delay])
        assert (batch.mask == (np.arange(7) >= delay)[:, None]).all()


def test_a_gradient_that_halves_gives_the_formula():
    k = np.arange(64)
    found = forgetting_rate.describe(0.1, np.float32(3), np.float32(16), 4.0 ** (-k / 3))
    half = 3 / 2 * np.log2(10_000 / 16)
    assert found["formula"] == pytest.approx(half)
    assert found["bound"] == pytest.approx(3 / 2 * np.log2(10_000))
    assert found["k_10000"] == np.ceil(half) and found["k_100"] == np.ceil(1.5 * np.log2(100 / 16))
    assert found["k_1"] == 1 and found["first_error"] == pytest.approx(2 ** (-1 / 3))
    assert json.loads(json.dumps(found)) == found  # plain numbers
    lasting = forgetting_rate.describe(0.1, np.inf, 2e4, np.ones(64))
    assert (lasting["k_1"], lasting["bound"], lasting["formula"]) == (1, np.inf, 1)
    assert forgetting_rate.describe(0.1, 3.0, 1.0, np.ones(64))["k_10000"] == 64  # all T steps


def summary_of(**change):
    usual = {"half_life": 8.0, "variance": 100.0, "first_error": 0.9, "k_10000": 27}
    usual |= {"formula": 26.6, "bound": 53.2}
    fast = usual | {"half_life": 2.0, "k_10000": 7, "formula": 6.6, "bound": 13.3}
    return {"cells": {"gru": [usual, fast, fast, fast | change]}}


def test_the_verdict_follows_its_rule():
    usual = forgetting_rate.Config()
    assert forgetting_rate.verdict(usual, summary_of()).outcome == "reproduced"
    one = forgetting_rate.verdict(usual, summary_of(k_10000=2))  # of four
    assert one.outcome == "reproduced"
    for change, broken in (
        ({"variance": 0.8}, "one step of truncation errs less than one draw"),
        ({"k_10000": 14}, "k* is at most 6.6 half-lives"),
    ):
        found = forgetting_rate.verdict(usual, summary_of(**change))
        failed = [name for name, holds in found.conditions.items() if not holds]
        assert found.outcome == "not reproduced" and failed == [f"gru: {broken}"]
    summary = summary_of(k_10000=2)
    summary["cells"]["gru"][1] = summary["cells"]["gru"][3]  # two of four
    found = forgetting_rate.verdict(usual, summary)
    failed = [name for name, holds in found.conditions.items() if not holds]
    assert found.outcome == "not reproduced" and failed == ["gru: k* is near h/2 log2(M / V)"]
    alike = summary_of()
    alike["cells"]["gru"][0]["half_life"] = 7.9
    found = forgetting_rate.verdict(usual, alike)
    assert found.outcome == "inconclusive" and "factor of 4" in found.reason
    for fewer in ("steps", "seeds", "features", "length", "sequences", "draws"):
        config = dataclasses.replace(usual, **{fewer: getattr(usual, fewer) - 1})
        assert forgetting_rate.verdict(config, summary_of()).outcome == "quick run only", fewer


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ("--delays 4 2", ("--delays", "rising order", "4 2")),
        ("--delays 0 2", ("--delays", "positive", "got 0 2")),
        ("--length 16", ("--length", "at least 17", "got 16")),
        ("--sequences 0", ("--sequences", "at least 1", "got 0")),
        ("--draws 0", ("--draws", "at least 1", "got 0")),
        ("--cells none", ("--cells", "none")),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, names, refuses):
    refuses(forgetting_rate, arguments, names)
