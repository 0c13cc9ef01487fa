"""The life of a run: created, locked, stopped, resumed, finished, drawn again; loud or silent."""

import dataclasses
import io
import json
import os
import signal
import socket
import subprocess
import sys
from typing import Any

import pytest
from scripts import load

from rnnjax.command_line import ArgumentError, progress
from rnnjax.experiment import Experiment, RunOptions, Verdict

PROGRAM = '''"""A run of a few updates in integers; it asks before it goes on from the middle."""
import dataclasses, sys

import jax
import jax.numpy as jnp

from rnnjax import training
from rnnjax.experiment import Experiment, RunOptions, Verdict


@dataclasses.dataclass(frozen=True)
class Config(RunOptions):
    """Count."""

    steps: int = 8
    """Updates."""
    record_every: int = 1
    """Between two entries."""


def step(state, word):
    new = state.params * jnp.uint32(1664525) + word
    return state._replace(params=new, step=state.step + 1), {"loss": (new >> 8).astype(float)}


def asking(state):
    if state.step[0] == 4 and not sys.stdin.closed:
        print("in the middle", flush=True)
        sys.stdin.readline()
    return state.params


def measure(config, run):
    keys = jax.random.split(jax.random.key(0), 2)
    state = training.TrainState(jnp.arange(2, dtype="uint32"), (), jnp.zeros(2, int), keys)
    trained = training.ResumableTraining.from_config(config, run, (0, 1)).train_on_samples(
        step, state, lambda key: jax.random.key_data(key)[0], steps=config.steps, chunk_size=2,
        observe=asking,
    )
    run.write_table("numbers", [{"word": chunk.observed} for chunk in trained.chunks])
    return {"words": trained.state.params}


def verdict(config, summary):
    return Verdict.judge({"two members": len(summary["words"]) == 2})


run = Experiment("counting", Config, measure, verdict, lambda run: None)

if __name__ == "__main__":
    run.main()
'''


@pytest.mark.slow
@pytest.mark.multiprocess
def test_the_life_of_a_run_in_a_shell(tmp_path, monkeypatch, capsys):
    """Held by one process, terminated, resumed, finished; and what other processes are told."""
    script, out = tmp_path / "counting.py", tmp_path / "run"
    script.write_text(PROGRAM)
    command = [sys.executable, "-W", "error", str(script), "--out", str(out)]

    def shell(*more):
        done = subprocess.run([*command, *more], capture_output=True, text=True, input="\n")
        return done.returncode, done.stdout, done.stderr

    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as first:
        assert first.stdout and first.stdout.readline() == "in the middle\n"
        code, said, error = shell()
        assert (code, said) == (os.EX_TEMPFAIL, "")
        assert error == (
            f"error: {out} is being written to by process {first.pid} on {socket.gethostname()}; "
            "wait until it has finished, or give another directory\n"
        )
        first.send_signal(signal.SIGTERM)
        _, error = first.communicate("\n")
    assert first.returncode == 143
    assert error == (
        f"error: all: terminated after step 6 of 8; the same arguments with --out {out} resume it\n"
    )
    assert not (out / "summary.json").exists() and (out / "training/all/steps/6").is_dir()

    code, said, error = shell("--steps", "9")
    assert (code, said) == (2, "")
    assert error.startswith(f"error: --out: {out} already holds a run, of --steps 8, not 9; ")
    assert error.count("\n") == 1

    code, said, error = shell("--checkpoint-every", "3")
    assert (code, error) == (0, "") and "in the middle" not in said  # it was in the history
    counting = load(script)
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    counting.run(counting.Config(out=tmp_path / "whole"))
    for name in ("metrics.jsonl", "numbers.csv", "summary.json"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    capsys.readouterr()

    before = {path.name for path in out.iterdir()}
    (out / ".history").mkdir()  # of a process that was killed after the last line
    assert counting.run(counting.Config(out=out)) == json.loads(
        (tmp_path / "whole" / "summary.json").read_text()
    )
    assert capsys.readouterr().out.startswith(f"The run in {out} is finished; ")
    assert {path.name for path in out.iterdir()} == before


@dataclasses.dataclass(frozen=True)
class Empty(RunOptions):
    """Nothing."""


def measure(config, run):
    for _ in progress(range(2), "measuring"):
        print("measured")
    return {"found": 1}


def judge(config, summary):
    return Verdict.judge({"it was found": summary["found"] == 1})


def show(summary):
    print("found", summary["found"])


def draw(run):
    drawn.append(run.read_json("summary.json"))


drawn = []
nothing = Experiment("nothing", Empty, measure, judge, draw, show=show)
WHOLE = {"found": 1, "verdict": {"outcome": "reproduced", "conditions": {"it was found": True}}}


def test_a_run_measures_judges_prints_and_draws(tmp_path, capsys):
    drawn.clear()
    assert nothing(Empty(out=tmp_path / "run")) == WHOLE
    assert json.loads((tmp_path / "run/summary.json").read_text()) == WHOLE
    assert drawn == [WHOLE]
    output = ["measured", "measured", "found 1", "yes it was found", "Verdict: reproduced"]
    said, errors = capsys.readouterr()
    assert said.splitlines()[:-1] == output and errors == ""
    assert nothing(Empty(out=tmp_path / "run", redraw=True)) == WHOLE
    assert drawn == [WHOLE, WHOLE] and capsys.readouterr() == ("", "")


def test_a_quiet_run_prints_nothing_and_draws_no_bar(tmp_path, capsys, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert nothing(Empty(out=tmp_path / "quiet"), quiet=True) == WHOLE
    assert capsys.readouterr().out == "" and terminal.getvalue() == ""
    nothing(Empty(out=tmp_path / "loud"))
    assert "found 1" in capsys.readouterr().out and "measuring" in terminal.getvalue()

    def warn(config, run):
        print("one line", file=sys.stderr)
        return {"found": 1}

    dataclasses.replace(nothing, measure=warn)(Empty(out=tmp_path / "warned"), quiet=True)
    assert terminal.getvalue().endswith("one line\n")


@pytest.mark.parametrize("options", [{}, {"out": "missing"}])
def test_there_is_nothing_to_redraw(options, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArgumentError, match="--redraw needs a finished run in --out, got"):
        nothing(Empty(redraw=True, **{key: tmp_path / value for key, value in options.items()}))
    assert not list(tmp_path.iterdir())


def test_a_run_that_fails_leaves_nothing_behind(tmp_path):
    def refuse(config, run):
        raise ArgumentError("--steps does not fit the data")

    with pytest.raises(ArgumentError, match="does not fit"):
        dataclasses.replace(nothing, measure=refuse)(Empty(out=tmp_path / "run"))
    assert not list(tmp_path.iterdir())


def test_a_run_whose_files_are_damaged_says_so(tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    nothing(Empty(out=out), quiet=True)
    (out / "summary.json").write_text("{")
    monkeypatch.setattr(sys, "argv", ["script.py", "--out", str(out)])
    with pytest.raises(SystemExit) as stop:
        nothing.main()
    assert stop.value.code == 1
    assert capsys.readouterr().err.startswith(f"error: {out}/summary.json is damaged: ")


@pytest.mark.parametrize("name", ["checkpoint_every", "keep"])
def test_run_options_are_checked(name):
    with pytest.raises(ArgumentError, match=f"--{name.replace('_', '-')} must be at least 1"):
        Empty(**{name: 0})  # pyright: ignore[reportArgumentType]
