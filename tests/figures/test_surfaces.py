"""Loss surfaces show their tables and paths."""

import numpy as np
import pytest
from drawn import LN10, cell_at, draw
from matplotlib.colors import same_color

from rnnjax import figures


def test_a_loss_surface_has_the_paths_in_it(stored):
    xs, ys = np.array([4.0, 5.0, 6.0]), np.array([-3.0, -2.5])
    grid = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
    loss = np.exp(grid[:, 0]) * grid[:, 1] ** 2
    loss[0] = 1e-30  # far below what the colours tell apart
    slope = np.where(grid[:, 0] == 6, -np.inf, 2.0 * grid[:, 0])
    order = np.random.default_rng(0).permutation(6)
    columns = {"w": grid[:, 0], "b": grid[:, 1], "loss": loss, "log_gradient_norm": slope}
    table = stored([{name: column[order] for name, column in columns.items()}])
    ways = {"plain": ([5.0, 5.5, 70.0], [-2.6, -2.7, 50.0]), "clipped": ([5.0, 4.5], [-2.6, -2.8])}
    paths = stored([{"path": name, "w": w, "b": b} for name, (w, b) in ways.items()])
    figure = draw(
        lambda: figures.loss_surface(
            table, "w", "b", paths, names={"plain": "thrown"}, xlabel="weight", ylabel="bias"
        )
    )
    left, right, *bars = figure.axes
    assert (left.get_title(), right.get_title(), len(bars)) == ("loss", "gradient norm", 2)
    (text,) = figure.legends
    assert [entry.get_text() for entry in text.get_texts()] == ["thrown", "clipped"]
    for ax, values in ((left, loss), (right, slope / LN10)):
        (mesh,) = ax.collections
        at = cell_at(mesh)
        for (x, y), value in zip(grid, values, strict=True):
            if np.isfinite(value):
                assert at(x, y) == pytest.approx(value)
            else:
                assert np.ma.is_masked(at(x, y))
        assert (ax.get_xlim(), ax.get_ylim()) == ((3.5, 6.5), (-3.25, -2.25))  # no throw widens it
        drawn = [line for line in ax.lines if len(line.get_xdata()) > 1]
        for line, (w, b) in zip(drawn, ways.values(), strict=True):
            np.testing.assert_array_equal(line.get_data(), [w, b])
        assert not same_color(drawn[0].get_color(), drawn[1].get_color())
        ends = [(*line.get_data(), line.get_marker()) for line in ax.lines if line not in drawn]
        assert ([5.0], [-2.6], "o") in [(list(x), list(y), m) for x, y, m in ends]
        assert ([4.5], [-2.8], "s") in [(list(x), list(y), m) for x, y, m in ends]
    low, high = left.collections[0].get_clim()
    assert high == loss.max() and low == pytest.approx(1e-6 * high, rel=1e-5)
    assert left.collections[0].norm(np.sqrt(low * high)) == pytest.approx(0.5)


def test_a_loss_that_is_not_positive_has_linear_colours(stored):
    columns = {"x": [0.0, 1.0], "y": [2.0, 2.0], "loss": [-1.0, 3.0], "log_gradient_norm": [0, 1]}
    table = stored([columns])
    figure = draw(lambda: figures.loss_surface(table, "x", "y", xlabel="x", ylabel="y"))
    mesh = figure.axes[0].collections[0]
    assert mesh.get_clim() == (-1, 3) and mesh.norm(1.0) == pytest.approx(0.5)
    assert not figure.legends
