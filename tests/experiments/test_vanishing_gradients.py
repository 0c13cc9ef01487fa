"""Experiments run, twice alike, from Python and from the shell; and what they claim is so."""

import dataclasses
import json
import math
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scripts import ROOT, load

from rnnjax import LSTM, tasks
from rnnjax.command_line import ArgumentError
from rnnjax.experiment import readout

EXPERIMENTS = ROOT / "experiments"
SCRIPT = EXPERIMENTS / "vanishing_gradients.py"
SUMMARY = ("parameters", "half_life_init", "half_life_trained", "final_loss", "chance", "success")

vanishing = load(SCRIPT)
TINY = vanishing.Config(
    cells=("lstm",), length=10, features=3, steps=4, snapshots=2, seeds=2, record_every=2
)
FLAGS = "--cells lstm --length 10 --features 3 --steps 4 --snapshots 2 --seeds 2 --record-every 2"


def shell(*arguments, check=None):
    command = [sys.executable, "-W", "error", str(SCRIPT), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if check is not None:
        assert done.returncode == check, done.stderr
    return done


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("tiny") / "run"
    return out, vanishing.run(dataclasses.replace(TINY, out=out))


def test_a_run_writes_everything_it_promises(tiny_run):
    out, summary = tiny_run
    assert json.loads((out / "summary.json").read_text()) == summary
    assert list(summary) == ["lstm", "verdict"]
    for row in [summary["lstm"]]:
        assert set(SUMMARY) <= set(row)
        assert row["chance"] == pytest.approx(1 / 6)
        assert row["parameters"] == 72 + 4
        assert 0 < row["final_loss"] < 10 and row["half_life_init"] > 0
    for name in ("gradient_profiles", "profile_over_training", "learning_curves", "path_split"):
        for ending in ("png", "svg", "csv"):
            assert (out / f"{name}.{ending}").stat().st_size > 100
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    keys = [(row["cell"], row["step"], row["seed"]) for row in rows]
    assert keys == [("lstm", t, s) for t in (2, 4) for s in (0, 1)]
    assert all(math.isfinite(row["loss"]) and row["grad_norm"] > 0 for row in rows)
    assert json.loads((out / "config.json").read_text())["length"] == 10


@pytest.mark.slow
def test_the_same_arguments_give_the_same_bytes_from_the_shell(tiny_run, tmp_path):
    out, _ = tiny_run
    done = shell(*FLAGS.split(), "--out", tmp_path / "again", check=0)
    assert done.stderr == ""
    for name in ("metrics.jsonl", "summary.json", "gradient_profiles.csv", "learning_curves.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes(), name
    header, row, *_ = done.stdout.splitlines()
    assert all(column in header for column in SUMMARY)
    assert row.split()[0] == "lstm"


@pytest.mark.slow
def test_a_seed_is_the_same_in_any_company(tiny_run, tmp_path):
    """To the last bit, with members for all devices; alone, it sums a batch that is split."""
    out, _ = tiny_run
    rows = {}
    for seeds in (1, 3):
        config = dataclasses.replace(TINY, seed=1, seeds=seeds, out=tmp_path / str(seeds))
        vanishing.run(config)
        rows[seeds] = read_seed(tmp_path / str(seeds), 1)
    assert rows[3] == read_seed(out, 1)
    for alone, together in zip(rows[1], rows[3], strict=True):
        alone, together = json.loads(alone), json.loads(together)
        assert alone.pop("cell") == together.pop("cell")
        assert alone == pytest.approx(together, rel=1e-4)


def read_seed(directory, seed):
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    return [line for line in lines if f'"seed": {seed}' in line]


@pytest.mark.slow
def test_figures_can_be_redrawn_from_the_run(tiny_run):
    out, _ = tiny_run
    figures = {path: path.read_bytes() for path in [*out.glob("*.svg"), *out.glob("*.png")]}
    for path in figures:
        path.unlink()
    shell("--redraw", "--out", out, check=0)
    assert {path: path.read_bytes() for path in figures} == figures


def test_a_run_is_not_overwritten_unless_asked(tiny_run, capsys):
    out, summary = tiny_run
    before = (out / "metrics.jsonl").read_bytes()
    message = r"--out: .* already holds a run, of --length 10, not 11; .* or --overwrite"
    with pytest.raises(ArgumentError, match=message):
        vanishing.run(dataclasses.replace(TINY, out=out, length=11))
    assert vanishing.run(dataclasses.replace(TINY, out=out)) == summary
    assert "is finished" in capsys.readouterr().out
    assert (out / "metrics.jsonl").read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"task": "adding_hochreiter1997", "length": 12},
        {"task": "copy_memory", "length": 3},
        {"task": "digits", "length": None, "permuted": True},
    ],
    ids=lambda changes: changes["task"],
)
def test_every_task_runs(changes, tmp_path, monkeypatch):
    monkeypatch.setenv("RNNJAX_DATA", str(tmp_path / "data"))
    config = dataclasses.replace(TINY, cells=("elman",), out=tmp_path / "run", **changes)
    row = vanishing.run(config)["elman"]
    chances = {
        "adding_hochreiter1997": (2 - 0.1 - 0.9 / 5) / 48,
        "copy_memory": 10 * math.log(8) / 23,
        "digits": math.log(10),
    }
    assert row["chance"] == pytest.approx(chances[config.task])
    assert math.isfinite(row["final_loss"]) and row["half_life_init"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("task", [tasks.AddingHochreiter1997(10), tasks.CopyMemory(2, memorise=2)])
def test_the_measured_profile_is_the_gradient_of_each_sequences_own_last_answer(task, x64):
    cell = LSTM(4, param_dtype=jnp.float64)
    params = jax.tree.map(
        lambda p: p.astype(jnp.float64), readout.init(cell, task, jax.random.key(0))
    )
    batch = task.sample(jax.random.key(1), 3)
    lengths, _ = tasks.last_answer(batch)
    lags = int(lengths.min())
    measured = vanishing.gradient_profile(cell, task, lags, params, batch)
    for b, length in enumerate(np.asarray(lengths).tolist()):

        def loss(displacements, b=b, length=length):
            """The loss of one answer by a Python loop, the carry displaced before every step."""
            carry = cell.initial_carry(())
            for x, d in zip(batch.inputs[:length, b], displacements, strict=False):
                carry = jax.tree.map(jnp.add, carry, d)
                carry = cell.step(params.cell, carry, cell.project(params.cell, x))
            carry = jax.tree.map(jnp.add, carry, displacements[length])
            y = cell.output(carry) @ params.kernel + params.bias
            target = batch.targets[length - 1, b]
            if isinstance(task, tasks.Regression):
                return jnp.mean((y - target) ** 2)
            return jax.nn.logsumexp(y) - y[target]

        zero = [jax.tree.map(jnp.zeros_like, cell.initial_carry(()))] * (length + 1)
        gradients = jax.grad(loss)(zero)
        norms = np.array([np.linalg.norm(np.concatenate(g)) for g in gradients])
        want = np.log(norms[length - 1 :: -1][:lags] / norms[length])
        np.testing.assert_allclose(measured["joint"][:, b], want, rtol=1e-8, atol=1e-8)


def test_matched_cells_have_the_parameters_of_the_largest():
    task = tasks.AddingArjovsky2016()
    config = vanishing.Config(match_parameters=True)
    counts = [readout.count(readout.sized_cell(config, name, task), task) for name in config.cells]
    assert readout.count(LSTM(64), task) in counts
    assert min(counts) > 0.98 * max(counts)


@pytest.mark.slow
def test_training_that_diverges_stops_with_a_message_and_keeps_its_metrics(tmp_path):
    flags = "--cells elman --length 10 --features 3 --steps 6 --record-every 1 --learning-rate 1e38"
    done = shell(*flags.split(), "--seeds", 2, "--out", tmp_path / "run", check=1)
    assert done.stderr.count("\n") == 1
    assert "error: elman: " in done.stderr and "became" in done.stderr and "at step" in done.stderr
    stopped = int(done.stderr.split("at step ")[1].split()[0])
    lines = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in lines]
    assert sorted(set(steps)) == list(range(1, stopped))


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ("--steps -3", ("--steps", "at least 1", "-3")),
        ("--steps many", ("--steps", "whole number", "many")),
        ("--length -5", ("--length", "at least 2", "-5")),
        ("--task digits --length 100", ("--length", "64", "100")),
        ("--task coin_toss", ("--task", "coin_toss", "copy_memory")),
        ("--cells lstm transformer", ("--cells", "transformer", "gru")),
        ("--cells lstm lstm", ("--cells", "once")),
        ("--seeds 0", ("--seeds", "at least 1", "0")),
        ("--learning-rate nan", ("--learning-rate", "positive", "nan")),
        ("--permuted", ("--permuted", "digits", "adding")),
        ("--preset huge", ("--preset", "huge", "long")),
        ("--stesp 3", ("--stesp", "--steps")),
        ("--redraw", ("--redraw", "--out")),
        ("--task digits --batch-size 2000", ("--task digits", "batch_size", "1442")),
        (f"--out {SCRIPT}", ("--out", "is a file")),
        (f"--out {SCRIPT}/below", ("--out", "below")),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(
    arguments, names, refuses, monkeypatch, tmp_path
):
    monkeypatch.setenv("RNNJAX_DATA", str(tmp_path))
    refuses(vanishing, arguments, names)


@pytest.mark.slow
def test_a_wrong_argument_in_the_shell():
    done = shell("--features", "none", check=2)
    assert done.stderr.startswith("error: --features") and done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_the_long_preset_changes_defaults_only():
    from rnnjax.command_line import parse

    long = parse(vanishing.Config, ["--preset", "long", "--seeds", "2"], presets=vanishing.PRESETS)
    assert (long.steps, long.seeds, long.make_task().length) == (20000, 2, 750)
    assert vanishing.Config().make_task().length == 100


@pytest.mark.slow
def test_the_claim_holds_in_small(tmp_path):
    """On adding over 40 steps the GRU learns and holds its gradient; the Elman network does not."""
    config = vanishing.Config(
        cells=("elman", "gru"),
        length=40,
        features=32,
        steps=500,
        seeds=2,
        snapshots=2,
        out=tmp_path / "run",
    )
    summary = vanishing.run(config)
    assert list(summary) == ["elman", "gru", "verdict"]
    assert not (tmp_path / "run" / "path_split.png").exists()  # the LSTM's
    elman, gru = summary["elman"], summary["gru"]
    assert gru["success"] == 1 and gru["final_loss"] < 0.1 * gru["chance"]
    assert elman["success"] == 0 and elman["final_loss"] > 0.8 * elman["chance"]
    assert elman["half_life_trained"] < 5 < 20 < gru["half_life_trained"]
    verdict = summary["verdict"]
    assert verdict["outcome"] == "quick run only" and all(verdict["conditions"].values())
    for option in ("--steps 500 is below 1000", "--length 40 is below 100", "--seeds 2"):
        assert option in verdict["reason"]


MEMORYLESS = {"final_loss": 0.166, "chance": 1 / 6, "success": 0.0, "half_life_trained": 1.4}
SOLVED = {"final_loss": 0.004, "chance": 1 / 6, "success": 1.0, "half_life_trained": math.inf}


@pytest.mark.parametrize(
    ("elman", "gru", "outcome"),
    [
        ({}, {}, "reproduced"),
        ({}, {"half_life_trained": 7.0}, "reproduced"),
        ({}, {"half_life_trained": 6.9}, "not reproduced"),
        ({}, {"success": 0.5}, "not reproduced"),
        ({"success": 0.25}, {}, "not reproduced"),
        ({"final_loss": 0.13}, {}, "not reproduced"),
    ],
)
def test_every_part_of_the_verdict_counts(elman, gru, outcome):
    summary = {"elman": MEMORYLESS | elman, "lstm": SOLVED, "gru": SOLVED | gru}
    config = vanishing.Config()
    assert vanishing.verdict(config, summary).outcome == outcome
    quick = dataclasses.replace(config, steps=999)
    assert vanishing.verdict(quick, summary).outcome == "quick run only"


@pytest.mark.parametrize("cells", [{"elman": MEMORYLESS}, {"lstm": SOLVED, "gru": SOLVED}])
def test_without_elman_and_another_cell_there_is_nothing_to_compare(cells):
    verdict = vanishing.verdict(vanishing.Config(), cells)
    assert verdict.outcome == "inconclusive" and "Elman" in verdict.reason
