"""The benchmark of the default run: what it compares, and what it times."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from rnnjax.command_line import parse

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module("default_run")
    for path in BENCHMARKS.glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.mark.slow
def test_the_run_is_timed_beside_pytorch(benchmark, tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch")
    monkeypatch.setattr(sys.modules["timing"], "DOCS", tmp_path / "benchmarks.md")
    sizes = {"seeds": 2, "steps": 4, "torch_steps": 2, "batch_size": 3, "length": 5, "features": 3}
    rows = benchmark.run(benchmark.Config(cells=("gru",), **sizes, out=tmp_path, docs=True))
    assert json.loads((tmp_path / "default_run.json").read_text())["rows"] == rows
    torch, cold, cold_outside, warm, warm_outside = (row["seconds"] for row in rows)
    assert 0 < cold_outside < cold and 0 < warm_outside < warm and warm < cold
    for row, seconds in ((rows[1], cold), (rows[3], warm)):
        assert row["PyTorch's time over it"] == pytest.approx(torch / seconds)
        assert row["bound"] == ">= 4"
    text = (tmp_path / "benchmarks.md").read_text()
    assert "## The default run" in text and "2 of 4 updates" in text
    assert capsys.readouterr().out.count("the run") == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["elman", "lstm", "gru"])
def test_both_compute_the_same_and_other_gradients_are_noticed(benchmark, name, monkeypatch):
    pytest.importorskip("torch")
    config = benchmark.Config(length=7, batch_size=3)
    benchmark.check(config, name)
    right = benchmark.torch_network

    def wrong(name, params):
        return right(name, params._replace(kernel=1.001 * params.kernel))

    monkeypatch.setattr(benchmark, "torch_network", wrong)
    with pytest.raises(AssertionError, match="differs by"):
        benchmark.check(config, name)


@pytest.mark.slow
def test_pytorchs_batches_are_of_the_same_task(benchmark):
    torch = pytest.importorskip("torch")
    config = benchmark.Config(length=10, batch_size=2000)
    inputs, answers = benchmark.torch_batch(config, torch.Generator().manual_seed(0))
    values, marks = inputs[..., 0].numpy(), inputs[..., 1].numpy()
    np.testing.assert_array_equal(marks[:5].sum(0), 1)
    np.testing.assert_array_equal(marks[5:].sum(0), 1)
    np.testing.assert_allclose(answers[:, 0], (values * marks).sum(0), rtol=1e-6)
    assert answers.numpy().var() == pytest.approx(1 / 6, rel=0.1)


def test_training_is_told_from_the_rest_by_the_times_of_its_chunks(benchmark):
    times = {"a": (100.0, 102.0, 104.0), "b": (200.0, 201.0, 202.0)}
    rows = [
        {"cell": cell, "step": 10 * (i + 1), "time": time}
        for cell, of_cell in times.items()
        for i, time in enumerate(of_cell)
    ]
    assert benchmark.training_seconds(rows) == pytest.approx(6 + 3)


def test_wrong_arguments_are_one_line(benchmark, capsys):
    for words, message in (
        ("--cells moon", "--cells must name"),
        ("--torch-steps 2000", "at most"),
    ):
        with pytest.raises(SystemExit) as stop:
            parse(benchmark.Config, words.split())
        assert stop.value.code == 2 and message in capsys.readouterr().err
