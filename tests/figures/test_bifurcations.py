"""Bifurcations are marked where they are."""

import numpy as np
from drawn import draw

from rnnjax import figures


def test_branches_nodes_and_the_crossing_are_drawn(stored):
    b = np.linspace(-3, -2, 5)
    table = stored(
        [{"state": "low", "b": b, "median": b - 1}, {"state": "high", "b": b[1:], "median": -b[1:]}]
    )
    nodes = (-2.75, 1.0), (-2.25, -1.0)
    names = {"low": "stable, low"}
    figure = draw(
        lambda: figures.bifurcations(
            table, nodes, (-2.6, 0.5), names=names, xlabel="bias", ylabel="state"
        )
    )
    (ax,) = figure.axes
    points = [(*line.get_data(), line.get_marker()) for line in ax.lines]
    alone = [(x[0], y[0], marker) for x, y, marker in points if len(x) == 1]
    assert alone == [(-2.75, 1.0, "o"), (-2.25, -1.0, "o"), (-2.6, 0.5, "*")]
    texts = [text.get_text() for text in ax.texts]
    assert texts[:2] == ["saddle-node\nb = -2.75000", "saddle-node\nb = -2.25000"]
    assert "b = -2.60000" in texts[2]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["stable, low", "high"]
