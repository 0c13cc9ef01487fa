"""Figures: the same figure gives the same bytes."""

import numpy as np
from matplotlib.figure import Figure
from run_directories import names


def test_the_same_figure_gives_the_same_bytes(run):
    def draw():
        figure = Figure(figsize=(5, 3.8), layout="constrained")  # a second layout moves it a little
        ax = figure.subplots()
        ax.plot([0, 1], [1, 1], label="x")
        ax.pcolormesh(np.arange(6.0).reshape(2, 3)).set_rasterized(True)
        ax.set(xlabel="p", ylabel="q")
        ax.legend()
        return figure

    figure = draw()
    run.save_figure("first", figure)
    run.save_figure("second", figure)
    run.save_figure("third", draw())
    for ending, magic in (("png", b"\x89PNG"), ("svg", b"<?xml")):
        first, *others = (run.path / f"{n}.{ending}" for n in ("first", "second", "third"))
        assert first.read_bytes().startswith(magic) and first.stat().st_size > 1000
        assert all(other.read_bytes() == first.read_bytes() for other in others)
    assert not [name for name in names(run.path) if name.startswith(".")]
