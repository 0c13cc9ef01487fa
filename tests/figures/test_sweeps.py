"""Heat maps over a grid and parallel coordinates show their tables."""

import numpy as np
import pytest
from drawn import draw
from matplotlib.colors import same_color

from rnnjax import figures


def heat_maps(table, **options):
    labels = {"xlabel": "width", "ylabel": "depth", "label": "loss"}
    return draw(lambda: figures.heat_maps(table, "x", "y", "v", **labels, **options))


def test_heat_maps_of_any_grid_are_on_one_scale(stored):
    """Equal cells, labelled with their values; the panels have the same rows."""
    values = {("a", 1, 10): 0.5, ("a", 100, 30): -2, ("b", 1, 20): 1, ("b", 7, 30): np.nan}
    parts = [{"p": p, "x": x, "y": y, "v": v} for (p, x, y), v in values.items()]
    figure = heat_maps(stored(parts[::-1]), panel="p", names={"a": "first"})
    *panels, bar = figure.axes
    assert [ax.get_title() for ax in panels] == ["b", "first"] and bar.get_ylabel() == "loss"
    for ax, panel in zip(panels, ("b", "a"), strict=True):
        (mesh,) = ax.collections
        assert mesh.get_clim() == (-2, 1)
        columns = [text.get_text() for text in ax.get_xticklabels()]
        rows = [text.get_text() for text in panels[0].get_yticklabels()]
        assert rows == ["10", "20", "30"]
        assert columns == {"a": ["1", "100"], "b": ["1", "7"]}[panel]
        shown = np.ma.filled(mesh.get_array(), np.nan)
        want = np.full((3, 2), np.nan)
        for (p, x, y), v in values.items():
            if p == panel:
                want[rows.index(str(y)), columns.index(str(x))] = v
        np.testing.assert_array_equal(shown, want)


def test_heat_maps_name_words_and_cross_what_is_not_finite(stored):
    values = {"lstm": (0.5, np.nan), "elman": (np.inf, 2.0), "mine": (1.0, 1.0)}
    parts = [
        {"p": p, "x": x, "y": y, "v": v}
        for p in (1000, 0.5)
        for y, row in values.items()
        for x, v in zip((3.2e-5, 1e-5), row, strict=True)
        if (p, y) != (0.5, "elman")  # a row that the second panel lacks
    ]
    figure = heat_maps(
        stored(parts), panel="p", columns=1, names={"mine": "my own"}, not_finite="diverged"
    )
    upper, lower, _ = figure.axes
    assert [ax.get_title() for ax in (upper, lower)] == ["1000", "0.5"]
    assert [ax.get_ylabel() for ax in (upper, lower)] == ["depth", "depth"]
    assert [t.get_text() for t in upper.get_yticklabels()] == ["LSTM", "Elman", "my own"]
    want = ["$10^{-5}$", r"$3.2\cdot 10^{-5}$"]
    assert [t.get_text() for t in lower.get_xticklabels()] == want
    for ax, crossed in ((upper, {(0.5, 0.5), (1.5, 1.5)}), (lower, {(0.5, 0.5)})):
        (crosses,) = ax.lines
        assert {*map(tuple, crosses.get_xydata())} == crossed
    shown = np.ma.filled(upper.collections[0].get_array(), np.nan)
    np.testing.assert_array_equal(shown, [[np.nan, 0.5], [2.0, np.nan], [1.0, 1.0]])
    (key,) = figure.legends
    assert [text.get_text() for text in key.get_texts()] == ["diverged"]
    assert not heat_maps(stored(parts[4:6]), not_finite="diverged").legends
    xs = [3.2e-5, 2e-5, 1e-5]  # in this order, one that no row has
    (mesh,) = heat_maps(stored(parts[4:6]), xs=xs, ys=["elman", "mine"]).axes[0].collections
    shown = np.ma.filled(mesh.get_array(), np.nan)
    np.testing.assert_array_equal(shown, [[np.nan] * 3, [1.0, np.nan, 1.0]])


def test_borders_of_heat_maps_stand_where_groups_change(stored):
    groups = {1: 0, 2: 0, 3: 1, 4: 2}
    parts = [{"x": x, "y": y, "v": x, "g": g} for x, g in groups.items() for y in "ab"]
    _, lines = heat_maps(stored(parts), borders="g").axes[0].collections
    assert [path.vertices[:, 0].tolist() for path in lines.get_paths()] == [[2, 2], [3, 3]]
    assert [path.vertices[:, 1].tolist() for path in lines.get_paths()] == [[0, 2], [0, 2]]


def test_colour_scales_of_heat_maps(stored):
    parts = [{"x": i, "y": 0, "v": v} for i, v in enumerate((-4.0, 0.0, 1e-3, 10.0, np.inf))]
    table = stored(parts)
    (mesh,) = heat_maps(table, symmetric=True).axes[0].collections
    assert mesh.get_clim() == (-10, 10)
    assert same_color(mesh.cmap(mesh.norm(0.0))[:3], (0.97, 0.97, 0.97)) or mesh.norm(0.0) == 0.5
    (mesh,) = heat_maps(table, log=True).axes[0].collections
    assert mesh.get_clim() == (1e-3, 10) and mesh.norm(0.1) == pytest.approx(0.5)
    (mesh,) = heat_maps(stored([{"x": 1, "y": 1, "v": np.nan}])).axes[0].collections
    assert np.ma.getmaskarray(mesh.get_array()).all()
    flat = heat_maps(stored([{"x": i, "y": 1, "v": 0.0} for i in range(2)]), symmetric=True)
    assert flat.axes[0].collections[0].get_clim() == (-1, 1)
    with pytest.raises(ValueError, match="both log and symmetric"):
        heat_maps(table, log=True, symmetric=True)


SEARCHED = {
    "rate": np.array([1e-3, 1e-1, 1e-2, 1e-3, 1e-2]),
    "clip": np.array(["5", "0.5", "5", "1", ""]),
    "cell": np.array(["lstm", "mine", "lstm", "mine", "lstm"]),
    "loss": np.array([0.4, np.nan, 0.1, 0.1, 7.0]),
    "state": np.array(["complete", "pruned", "complete", "complete", "waiting"]),
}


def parallel(table, **options):
    columns = ["rate", "clip", "cell"]
    given = {"log": ["rate"], "state": "state", "label": "loss", **options}
    return draw(lambda: figures.parallel_coordinates(table, columns, "loss", **given))


def test_parallel_coordinates_lead_from_settings_to_values(stored):
    """The heights of settings are in order on each axis; colours and heights say the values."""
    figure = parallel(stored([SEARCHED]), names={"rate": "learning rate", "mine": "my own"})
    ax, bar = figure.axes
    assert [t.get_text() for t in ax.get_xticklabels()] == ["learning rate", "clip", "cell"]
    across = {i: line for i, line in enumerate(ax.lines) if len(line.get_xdata()) > 2}
    pruned, worst, other, best = across.values()  # the waiting one has no clip: left out
    assert len(pruned.get_xdata()) == 3 and pruned.get_linestyle() == ":"
    low, middle, high = (line.get_ydata()[0] for line in (worst, best, pruned))
    assert middle - low == pytest.approx(high - middle)  # 1e-3, 1e-2, 1e-1
    assert other.get_ydata()[0] == low
    half, one, five = (line.get_ydata()[1] for line in (pruned, other, worst))
    assert half < one < five == best.get_ydata()[1]
    lstm, mine = best.get_ydata()[2], other.get_ydata()[2]
    assert lstm > mine and [line.get_ydata()[2] for line in (worst, pruned)] == [lstm, mine]
    assert [line.get_ydata()[-1] for line in (worst, other, best)] == [1, 0, 0]
    assert best.get_label() == "best" and best.get_linewidth() > other.get_linewidth()
    assert same_color(best.get_color(), other.get_color())
    assert not same_color(best.get_color(), worst.get_color())
    assert bar.get_ylabel() == "loss" and bar.get_ylim() == (0.1, 0.4)
    (key,) = figure.legends
    assert [text.get_text() for text in key.get_texts()] == ["pruned", "best"]
    texts = {text.get_text() for text in ax.texts}
    assert {"0.001", "0.01", "0.1", "0.5", "1", "5", "LSTM", "my own"} == texts


def test_parallel_coordinates_of_odd_tables(stored):
    table = stored([SEARCHED])
    upward = parallel(table, largest=True, log_value=True)
    thick = [line for line in upward.axes[0].lines if line.get_label() == "best"]
    assert thick[0].get_ydata()[-1] == 1 and upward.axes[1].get_yscale() == "log"
    lost = {**table, "loss": np.full(5, np.nan)}
    assert not [line for line in parallel(lost).axes[0].lines if line.get_label() == "best"]
    one = {name: column[:1] for name, column in table.items()}
    assert len(parallel(one).axes) == 2
    none = {name: column[:0] for name, column in table.items()}
    assert not parallel(none).legends


def test_a_large_heat_map_labels_some_of_its_rows(stored):
    parts = [{"x": i, "y": 2 * j, "v": i + j} for i in range(3) for j in range(20)]
    (ax, _) = heat_maps(stored(parts)).axes
    assert [text.get_text() for text in ax.get_yticklabels()] == [
        f"{value}" for value in range(0, 40, 6)
    ]
    np.testing.assert_array_equal(ax.get_yticks(), np.arange(0, 20, 3) + 0.5)
