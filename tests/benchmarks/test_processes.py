"""A population beside separate processes: the script trains alike, and the ratios are honest."""

import importlib
import itertools
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SIZES = {"steps": 3, "batch_size": 2, "length": 4, "features": 3}


@pytest.fixture
def load(monkeypatch):
    """Import benchmarks by name, and forget them after the test."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module
    for path in BENCHMARKS.glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.fixture
def processes(load, monkeypatch):
    """The benchmark, with processes that do not train: they save what their options say."""
    module = load("processes")
    begun = []

    def train(words, *, check, env=None):
        options = dict(zip(words[2::2], words[3::2], strict=True))
        begun.append((options, env, sorted(module.os.sched_getaffinity(0))))
        first, count = int(options["--seed"]), int(options["--members"])
        numbers = np.arange(first, first + count, dtype=np.float32) + 1
        np.savez(options["--save"], numbers[:, None], loss=numbers[None] * np.ones((3, 1)))

    monkeypatch.setattr(module, "subprocess", types.SimpleNamespace(run=train))
    return module, begun


def test_a_network_alone_is_the_populations(load, tmp_path):
    script, module = load("small_training"), load("processes")
    for name, members, seed in (("all", 3, 4), ("one", 2, 5)):  # no fewer than the devices
        sizes = SIZES | {"members": members, "seed": seed}
        script.run(script.Config(save=tmp_path / f"{name}.npz", cell="elman", **sizes))
    whole, alone = np.load(tmp_path / "all.npz"), np.load(tmp_path / "one.npz")
    assert whole["loss"].shape == (3, 3) and len(whole.files) == 6
    for exact in (True, False):
        module.check("elman", alone, whole, 1, exact=exact)
        with pytest.raises(AssertionError, match="elman: .* of member 2"):
            module.check("elman", alone, whole, 2, exact=exact)
    slightly = dict(alone) | {"loss": alone["loss"] * np.float32(1 + 1e-6)}
    module.check("elman", slightly, whole, 1, exact=False)
    with pytest.raises(AssertionError, match="elman: loss of member 1"):
        module.check("elman", slightly, whole, 1, exact=True)


def test_rows_have_ratios_and_the_best_way_has_the_bound(processes, load, tmp_path, monkeypatch):
    module, begun = processes
    ticks = itertools.count(1)
    monkeypatch.setattr(module, "now", lambda: np.array([1.0, 1.5]) * next(ticks) ** 2)
    monkeypatch.setattr(load("timing"), "DOCS", tmp_path / "benchmarks.md")
    config = module.Config(
        cells=("gru",), members=4, sample=2, rounds=1, **SIZES, out=tmp_path, docs=True
    )
    rows = module.run(config)
    assert json.loads((tmp_path / "processes.json").read_text())["rows"] == rows
    seconds = {row["what"]: row["seconds"] for row in rows}
    assert [*seconds] == ["population", "population, one update", *module.WAYS]
    for row in rows:
        assert row["ratio"] == pytest.approx(row["seconds"] / seconds["population"])
        assert row["processor_ratio"] == pytest.approx(row["ratio"])
        assert row["processor_seconds"] == pytest.approx(1.5 * row["seconds"])
    assert seconds["population"] == 3 and seconds["one process after another"] == 4 / 2 * 19
    bounded = [row["what"] for row in rows if row["bound"]]
    assert bounded == [min([*module.WAYS][:3], key=seconds.get)]
    assert (tmp_path / "benchmarks.md").read_text().count("| gru |") == len(rows)
    everyone = [o for o, _, _ in begun if o["--members"] == "4"]
    assert [o["--steps"] for o in everyone] == ["3", "1"]
    assert len(begun) - len(everyone) == 3 * 2 + (1 + 2)  # the cached ones begin with one untimed
    assert all(o["--features"] == "3" and o["--cell"] == "gru" for o, _, _ in begun)


def test_processes_have_their_cores(processes, tmp_path):
    module, begun = processes
    cores = module.cores()
    places = [[core] for core in cores]
    same = ["python", "script", "--save", str(tmp_path / "some.npz"), "--members", "1"]
    module.run_all([[*same, "--seed", str(i)] for i in range(5)], {}, places)
    assert sorted(int(o["--seed"]) for o, _, _ in begun) == [0, 1, 2, 3, 4]
    assert {tuple(where) for _, _, where in begun} <= {(core,) for core in cores}
    assert module.cores() == cores  # this thread's own are as they were


def test_other_numbers_are_not_told(processes, monkeypatch):
    module, _ = processes
    right = module.subprocess.run

    def wrong(words, **options):
        alone = words[words.index("--members") + 1] == "1"
        right([w if w != "1" or not alone else "2" for w in words], **options)

    monkeypatch.setattr(module.subprocess, "run", wrong)
    config = module.Config(cells=("gru",), members=3, sample=2, rounds=1, **SIZES)
    with pytest.raises(AssertionError, match="gru, as many processes as cores: .* of member 1"):
        module.run(config)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--sample 65", "--sample must be at most --members, got 65"),
        ("--rounds 0", "--rounds must be at least 1, got 0"),
        ("--cells gru gru", "--cells must name some of elman, lstm, gru, or "),
        (f"--out {__file__}", "--out must be a directory, got the file"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, message, load, capsys):
    from rnnjax.command_line import parse

    with pytest.raises(SystemExit) as stop:
        parse(load("processes").Config, arguments.split())
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.startswith(f"error: {message}") and error.count("\n") == 1
