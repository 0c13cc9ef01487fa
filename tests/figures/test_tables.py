"""Curves and comparisons show their tables."""

import numpy as np
from drawn import LAG, LN10, band, bands, draw, legend, lines
from matplotlib.colors import same_color

from rnnjax import figures


def test_curves_have_a_line_and_a_band_for_each_series(stored):
    parts = [
        band((i + 1) * LAG, cell=cell, width=width, t=LAG) | {"theory": -(i + 1.0) * LAG}
        for width in (8, 16)
        for i, cell in enumerate(("gru", "mgu"))
        if (width, cell) != (8, "mgu")  # which the first panel lacks
    ]
    names = {8: "narrow", "mgu": "minimal"}
    figure = draw(
        lambda table: figures.curves(
            table, "t", "cell", panel="width", names=names, xlabel="time", ylabel="size"
        ),
        stored(parts),
    )
    narrow, wide = figure.axes
    assert [ax.get_title() for ax in (narrow, wide)] == ["narrow", "16"]
    assert legend(narrow) == ["GRU", "minimal"] and narrow.get_ylabel() == "size"
    assert list(lines(narrow)) == ["GRU"] and list(lines(wide)) == ["GRU", "minimal"]
    for ax in (narrow, wide):
        theories, shades = list(lines(ax, "--").values()), bands(ax)
        for i, (line, (_, low, high)) in enumerate(zip(lines(ax).values(), shades, strict=True)):
            np.testing.assert_allclose(line.get_ydata(), (i + 1) * LAG)
            np.testing.assert_allclose(theories[i].get_ydata(), -(i + 1) * LAG)
            assert same_color(theories[i].get_color(), line.get_color())
            np.testing.assert_allclose(low, (i + 1) * LAG - 0.5)
            np.testing.assert_allclose(high, (i + 1) * LAG + 0.25)
    assert same_color(lines(narrow)["GRU"].get_color(), lines(wide)["GRU"].get_color())


def test_curves_on_logarithmic_axes(stored):
    table = stored([{"kind": "a", "x": LAG, "median": np.where(LAG == 3, -np.inf, -LAG)}])

    def curves(**options):
        return figures.curves(table, "x", "kind", xlabel="x", ylabel="y", **options)

    (ax,) = draw(lambda: curves(natural_logs=True)).axes
    (line,) = lines(ax).values()
    want = np.where(LAG == 3, np.nan, -LAG / LN10)
    np.testing.assert_allclose(line.get_ydata(), want)
    assert ax.get_yticklabels()[0].get_text().startswith("$10^{")
    (ax,) = draw(lambda: curves(log_x=True)).axes
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "linear")
    np.testing.assert_allclose(lines(ax)["a"].get_ydata()[3:], -LAG[3:])
    gone = {"kind": "a", "x": LAG, "median": np.full(7, np.nan), "run": 1}
    table = stored([gone])
    assert draw(lambda: curves(log_x=True, log_y=True)).axes[0].get_yscale() == "linear"
    table = stored([gone, gone | {"median": np.exp(LAG), "run": 2}])
    axes = draw(lambda: curves(log_x=True, log_y=True, panel="run")).axes
    assert [ax.get_yscale() for ax in axes] == ["log", "log"]
    assert [ax.get_xscale() for ax in axes] == ["linear", "log"]
    table = stored([gone | {"median": np.exp(LAG)}])
    (ax,) = draw(lambda: curves(log_y=True)).axes
    assert (ax.get_xscale(), ax.get_yscale()) == ("linear", "log")


def test_panels_stand_in_rows_of_so_many():
    table = {name: [] for name in ("place", "x", "line", "median")}
    for place in "abcde":
        for x in (0, 1):
            for name, value in zip(table, (place, x, "one", x + ord(place)), strict=True):
                table[name].append(value)
    table = {name: np.array(column) for name, column in table.items()}
    options = {"panel": "place", "columns": 3, "xlabel": "x", "ylabel": "y"}
    figure = figures.curves(table, "x", "line", **options)
    figure.draw_without_rendering()
    assert [ax.get_title() for ax in figure.axes] == list("abcde")
    assert [ax.get_ylabel() for ax in figure.axes] == ["y", "", "", "y", ""]
    for ax, place in zip(figure.axes, "abcde", strict=True):
        assert ax.lines[0].get_ydata().tolist() == [ord(place), ord(place) + 1]
    rows = {round(ax.get_position().y0, 2) for ax in figure.axes}
    assert len(rows) == 2


def test_comparison_shows_each_networks_range_and_its_gradient_in_one_colour():
    results = {
        "network": np.array(["gru", "tcn"]),
        "value": np.array([0.9, 0.8]),
        "low": np.array([0.85, 0.8]),
        "high": np.array([0.95, 0.8]),
        "baseline": np.array([0.1, 0.1]),
    }
    gradients = {
        "network": np.repeat(["gru", "tcn"], 3),
        "lag": np.tile(np.arange(3), 2),
        "median": np.array([0.0, -1.0, -2.0, 0.0, -1.0, -np.inf]) * np.log(10),
    }
    figure = figures.comparison(
        results, gradients, metric="accuracy", baseline="chance", names={"tcn": "CNN"}
    )
    left, right = figure.axes
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["GRU", "CNN"]
    ranges = [line for line in left.lines if len(line.get_xdata()) == 2][:2]
    assert [list(line.get_xdata()) for line in ranges] == [[0.85, 0.95], [0.8, 0.8]]
    colours = [tick.get_color() for tick in left.get_yticklabels()]
    assert [line.get_color() for line in right.lines] == colours
    np.testing.assert_allclose(right.lines[0].get_ydata(), [0, -1, -2])
    np.testing.assert_allclose(right.lines[1].get_ydata(), [0, -1, np.nan])
    assert left.get_xlabel() == "accuracy" and left.lines[-1].get_label() == "chance"


def test_levels_and_places_are_marked_in_the_units_of_the_table(stored):
    table = stored([band(-LAG * LN10, cell="gru", t=LAG)])
    options = {"level": -2 * LN10, "places": {3.5: "here"}, "ylim": (-4 * LN10, LN10)}
    figure = draw(
        lambda: figures.curves(
            table, "t", "cell", xlabel="t", ylabel="norm", natural_logs=True, **options
        )
    )
    (ax,) = figure.axes
    level, place = (line for line in ax.lines if line.get_linestyle() == ":")
    np.testing.assert_allclose(level.get_ydata(), [-2, -2])
    assert list(place.get_xdata()) == [3.5, 3.5] and legend(ax) == ["GRU", "here"]
    np.testing.assert_allclose(ax.get_ylim(), [-4, 1])


def test_a_reference_is_a_dashed_line_behind_the_others():
    x = np.arange(3.0)
    table = {
        "x": np.tile(x, 2),
        "series": np.repeat(["gru", "identity"], 3),
        "median": np.tile(x, 2),
    }
    options = {"xlabel": "x", "ylabel": "y", "reference": "identity"}
    ax = draw(lambda: figures.curves(table, "x", "series", **options)).axes[0]
    measured, reference = ax.lines
    assert (measured.get_linestyle(), reference.get_linestyle()) == ("-", "--")
    assert reference.get_color() == "black" and reference.get_zorder() < measured.get_zorder()
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["GRU", "identity"]


def test_points_are_those_of_the_table(stored):
    kind = np.array(["b", "gru", "b", "gru", "b"])
    x, y = np.array([1.0, 2, 4, np.inf, 8]), np.array([3.0, 1, 2, 5, np.nan])
    table = stored([{"kind": kind, "x": x, "y": y}])

    def points(table, **options):
        options = {"xlabel": "life", "ylabel": "window"} | options
        return draw(lambda: figures.points(table, "x", "y", "kind", **options)).axes[0]

    ax = points(table, names={"b": "bee"}, slopes={"twice": 2.0, "half": 0.5}, log_x=True)
    assert legend(ax) == ["bee", "GRU", "twice", "half"]
    bee, gru, twice, half = ax.lines
    np.testing.assert_array_equal(bee.get_xydata(), [[1, 3], [4, 2]])
    np.testing.assert_array_equal(gru.get_xydata(), [[2, 1]])
    assert bee.get_marker() != gru.get_marker() and bee.get_linestyle() == "None"
    assert same_color(gru.get_color(), figures.COLOURS["gru"])
    np.testing.assert_array_equal(twice.get_xydata(), [[1, 2], [4, 8]])
    np.testing.assert_array_equal(half.get_xydata(), [[1, 0.5], [4, 2]])
    assert twice.get_linestyle() != half.get_linestyle()
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "linear")
    texts = [text.get_text() for text in ax.get_xticklabels(which="both")]
    assert {"1", "2", "4"} <= set(texts)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("life", "window")
    empty = stored([{"kind": kind, "x": x, "y": np.full(5, np.nan)}])
    ax = points(empty, slopes={"twice": 2.0}, log_x=True, log_y=True)
    assert (ax.get_xscale(), ax.get_yscale()) == ("linear", "linear") and len(ax.lines) == 2


def test_a_legend_below_the_panels_has_every_series_once(stored):
    parts = [band(LAG, kind=kind, side=side, x=LAG) for side in "lr" for kind in ("gru", "mgu")]

    def curves(table):
        options = {"panel": "side", "xlabel": "x", "ylabel": "y", "legend_below": True}
        return figures.curves(table, "x", "kind", **options)

    figure = draw(curves, stored(parts))
    (below,) = figure.legends
    assert [text.get_text() for text in below.get_texts()] == ["GRU", "mgu"]
    assert all(ax.get_legend() is None for ax in figure.axes)
