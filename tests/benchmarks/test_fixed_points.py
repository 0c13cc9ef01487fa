"""benchmarks/fixed_points.py times searches whose points it has checked."""

import importlib
import json
import sys
from pathlib import Path

import pytest

from rnnjax.command_line import ArgumentError

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
pytestmark = pytest.mark.slow


@pytest.fixture
def module(monkeypatch):
    """Import the benchmark, and forget it after the test."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module("fixed_points")
    for path in BENCHMARKS.glob("*.py"):
        sys.modules.pop(path.stem, None)


def test_it_writes_a_row_for_each_cell(module, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module.timing, "DOCS", tmp_path / "docs" / "benchmarks.md")
    config = module.Config(
        cells=("elman",), starts=200, updates=1000, rounds=1, out=tmp_path, docs=True
    )
    (row,) = module.run(config)
    assert row["stable"] == 8 and row["N"] == 16 and row["first_s"] > row["again_s"] > 0
    assert json.loads((tmp_path / "fixed_points.json").read_text())["rows"] == [row]
    text = (tmp_path / "docs" / "benchmarks.md").read_text()
    assert "## Searches for fixed points" in text and "| elman | 16 |" in text
    assert "elman" in capsys.readouterr().out


def test_the_bound_is_ten_seconds(module):
    assert "within the bound" in module.verdict({"cell": "gru", "first_s": 9.9})
    assert "beyond the bound" in module.verdict({"cell": "gru", "first_s": 10.1})


def test_it_refuses_what_is_no_cell(module):
    for cells in ((), ("gru", "gru"), ("none",)):
        with pytest.raises(ArgumentError, match="--cells"):
            module.Config(cells=cells)
