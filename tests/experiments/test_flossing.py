"""The flossing experiment: a small run, its numbers by hand, its verdict, its files and manners."""

import dataclasses
import json

import jax
import numpy as np
import optax
import pytest
from scripts import ROOT, load

from rnnjax.cells.initializers import Gaussian
from rnnjax.experiment import readout, select
from rnnjax.runs import Run
from rnnjax.tasks import DelayedXOREngelken2023

SCRIPT = ROOT / "experiments" / "flossing.py"
pytestmark = pytest.mark.slow
flossing = load(SCRIPT)
TINY = flossing.Config(
    features=5,
    exponents=3,
    delays=(1, 2),
    seeds=2,
    steps=20,
    flossing_steps=10,
    batch_size=4,
)
NETWORKS = ["as drawn", "flossed", "as drawn, trained", "flossed, trained"]


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("flossing") / "run"
    return out, flossing.run(dataclasses.replace(TINY, out=out))


def test_a_run_writes_everything_it_promises(tiny_run):
    out, summary = tiny_run
    assert json.loads((out / "summary.json").read_text()) == summary
    entry = summary["cells"]["elman"]
    assert set(entry) == {"accuracy", "root_mean_square", "log_condition"}
    assert {d: [*of] for d, of in entry["accuracy"].items()} == {
        "1": NETWORKS[:2],
        "2": NETWORKS[:2],
    }
    for key in ("root_mean_square", "log_condition"):
        assert [*entry[key]] == NETWORKS and all(len(of) == 2 for of in entry[key].values())
    for name in ("accuracy", "exponents", "gradients"):
        for ending in ("png", "svg", "csv"):
            assert (out / f"{name}.{ending}").stat().st_size > 100
    assert summary["verdict"]["outcome"] == "quick run only"
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    phases = {line["phase"] for line in lines}
    trained = {f"{network}, d = {d}" for network in NETWORKS[:2] for d in (1, 2)}
    assert phases == trained | {"flossing"}
    at_first = {(line["phase"], line["seed"]): line["loss"] for line in lines if line["step"] == 10}
    for seed in (0, 1):  # the same batches, and different networks
        drawn, flossed = (at_first[f"{network}, d = 2", seed] for network in NETWORKS[:2])
        assert drawn != flossed and abs(drawn - flossed) < 0.5


def test_figures_can_be_redrawn(tiny_run):
    out, summary = tiny_run
    (out / "exponents.png").unlink()
    assert flossing.run(dataclasses.replace(TINY, out=out, redraw=True)) == summary
    assert (out / "exponents.png").exists()


def test_the_numbers_of_networks_as_drawn_are_those_of_numpy(tiny_run):
    """Exponents and gradients along held-out streams, by products of explicit Jacobians."""
    out, summary = tiny_run
    cell = TINY.make_cell("elman")
    assert cell.recurrent_kernel_init == cell.kernel_init == Gaussian()
    xs = DelayedXOREngelken2023(16 + 8, 2).sample(jax.random.fold_in(jax.random.key(0), 2), 8)
    exponents, conditions, profiles = [], [], []
    for seed in (0, 1):
        init_key, _ = jax.random.split(jax.random.key(seed))
        params = readout.init(cell, DelayedXOREngelken2023(), init_key)
        w, u, b = (np.asarray(a, float) for a in params.cell)
        head = np.asarray(params.kernel, float)[:, 0]
        of_streams = []
        for x in np.moveaxis(np.asarray(xs.inputs, float), 1, 0):
            h, steps = np.zeros(5), []
            for one in x:
                h = np.tanh(one @ w + h @ u + b)
                steps.append((1 - h**2)[:, None] * u.T)
            volume = [np.linalg.slogdet(j)[1] for j in steps[16:]]
            product, lags = np.eye(5), []
            for j in steps[:-5:-1]:
                product = product @ j
                lags.append(np.linalg.norm(head @ product) / np.linalg.norm(head))
            values = np.linalg.svd(product, compute_uv=False)
            of_streams.append((np.mean(volume), np.log(values[0] / values[2]), np.log(lags)))
        volumes, condition, logs = zip(*of_streams, strict=True)
        exponents.append(np.mean(volumes))
        conditions.append(np.median(condition))
        profiles.append(logs)
    found = summary["cells"]["elman"]["log_condition"]["as drawn"]
    np.testing.assert_allclose(found, conditions, rtol=2e-3)
    rows = select(Run(out).read_table("exponents"), network="as drawn")
    assert rows["i"].tolist() == [1, 2, 3, 4, 5] and (np.diff(rows["median"]) < 0).all()
    # Medians over two seeds are means; all exponents add up to the mean of ln |det J|.
    np.testing.assert_allclose(rows["median"].sum(), np.mean(exponents), rtol=1e-3)
    rows = select(Run(out).read_table("gradients"), network="as drawn")
    assert rows["lag"].tolist() == [1, 2, 3, 4]
    median = np.median(np.reshape(profiles, (-1, 4)), 0)
    np.testing.assert_allclose(rows["median"], median, atol=1e-4)


def test_an_update_descends_its_loss_and_records_the_norm_before_clipping(tiny_run):
    """The first losses of metrics.jsonl, from the networks as drawn and the keys of their seeds."""
    out, _ = tiny_run
    task, cell = DelayedXOREngelken2023(10, 2), TINY.make_cell("elman")
    _, own = jax.random.split(jax.random.key(0))
    state = readout.start(TINY, optax.sgd(0.0), cell, task)
    state = jax.tree.map(lambda a: a[0], state)

    def loss(params, batch):
        return task.loss(readout.apply(cell, params, batch.inputs), batch)

    step = flossing.make_train_step(loss, optax.sgd(0.0))
    for _ in range(9):  # metrics record the tenth update
        own, _ = jax.random.split(own)
    batch = task.sample(jax.random.split(own)[1], 4)
    after, metrics = jax.jit(step)(state, batch)
    value, slope = jax.jit(jax.value_and_grad(loss))(state.params, batch)
    norm = np.sqrt(sum(np.sum(np.square(g)) for g in jax.tree.leaves(slope)))
    assert metrics["loss"] == pytest.approx(float(value), rel=1e-6)
    assert metrics["grad_norm"] == pytest.approx(float(norm), rel=1e-5)
    assert after.step == 1 and (after.params.kernel == state.params.kernel).all()
    lines = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    (line,) = [
        at for at in lines if (at["phase"], at["seed"], at["step"]) == ("as drawn, d = 2", 0, 10)
    ]
    assert line["loss"] == pytest.approx(float(value), abs=0.1)  # ten small steps away


def summary_of():
    """Return a summary of three networks that reproduces the claim."""
    both = {"as drawn": [0.99, 0.96, 1.0], "flossed": [1.0, 0.99, 0.97]}
    accuracy = {"5": both, "15": both | {"as drawn": [0.5, 0.6, 0.94]}}
    away = {"as drawn": [1.0, 1.1, 1.2], "flossed": [0.1, 0.05, 0.15]}
    condition = {"as drawn": [90.0, 80.0, 70.0], "flossed": [10.0, 11.0, 12.0]}
    entry = {"accuracy": accuracy, "root_mean_square": away, "log_condition": condition}
    return {"cells": {"elman": entry}}


def test_the_verdict_follows_its_rule():
    usual = flossing.Config()
    assert flossing.verdict(usual, summary_of()).outcome == "reproduced"
    changes = [
        ("all learn", ("accuracy", "5", "as drawn"), 0.94),
        ("all learn", ("accuracy", "5", "flossed"), 0.94),
        ("flossed networks learn", ("accuracy", "15", "flossed"), 0.94),
        ("no other network does", ("accuracy", "15", "as drawn"), 0.95),
        ("near zero", ("root_mean_square", "flossed"), 0.151),
        ("better conditioned", ("log_condition", "flossed"), 90.0),
    ]
    for broken, (*place, network), value in changes:
        summary = json.loads(json.dumps(summary_of()))  # no list is shared
        entry = summary["cells"]["elman"]
        for key in place:
            entry = entry[key]
        entry[network][0] = value
        found = flossing.verdict(usual, summary)
        assert found.outcome == "not reproduced", broken
        failed = [name for name, holds in found.conditions.items() if not holds]
        assert len(failed) == 1 and failed[0].endswith(broken), (failed, broken)
    for fewer in ("steps", "flossing_steps", "seeds", "features", "exponents"):
        config = dataclasses.replace(usual, **{fewer: getattr(usual, fewer) - 1})
        assert flossing.verdict(config, summary_of()).outcome == "quick run only", fewer
    shorter = dataclasses.replace(usual, delays=(5, 10))
    summary = summary_of()
    accuracy = summary["cells"]["elman"]["accuracy"]
    accuracy["10"] = accuracy["15"]
    assert flossing.verdict(shorter, summary).outcome == "quick run only"


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ("--delays 5", ("--delays", "two or more", "(5,)")),
        ("--delays 20 10", ("--delays", "rising order", "20 10")),
        ("--delays 0 10", ("--delays", "at least 1", "(0, 10)")),
        ("--exponents 81", ("--exponents", "at most 80", "elman", "81")),
        ("--cells lstm --features 3", ("--exponents", "at most 6", "lstm", "75")),
        ("--flossing-steps 0", ("--flossing-steps", "at least 1", "0")),
        ("--cells none", ("--cells", "none")),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, names, refuses):
    refuses(flossing, arguments, names)
