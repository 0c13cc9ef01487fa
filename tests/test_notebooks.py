"""Every notebook runs, and its two halves are the same."""

import runpy
from pathlib import Path

import jupytext
import matplotlib
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_runs(path, monkeypatch):
    matplotlib.use("Agg")
    shown = []
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: shown.append(1))
    names = runpy.run_path(str(path))
    assert shown
    matplotlib.pyplot.close("all")
    if path.stem == "first_steps":
        assert list(names["lives"].values()) == sorted(names["lives"].values())
        assert names["profiles"]["Elman"].log_norms.shape == (200, 16)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_ipynb_holds_the_same_cells(path):
    def cells(file):
        return [(cell.cell_type, cell.source) for cell in jupytext.read(file).cells]

    assert cells(path.with_suffix(".ipynb")) == cells(path)
