"""Gates, weights and gradients over training: what a run writes, and the claim in small."""

import copy
import dataclasses
import json
import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scripts import ROOT, load, without_figures

import rnnjax
from rnnjax import diagnostics, tasks, training
from rnnjax.experiment import readout, select, weight_tables
from rnnjax.runs import Run

pytestmark = pytest.mark.slow
experiment = load(ROOT / "experiments" / "gates.py")

TINY = experiment.Config(
    cells=("gru",),
    length=20,
    features=16,
    steps=300,
    learning_rate=1e-2,
    snapshots=2,
    seeds=2,
    record_every=100,
)
FIGURES = (
    "adjoint_norms",
    "gates",
    "gru_eigenvalues",
    "gru_gradient_input_kernel",
    "gru_gradient_maps",
    "gru_gradient_recurrent_kernel",
    "gru_singular_values",
    "gru_weights_input_kernel",
    "gru_weights_maps",
    "gru_weights_recurrent_kernel",
    "half_lives",
    "learning_curves",
    "saturation",
    "update_ratios",
)


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    """A run without its figures."""
    out = tmp_path_factory.mktemp("tiny") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "run", without_figures(experiment.run))
        return out, experiment.run(dataclasses.replace(TINY, out=out))


def test_a_run_writes_everything_it_promises(tiny_run):
    out, summary = tiny_run
    assert json.loads((out / "summary.json").read_text()) == summary
    entry = summary["cells"]["gru"]
    assert entry["chance"] == pytest.approx(1 / 6) and len(entry["loss_of_seeds"]) == 2
    health = entry["health"]["weights"]["cell.recurrent_kernel"]
    assert health == {"size": 2 * 3 * 16**2, "nan": 0, "infinite": 0, "dead": 0}
    assert set(entry["health"]["gradients"]) == set(entry["health"]["weights"])

    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    places = [(step, seed) for step in (100, 200, 300) for seed in (0, 1)]
    assert [(row["step"], row["seed"]) for row in rows] == places
    live = "adjoint_norm_lag_5", "update_ratio_cell.recurrent_bias", "gate_z_high", "gate_r_low"
    assert set(live) <= set(rows[0])

    tables = {path.stem: Run(out).read_table(path.stem) for path in out.glob("*.csv")}
    assert set(tables["half_lives"]["step"]) == {0, 150, 300} == set(tables["eigenvalues"]["step"])
    assert len(tables["singular_values"]["value"]) == 3 * 3 * 16  # steps, gates, H
    start = tables["singular_values"]["value"][tables["singular_values"]["step"] == 0]
    np.testing.assert_allclose(start, 1, rtol=1e-5)
    gates = tables["gates"]
    assert set(gates["gate"]) == {"r", "z"} and set(gates["phase"]) == {"before", "after"}
    nearest = tables["adjoint_norms"]["series"] == 1
    np.testing.assert_allclose(tables["adjoint_norms"]["median"][nearest], 1, rtol=1e-6)


def test_tables_hold_what_the_trained_network_is(tiny_run):
    """The blocks of the first seed, read back, have the eigenvalues of the table."""
    table = select(Run(tiny_run[0]).read_table("blocks"), what="weights", phase="after")
    blocks = weight_tables.unpack(table)
    assert {kernel: list(gates) for kernel, gates in blocks.items()} == {
        "input_kernel": ["r", "z", "n"],
        "recurrent_kernel": ["r", "z", "n"],
        "bias": ["r", "z", "n"],
        "recurrent_bias": [""],
    }
    assert blocks["bias"]["r"].shape == (1, 16)
    spectra = select(Run(tiny_run[0]).read_table("eigenvalues"), gate="z", step=300)
    want = np.linalg.eigvals(blocks["recurrent_kernel"]["z"])
    got = spectra["real"] + 1j * spectra["imag"]
    np.testing.assert_allclose(np.sort_complex(got), np.sort_complex(want), atol=1e-6)


def test_the_same_arguments_give_the_same_bytes(tiny_run, tmp_path, monkeypatch, capsys):
    out, summary = tiny_run
    monkeypatch.setattr(experiment, "run", without_figures(experiment.run))
    again = dataclasses.replace(TINY, out=tmp_path / "again")
    assert experiment.run(again) == summary
    printed = capsys.readouterr().out
    assert "GRU: " in printed and "all finite, none dead" in printed
    for path in [*out.glob("*.csv"), out / "summary.json", out / "metrics.jsonl"]:
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


def test_figures_can_be_redrawn_from_the_tables(tiny_run, monkeypatch):
    out, summary = tiny_run
    save, drawn = Run.save_figure, []

    def record(run, name, figure):
        drawn.append(name)
        if name in ("half_lives", "gru_weights_maps"):  # all would take long
            save(run, name, figure)

    monkeypatch.setattr(Run, "save_figure", record)
    assert experiment.run(dataclasses.replace(TINY, out=out, redraw=True)) == summary
    assert sorted(drawn) == list(FIGURES)
    for ending in ("png", "svg"):
        assert (out / f"half_lives.{ending}").stat().st_size > 1000


def test_a_train_step_reports_the_adjoints_of_its_own_loss():
    task, cell = tasks.AddingArjovsky2016(5), rnnjax.Elman(3)
    params = readout.init(cell, task, jax.random.key(0))
    batch = task.sample(jax.random.key(1), 3)
    optimizer = optax.sgd(0.5)
    state = training.TrainState(params, optimizer.init(params), jnp.int32(0), jax.random.key(2))
    after, metrics = jax.jit(experiment.make_train_step(cell, task, optimizer))(state, batch)

    def loss(outputs):
        return task.loss(outputs @ params.kernel + params.bias, batch)

    a = diagnostics.adjoints(cell, params.cell, batch.inputs, loss).h  # [T, B, H]
    for lag in (1, 2, 5):
        want = np.median(np.linalg.norm(a[5 - lag], axis=-1))
        assert metrics[f"adjoint_norm_lag_{lag}"] == pytest.approx(want, rel=1e-5)
    change = np.linalg.norm(after.params.kernel - params.kernel)
    ratio = change / np.linalg.norm(after.params.kernel)
    assert metrics["update_ratio_kernel"] == pytest.approx(ratio, rel=1e-5)
    assert not any(name.startswith("gate_") for name in metrics)  # an Elman network has none


def test_half_lives_of_units_by_rank():
    half_life = np.stack([np.arange(1.0, 9), np.full(8, np.inf)])  # [S, H]
    observed = {"gates": {"f": SimpleNamespace(half_life=half_life)}}
    found = {q: life.tolist() for q, life in experiment.lives(observed, "lstm").items()}
    assert found == {
        0.125: [1, math.inf],
        0.5: [4, math.inf],
        0.875: [7, math.inf],
        1: [8, math.inf],
    }


def test_every_part_of_the_verdict_counts(tiny_run):
    def after(entry=None, config=experiment.Config(), **growth):  # noqa: B008
        cells = copy.deepcopy(tiny_run[1]["cells"])
        cells["gru"] |= {"loss_of_seeds": [0.01, 0.01, 0.01, 1.0]} | (entry or {})
        cells["gru"]["longest_unit"]["growth"] |= {"low": 1.1} | growth
        return experiment.verdict(config, {"cells": cells}).outcome

    assert after() == "reproduced"
    assert after(low=0.9) == "not reproduced"
    slow = {"loss_of_seeds": [0.01, 0.01, 1.0, 1.0]}
    assert after(slow) == "inconclusive"
    for option, value in {"steps": 599, "seeds": 7, "features": 31, "length": 59}.items():
        small = dataclasses.replace(experiment.Config(), **{option: value})
        assert after(config=small) == after(slow, config=small) == "quick run only"
    nothing = experiment.verdict(TINY, {"cells": {"elman": {}}})
    assert (nothing.outcome, nothing.reason) == ("inconclusive", "no LSTM or GRU was watched")


def test_the_claim_holds_in_small(tiny_run):
    """On adding over 20 steps the GRU's longest-lived unit comes to live longer."""
    summary = tiny_run[1]
    verdict = summary["verdict"]
    assert verdict["outcome"] == "quick run only" and all(verdict["conditions"].values())
    assert "--steps 300 is below 600" in verdict["reason"]
    entry = summary["cells"]["gru"]
    assert entry["final_loss"] < entry["chance"] / 5
    assert entry["longest_unit"]["after"] > 2 * entry["longest_unit"]["before"]


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ("--steps 0", ("--steps", "at least 1", "0")),
        ("--seeds 1", ("--seeds", "at least 2", "1")),
        ("--length 1", ("--length", "at least 2", "1")),
        ("--task temporal_order --length 9", ("--length", "at least 10", "9")),
        ("--task copy_memory", ("--task", "copy_memory", "temporal_order")),
        ("--cells lstm lstm", ("--cells", "once")),
        ("--learning-rate nan", ("--learning-rate", "positive", "nan")),
        ("--snapshots some", ("--snapshots", "whole number", "some")),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, names, refuses):
    refuses(experiment, arguments, names)
