"""Sweeps: every trial runs once even if workers are killed; tables read back; what is refused."""

import csv
import dataclasses
import fcntl
import json
import math
import multiprocessing
import os
import shlex
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from databases import postgresql

from rnnjax import sweep
from rnnjax.command_line import ArgumentError
from rnnjax.runs import Run
from rnnjax.sweep import __main__, local, processes, retries, storage, trial

QUICK = Path(__file__).parents[1] / "quick_script.py"
WORKERS = multiprocessing.get_context("forkserver")
WORKERS.set_forkserver_preload(["rnnjax.sweep", "optuna.storages", "sqlalchemy.orm", "psycopg"])


def settings(search, set=(), **options):
    options = {"objective": "*.all", "heartbeat": 1, **options}
    return sweep.Settings(script=str(QUICK), search=search, set=dict(set), **options)


def start_worker(out):
    process = WORKERS.Process(target=sweep.work, args=(out,))
    process.start()
    return process


def until(true, seconds=600):
    """Wait for what another process does; the limit is far from what a busy machine needs."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def notes(out, number):
    path = out / "trials" / f"{number:04d}" / "notes"
    return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


def states(out):
    return [t.state for t in sweep.trials(out)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A grid with every possible result of a trial, run once."""
    out = tmp_path_factory.mktemp("sweeps") / "grid"
    search = {
        "name": "good,refused,non-finite,killed,nan,silent",
        "x": "lin:0:3:2",
        "cells": "gru+lstm",
    }
    told = []
    made = sweep.create(out, settings(search, {"steps": "2"}))
    assert sweep.work(out, report_line=told.append) == 12 + 2 * retries.MOST_CRASHES
    assert repr(sweep.report(out)) == repr(sweep.trials(out))  # NaN
    return out, made, told


def test_every_point_of_a_grid_is_run_once(finished):
    out, _, told = finished
    found = sweep.trials(out)
    names = "good", "refused", "non-finite", "killed", "nan", "silent"
    points = [(n, x, c) for n in names for x in (0.0, 3.0) for c in ("gru+lstm",)]
    assert [tuple(t.settings.values()) for t in found] == points
    for t, (name, x, cells) in zip(found, points, strict=True):
        starts = 1 + retries.MOST_CRASHES if name == "killed" else 1
        ends = [] if name in ("refused", "non-finite", "killed") else ["ended"]
        assert notes(out, t.number) == ["started"] * starts + ends
        words = shlex.split(t.command)
        given = ["--steps", "2", "--name", name, "--x", str(x), "--cells", *cells.split("+")]
        assert words == ["python", str(QUICK), *given, "--out", str(out / t.folder)]
        assert t.retries == starts - 1
    assert told[0].startswith(
        "trial 0 (name=good, x=0.0, cells=gru+lstm): 2; best 2 by trial 0; 1 of"
    )
    assert told[-1].endswith("12 of 12 done"), told
    assert sweep.work(out) == 0  # nothing is left to do


def test_the_state_of_a_trial_and_its_reason(finished):
    out, *_ = finished
    for t in sweep.trials(out):
        name, loss = t.settings["name"], (t.settings["x"] - 1) ** 2
        if name == "good":
            assert (t.state, t.reason) == ("complete", "")
            assert t.seeds == (loss, loss + 1, loss + 2)
            assert t.objective == statistics.mean(t.seeds) and t.seconds > 0
            assert (t.spread, t.std) == (2, 1)
            continue
        assert (
            t.state == "failed"
            and math.isnan(t.objective)
            and math.isnan(t.std) == (name != "nan") | math.isnan(t.std)
        )
        assert (
            t.reason
            == {
                "refused": "the loss became nan at step 3",
                "non-finite": "the loss became nan at step 3",
                "killed": "failed after 6 crashes; the last: killed by SIGKILL",
                "nan": "objective *.all is not finite: 1 of 3 seeds",
                "silent": "it ended without a summary.json",
            }[name]
        )


def test_tables_read_back(finished):
    import pyarrow.parquet

    out, *_ = finished
    found = sweep.trials(out)
    rows = pyarrow.parquet.read_table(out / "trials.parquet").to_pylist()
    with open(out / "trials.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(rows) == len(lines) == len(found)
    assert list(rows[0]) == list(lines[0])
    for t, row, line in zip(found, rows, lines, strict=True):
        fields = {k: v for k, v in dataclasses.asdict(t).items() if k not in ("settings", "seeds")}
        want = {**fields, **t.settings, "spread": t.spread, "std": t.std}
        assert row.keys() == {*want, "seeds"}
        np.testing.assert_array_equal(row["seeds"], t.seeds)
        np.testing.assert_array_equal([float(v) for v in line["seeds"].split()], t.seeds)
        for name, value in want.items():
            if isinstance(value, float):
                np.testing.assert_array_equal([row[name], float(line[name])], [value, value])
            else:
                assert row[name] == value and line[name] == str(value)


def test_the_best_trial_has_its_spread_and_a_command_to_run_it_again(finished, tmp_path):
    out, *_ = finished
    best = json.loads((out / "best.json").read_text())
    assert best["settings"] == {"name": "good", "x": 0.0, "cells": "gru+lstm"}
    assert (best["objective"], best["seeds"], best["spread"]) == (2.0, [1.0, 2.0, 3.0], 2.0)
    assert best["trials"] == {"complete": 2, "failed": 10}
    command = [sys.executable, *shlex.split(best["command"])[1:], "--out", str(tmp_path / "again")]
    subprocess.run(command, check=True)
    again = json.loads((tmp_path / "again" / "summary.json").read_text())
    assert again == json.loads((out / best["folder"] / "summary.json").read_text())


def test_figures_have_tables(finished):
    out, *_ = finished
    for name in ("parallel_coordinates", "heat_map"):
        assert (out / f"{name}.png").stat().st_size > 1000 and (out / f"{name}.svg").exists()
    table = Run(out).read_table("heat_map")
    cells = {(x, n): v for x, n, v in zip(*(table[k] for k in table), strict=True)}
    assert list(table) == ["x", "name", "objective"] and len(cells) == 12
    assert cells[0.0, "good"] == 2 and cells[3.0, "good"] == 5
    assert sum(np.isnan([*cells.values()])) == 10
    table = Run(out).read_table("parallel_coordinates")
    want = [t.objective for t in sweep.trials(out)]
    np.testing.assert_array_equal(table["objective"], want)


def test_a_creation_that_was_killed_is_completed(tmp_path, monkeypatch):
    import optuna

    given, enqueue, left = settings({"n": "int:1:7"}), optuna.Study.enqueue_trial, iter(range(3))

    def killed(*arguments, **options):
        next(left)
        enqueue(*arguments, **options)

    monkeypatch.setattr(optuna.Study, "enqueue_trial", killed)
    with pytest.raises(StopIteration):
        sweep.create(tmp_path / "a", given)
    monkeypatch.undo()
    made = [sweep.create(tmp_path / "a", given) for _ in range(2)]
    assert made[0] == made[1] == sweep.load(tmp_path / "a")
    assert [t.settings["n"] for t in sweep.trials(tmp_path / "a")] == [*range(1, 8)]
    assert states(tmp_path / "a") == ["waiting"] * 7


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_budget_is_exact_and_can_be_extended(tmp_path, sampler):
    search = {"x": "log:1e-3:2", "n": "int:1:6", "cells": "lstm,gru"}
    given = settings(search, {"steps": "1"}, sampler=sampler, seed=3)
    found = {}
    for out in (tmp_path / "alone", tmp_path / "together"):
        sweep.create(out, given, trials=4)
        helper = start_worker(out) if out.name == "together" else None
        sweep.work(out)
        if helper:
            helper.join()
            assert helper.exitcode == 0
        found[out.name] = sweep.trials(out)
        assert [t.state for t in found[out.name]] == ["complete"] * 4
        assert all(notes(out, number) == ["started", "ended"] for number in range(4))
    points = {name: [tuple(t.settings.values()) for t in trials] for name, trials in found.items()}
    assert len(set(points["alone"])) == 4
    assert all(1e-3 <= x <= 2 and n in range(1, 7) for x, n, _ in points["alone"])
    assert points["together"] == points["alone"]  # TPE draws at random to begin with
    sweep.create(out, given, trials=6)
    assert states(out) == ["complete"] * 4 + ["waiting"] * 2


@pytest.mark.slow
@pytest.mark.multiprocess
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_asked_to_stop_stops(tmp_path, number):
    """Its script is stopped, and another worker resumes it in the same folder."""
    out, go = tmp_path / "a", tmp_path / "go"
    sweep.create(out, settings({"n": "4"}, {"wait_for": str(go)}))
    leaver = start_worker(out)
    until(lambda: notes(out, 0) == ["started"])
    os.kill(leaver.pid, number)
    leaver.join()
    assert leaver.exitcode == (143 if number == signal.SIGTERM else 1)
    assert notes(out, 0) == ["started", "stopped"] and states(out) == ["waiting"]
    go.touch()
    assert sweep.work(out) == 1
    assert notes(out, 0) == ["started", "stopped", "started", "ended"]
    (t,) = sweep.trials(out)
    assert (t.state, t.retries) == ("complete", 1)
    assert len(Run(out / t.folder).read_rows("metrics.jsonl")) == 9  # it resumed


@pytest.mark.slow
@pytest.mark.multiprocess
def test_a_worker_waits_for_a_script_that_outlives_its_worker(tmp_path, monkeypatch):
    out, go = tmp_path / "a", tmp_path / "go"
    sweep.create(out, settings({"n": "4"}, {"wait_for": str(go)}))
    command = [sys.executable, "-c", f"from rnnjax import sweep; sweep.work({str(out)!r})"]
    victim = subprocess.Popen(command, env={**os.environ, "PATH": ""}, stderr=subprocess.DEVNULL)
    until(lambda: notes(out, 0) == ["started"])
    victim.kill()
    victim.wait()
    assert states(out) == ["running"]

    def pause(seconds, leave):
        if sweep.trials(out)[0].retries:  # its second attempt found the folder locked
            go.touch()
        time.sleep(0.05)

    monkeypatch.setattr(processes, "pause", pause)
    assert sweep.work(out) == 1
    assert notes(out, 0) == ["started", "ended"]
    assert [(t.state, t.retries) for t in sweep.trials(out)] == [("complete", 1)]


@pytest.mark.slow
def test_a_worker_that_dies_before_its_first_heartbeat_is_noticed(tmp_path):
    out = tmp_path / "a"
    sweep.create(out, settings({"n": "4"}))
    (first,), storage = queue(out)
    assert storage.set_trial_state_values(first._trial_id, type(first.state).RUNNING)
    assert sweep.work(out) == 1
    assert [(t.state, t.retries) for t in sweep.trials(out)] == [("complete", 1)]


def queue(out):
    found = sweep.open_study(sweep.load(out))
    return found.get_trials(), found._storage


def test_a_worker_waits_for_a_folder_that_another_process_writes_to(tmp_path, monkeypatch):
    out = tmp_path / "a"
    sweep.create(out, settings({"n": "4"}))
    folder = out / "trials" / "0000"
    folder.mkdir(parents=True)
    with open(folder / ".lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        paused = []

        def pause(seconds, leave):
            paused.append(seconds)
            fcntl.flock(lock, fcntl.LOCK_UN)

        monkeypatch.setattr(processes, "pause", pause)
        assert sweep.work(out) == 1
    assert len(paused) == 1 and notes(out, 0) == ["started", "ended"]


def test_a_worker_that_was_considered_dead_changes_nothing(tmp_path, monkeypatch):
    """Another worker has returned its trial to the queue; its measurements still count."""
    out, told = tmp_path / "a", []
    sweep.create(out, settings({"n": "4"}))
    watch = trial._watch

    def slow_watch(*arguments):
        result = watch(*arguments)
        if not told:
            with storage.opened(sweep.load(out)) as its:
                (running,) = its.get_trials()
                its.tell(running.number, state=type(running.state).FAIL)
        return result

    monkeypatch.setattr(trial, "_watch", slow_watch)
    assert sweep.work(out, report_line=told.append) == 1
    assert "another worker has taken it over" in told[0] and len(told) == 2
    assert notes(out, 0) == ["started", "ended"] and states(out) == ["complete"]


@pytest.mark.slow
@pytest.mark.parametrize("pruner", ["median", "halving", "hyperband"])
def test_pruning_stops_bad_trials(tmp_path, monkeypatch, pruner):
    monkeypatch.setattr(trial, "POLL", 0.01)
    out = tmp_path / "a"
    options = {"pruner": pruner, "prune_on": "loss", "seed": 1}
    sweep.create(
        out, settings({"x": "1,1.1,0.9,1.2,0.8,100"}, {"steps": "40", "pause": "0.01"}, **options)
    )
    sweep.work(out)
    found = sweep.trials(out)
    stopped = [t for t in found if t.state == "pruned"]
    if pruner == "hyperband":  # it has too few trials to compare
        assert len(found) == len(stopped) + states(out).count("complete")
        return
    last = found[-1]
    assert last.state == "pruned" and math.isnan(last.objective)
    assert notes(out, 5) == ["started", "stopped"]
    assert len(Run(out / last.folder).read_rows("metrics.jsonl")) < 3 * 40
    if pruner == "median":
        assert len(stopped) == 1
    frozen = sweep.open_study(sweep.load(out)).get_trials()[0]
    want = {step: 1 + 1 / step for step in range(1, 41)}  # the middle one of three seeds
    assert frozen.intermediate_values == pytest.approx(want)
    sweep.report(out)


def test_another_sweep_in_the_same_directory_is_refused(tmp_path):
    out, given = tmp_path / "a", settings({"n": "int:1:3"})
    sweep.create(out, given)
    for change, words in (
        ({"search": {"n": "int:1:4"}}, "search n was int:1:3, now int:1:4"),
        ({"set": {"steps": "4"}}, "set steps was not given, now 4"),
        ({"direction": "maximize"}, "direction was minimize, now maximize"),
    ):
        with pytest.raises(ArgumentError, match=f"holds another sweep: {words}; give another dir"):
            sweep.create(out, dataclasses.replace(given, **change))
    url = sweep.load(out).url
    other = dataclasses.replace(given, storage=url, study="a")
    with pytest.raises(ArgumentError, match="the study 'a' belongs to another sweep; .* --study"):
        sweep.create(tmp_path / "b", other)


@pytest.mark.slow
def test_a_missing_objective_stops_the_sweep_and_can_be_corrected(tmp_path):
    out = tmp_path / "a"
    sweep.create(out, settings({"n": "4,5"}, objective="gru.all"))
    for objective, words in (
        ("gru.all", "summary.json has no gru, only lstm"),
        ("lstm.mean", "lstm has no mean, only loss, all"),
        ("lstm", "lstm is neither a number nor a list of numbers; it holds loss, all"),
        ("lstm.loss.x", "lstm.loss holds no x"),
        ("lstm.*", "lstm has no single entry, only loss, all"),
    ):
        sweep.create(out, settings({"n": "4,5"}, objective=objective))
        with pytest.raises(ArgumentError) as error:
            sweep.work(out)
        assert words in str(error.value)
    assert states(out) == ["waiting", "waiting"]
    sweep.create(out, settings({"n": "4,5"}, objective="lstm.loss"))
    assert sweep.work(out) == 2
    assert [t.seeds for t in sweep.trials(out)] == [(1.0,), (2.0,)]
    assert [notes(out, i) for i in range(2)] == [["started", "ended"]] * 2
    with pytest.raises(ArgumentError, match=r"objective was lstm\.loss, now lstm\.all"):
        sweep.create(out, settings({"n": "4,5"}, objective="lstm.all"))


def test_a_network_of_ones_own_is_found_from_another_directory(tmp_path, monkeypatch):
    for folder in ("there", "elsewhere"):
        (tmp_path / folder).mkdir()
    (tmp_path / "there" / "mine.py").write_text("class MyCell: ...\n")
    monkeypatch.chdir(tmp_path / "there")
    given = settings({"network": "lstm,./mine.py:MyCell", "n": "4,5"}, {"steps": "1"})
    for _ in range(2):  # the same arguments are the same sweep
        sweep.create(tmp_path / "a", given)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert sweep.work(tmp_path / "a", trust=[tmp_path / "there"]) == 4
    found = sweep.report(tmp_path / "a")
    assert [t.state for t in found] == ["complete"] * 4, [t.reason for t in found]
    own = f"{tmp_path}/there/mine.py:MyCell"
    assert [t.settings["network"] for t in found] == ["lstm", "lstm", own, own]
    assert f"--network {own}" in found[-1].command
    table = Run(tmp_path / "a").read_table("heat_map")  # axes have the name of the class alone
    assert {*table["network"]} == {"lstm", "MyCell"} and len(table["objective"]) == 4


@pytest.mark.slow
def test_an_experiment_is_swept_over_a_cell_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("import rnnjax\n\n\nclass MyCell(rnnjax.GRU): ...\n")
    monkeypatch.chdir(tmp_path)
    options = {"length": "3", "features": "4", "steps": "2", "seeds": "1", "batch_size": "4"}
    given = sweep.Settings(
        script=str(Path(__file__).parents[2] / "experiments" / "vanishing_gradients.py"),
        search={"cells": "gru,./mine.py:MyCell"},
        set={**options, "snapshots": "1", "checkpoint_every": "1"},
        objective="*.final_loss",
    )
    sweep.create("a", given)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert sweep.work(tmp_path / "a", trust=[tmp_path / "mine.py"]) == 2
    found = sweep.trials(tmp_path / "a")
    assert [t.state for t in found] == ["complete"] * 2, [t.reason for t in found]
    assert found[0].objective == found[1].objective  # the same cell under another name


def test_curves_are_medians_over_members(tmp_path):
    from rnnjax.sweep.curve import Curve

    path = tmp_path / "metrics.jsonl"
    curve = Curve(path, "loss", "minimize")
    assert curve.read() == []

    def rows(cell, step, *losses):
        parts = [
            {"cell": cell, "seed": s, "step": step, "loss": v, "norm": 1}
            for s, v in enumerate(losses)
        ]
        return "".join(json.dumps(part) + "\n" for part in parts)

    first = rows("elman", 10, 1.0, 5.0, 2.0) + rows("elman", 20, 3.0, math.nan, math.inf)
    path.write_text(first[:-9])
    assert curve.read() == [(10, 2.0)]  # the last line is not whole, so its step neither
    path.write_text(first)
    assert curve.read() == []
    path.write_text(first + rows("lstm", 10, 7.0))
    ((step, value),) = curve.read()
    assert step == 20 and math.isnan(value)  # two of three are worse than any
    path.write_text(first + rows("lstm", 10, 7.0) + rows("lstm", 20, 6.0, math.nan, 4.0))
    assert curve.read(ended=True) == [(30, 7.0), (40, 6.0)]
    path.write_text(first)  # cut, and written again
    assert curve.read() == []
    path.write_text(first + rows("lstm", 10, 7.0) + rows("lstm", 20, 6.0) + rows("lstm", 30, 5.0))
    assert curve.read() == [] and curve.read(ended=True) == [(50, 5.0)]
    worst = Curve(path, "loss", "maximize")
    path.write_text(rows("lstm", 1, 3.0, math.nan, 5.0))
    assert worst.read(ended=True) == [(1, 3.0)]
    assert Curve(path, "", "minimize").read() == []


def test_cores_and_gpus_are_divided_among_workers(monkeypatch):
    assert local.divide([0, 1, 2, 3, 4], 2) == [[0, 1], [2, 3, 4]]
    assert local.divide([4, 5], 3) == [[4], [5], [4]]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, 3,GPU-a,7")
    got = [e["CUDA_VISIBLE_DEVICES"] for e in local.environments(2, 2)]
    assert got == ["2,3", "GPU-a,7"]
    assert local.environments(2, 0) == [{}, {}]
    with pytest.raises(ArgumentError, match="need 6 GPUs, but 4 can be seen"):
        local.environments(3, 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(
        local.subprocess,
        "run",
        lambda *a, **k: subprocess.CompletedProcess([], 0, "GPU 0: A\nGPU 1: B\n"),
    )
    assert local.gpus() == ["0", "1"]


WRONG = {
    "--search x=1 --objective a": "--out",
    "--out a --objective a": "--search needs a field",
    "--out a --search y=1 --objective a": "--search y: quick_script.py has no such field",
    "--out a --search n=-1 --objective a": "--n must be at least 0, got -1 (in n=-1)",
    "--out a --search cells=lstm,mgu --objective a": "--cells must be one of 'elman', 'lstm'",
    "--out a --search x=lin:0:1 --objective a": "--search x needs a number of points in a grid",
    "--out a --search x=1 --set x=2 --objective a": "x is both in --search and in --set",
    "--out a --search x=1 --objective a..b": "--objective must be names joined by dots",
    "--out a --search mesh=data=2 --objective a": "--search mesh: this option changes no number",
    "--out a --search checkpoint-every=5,9 --objective a": "--search checkpoint_every: this",
    "--out a --search keep=1 --objective a": "--search keep: quick_script.py has no such field",
    "--out a --search x=1 --set out=b --objective a": "--set out: a sweep sets --out of its trials",
    "--out a --search x=1 --objective a --trials 3": "--trials is for the samplers random and tpe",
    "--out a --search x=1 --objective a --sampler tpe": "--sampler tpe needs --trials",
    "--out a --search x=1 --objective a --pruner median": "--pruner median needs --prune-on",
    "--out a --search x=1 --objective a --sampler best": "--sampler must be one of 'grid'",
    "--out a --search x=1 --objective a --storage postgresql://u@/x?host=/nowhere": "--storage: ",
    "--out a --search x=1 --objective a --storage nonsense": "--storage: ",
    "--out a --search x=1 --objective a --heartbeat 0": "--heartbeat must be at least 1",
    "--out a --search x=1 --objective a --workers 0": "--workers must be at least 1, got 0",
}


@pytest.mark.parametrize("line", WRONG)
def test_wrong_arguments_are_refused_before_anything_starts(line, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["x"])
    with pytest.raises(SystemExit) as stop:
        __main__.main(["run", str(QUICK), *line.split()])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1
    assert WRONG[line] in error
    assert not (tmp_path / "a" / "trials").exists()


def test_other_commands_need_a_sweep(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["x"])
    for command in ("work", "report", "slurm"):
        with pytest.raises(SystemExit) as stop:
            __main__.main([command, "--out", str(tmp_path)])
        assert stop.value.code == 2 and "holds no sweep" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        __main__.main(["sweep"])
    assert "there are run, create, work, slurm, report" in capsys.readouterr().err


def command(*words):
    return [sys.executable, "-W", "error", "-m", "rnnjax.sweep", *words]


@pytest.mark.slow
@pytest.mark.multiprocess
def test_the_command_line_from_end_to_end(tmp_path):
    """Two workers; a third that joins finds nothing to do; run again nothing is repeated."""
    words = ["--search", "n=int:2:5", "--set", "steps=2", "--objective", "lstm.loss"]
    run = command("run", str(QUICK), "--out", "a", *words, "--workers", "2", "--heartbeat", "1")
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = done.stderr.splitlines()
    assert len(lines) == 4 and lines[-1].endswith("; 4 of 4 done")
    assert "best is trial 2 with 1:" in done.stdout
    again = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (again.stderr, again.stdout) == ("", done.stdout)
    assert [notes(tmp_path / "a", i) for i in range(4)] == [["started", "ended"]] * 4


def test_help_imports_nothing_heavy_and_has_examples():
    for words in ([], ["run"]):
        done = subprocess.run(command(*words, "--help"), capture_output=True, text=True, check=True)
        assert "experiments/vanishing_gradients.py --out sweeps/a" in done.stdout
        assert "TensorFlow" not in done.stdout
    code = "import sys, rnnjax.sweep.__main__; print([m for m in %r if m in sys.modules])"
    heavy = ("optuna", "submitit", "pyarrow", "matplotlib", "sqlalchemy", "rich.progress")
    done = subprocess.run([sys.executable, "-c", code % (heavy,)], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
@pytest.mark.multiprocess
def test_preempted_jobs_return_their_trial_to_the_queue(tmp_path):
    from rnnjax.sweep.slurm import submit

    out, go = tmp_path / "a", tmp_path / "go"
    sweep.create(out, settings({"n": "4"}, {"wait_for": str(go)}))
    (job,) = submit(out, 1, cluster="local", parameters={"timeout_min": 5})
    until(lambda: notes(out, 0) == ["started"])
    pid = int(subprocess.run(["pgrep", "-P", job.job_id], capture_output=True, text=True).stdout)
    os.kill(pid, signal.SIGUSR2)  # Slurm's warning; the job is queued again, and runs at once
    until(lambda: notes(out, 0) == ["started", "stopped", "started"])
    assert "Caught signal SIGUSR2" in (out / "jobs" / f"{job.job_id}_0_log.err").read_text()
    go.touch()
    assert job.result() == 0
    assert notes(out, 0) == ["started", "stopped", "started", "ended"]
    assert [(t.state, t.retries) for t in sweep.trials(out)] == [("complete", 1)]
    with pytest.raises(ArgumentError, match="submitit: "):
        submit(out, 1, cluster="local", parameters={"no_such_parameter": 1})


@pytest.mark.slow
@pytest.mark.multiprocess
def test_with_killed_workers_every_point_of_a_grid_is_done_once(tmp_path):
    """Four workers on one study (PostgreSQL's, or SQLite's) are killed at random."""
    with postgresql() as url:
        hit = kill_at_random(tmp_path / "grid", url)
    assert hit > 0
    print(f"{hit} trials were hit")


GRID = {"x": "lin:0:9:10", "n": "int:0:9"}


def kill_at_random(out, url, workers=4, kills=15):
    """Run a grid of 100 while workers are killed and replaced; return how many trials were hit."""
    rng = np.random.default_rng(0)
    sweep.create(out, settings(GRID, {"steps": "2", "pause": "0.05"}, storage=url))
    running = [start_worker(out) for _ in range(workers)]
    ended = 0
    for _ in range(kills):
        ended += int(rng.integers(2, 7))
        until(lambda: len([*out.glob("trials/*/summary.json")]) >= ended, 120)  # noqa: B023
        time.sleep(rng.uniform(0, 0.2))  # anywhere in a trial
        victim = int(rng.integers(workers))
        running[victim].kill()
        running[victim].join()
        running[victim] = start_worker(out)
    for process in running:
        process.join()
        assert process.exitcode == 0
    found = sweep.trials(out)
    points = [(t.settings["x"], t.settings["n"]) for t in found]
    assert points == [(float(x), n) for x in range(10) for n in range(10)]
    for t, (x, n) in zip(found, points, strict=True):
        assert (t.state, t.objective) == ("complete", (x - 1) ** 2 + (n - 4) ** 2 + 1)
        assert notes(out, t.number).count("ended") == 1, "done twice, or never"
    with storage.opened(sweep.load(out)) as its:
        assert sum(t.state.name == "COMPLETE" for t in its.get_trials()) == 100
    return sum(t.retries > 0 for t in found)
