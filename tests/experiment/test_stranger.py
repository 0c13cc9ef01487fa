"""A stranger's first hour: an empty folder, rnnjax installed, and a cell of their own in a file."""

import json
import subprocess
import sys

import pytest
from scripts import ROOT

from rnnjax import networks
from rnnjax.testing import check_cell

MINE = '''"""The minimal gated unit: h' = (1 - f) h + f n."""
import dataclasses
from typing import Any, NamedTuple
import jax
import jax.numpy as jnp
import rnnjax

class State(NamedTuple):
    h: Any  # [*batch, H]

@dataclasses.dataclass(frozen=True)
class MyCell(rnnjax.Gated):
    gate_names = ("f", "n")

    def init(self, key, input_size):
        return self.init_blocks(key, input_size)

    def initial_carry(self, batch_shape):
        return State(jnp.zeros((*batch_shape, self.features)))

    def gates(self, params, carry, u, v):
        f = jax.nn.sigmoid(u[0] + v[0])
        n = jnp.tanh(u[1] + f * v[1])
        return State((1 - f) * carry.h + f * n)
'''
SMALL = ["--length", "10", "--features", "4", "--steps", "6", "--snapshots", "2", "--seeds", "1"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    assert MINE.count("\n") <= 25
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def python(*arguments):
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.slow
def test_check_cell_passes_it(folder):
    check_cell(networks.make_cell("./mine.py:MyCell", 3), 2)


@pytest.mark.slow
def test_an_experiment_measures_it_beside_a_built_in_cell(folder):
    script = ROOT / "experiments" / "vanishing_gradients.py"
    done = python(script, "--cells", "lstm", "./mine.py:MyCell", *SMALL, "--out", "run")
    assert (done.returncode, done.stderr) == (0, "")
    header, lstm, mine, *_, verdict, _ = done.stdout.splitlines()
    assert header.startswith("cell") and lstm.startswith("lstm") and mine.startswith("MyCell")
    assert verdict.startswith("Verdict: inconclusive")
    summary = json.loads((folder / "run/summary.json").read_text())
    assert list(summary) == ["lstm", "MyCell", "verdict"]
    assert summary["MyCell"]["half_life_init"] > 0
    for name in ("gradient_profiles", "profile_over_training", "learning_curves"):
        assert "MyCell" in (folder / f"run/{name}.csv").read_text()
        assert "MyCell" in (folder / f"run/{name}.svg").read_text()
        assert (folder / f"run/{name}.png").stat().st_size > 1000


@pytest.mark.slow
def test_a_sweep_searches_over_it(folder):
    script = ROOT / "experiments" / "vanishing_gradients.py"
    fixed = ["length=10", "features=4", "steps=6", "snapshots=2", "seeds=1"]
    search = ["cells=lstm,./mine.py:MyCell", "--objective", "*.final_loss"]
    command = ["-m", "rnnjax.sweep", "run", script, "--out", "sweep", "--search", *search]
    done = python(*command, "--set", *fixed)
    assert done.returncode == 0, done.stderr
    _, *trials = (folder / "sweep/trials.csv").read_text().splitlines()
    assert [trial.split(",")[:3] for trial in trials] == [
        ["0", "complete", "lstm"],
        ["1", "complete", f"{folder}/mine.py:MyCell"],  # absolute: for workers elsewhere
    ]
    assert (folder / "sweep/best.json").exists()


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("./mine.py:YourCell", "error: --cells ./mine.py:YourCell: ./mine.py has no YourCell\n"),
        ("./yours.py:MyCell", "error: --cells ./yours.py:MyCell: there is no file ./yours.py\n"),
        ("./mine.py:State", "error: --cells ./mine.py:State: State is not a subclass of"),
    ],
)
def test_what_is_no_cell_is_one_line(folder, cell, message):
    script = ROOT / "experiments" / "vanishing_gradients.py"
    done = python(script, "--cells", cell)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(message) and done.stderr.count("\n") == 1
    assert [path.name for path in folder.iterdir() if path.name != "__pycache__"] == ["mine.py"]
