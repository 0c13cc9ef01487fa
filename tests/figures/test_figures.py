"""Figures show the numbers of their tables, and nothing else; odd tables do not stop them."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.colors import same_color

from rnnjax import figures
from rnnjax.runs import Run

LN10 = np.log(10)
TITLES = {"before": "before training (step 0)", "after": "after training (step 50)"}
LAG = np.arange(1, 8)


@pytest.fixture
def stored(tmp_path):
    """Write a table and read it back, as experiments do."""

    @dataclasses.dataclass
    class Config:
        steps: int = 50

    run = Run.create(tmp_path / "run", Config())

    def write_and_read(parts):
        run.write_table("table", parts)
        return run.read_table("table")

    return write_and_read


def draw(function, *arguments):
    figure = function(*arguments)
    figure.draw_without_rendering()  # warnings would come only now
    return figure


def band(middle, **columns):
    middle = np.asarray(middle, float)
    return {**columns, "median": middle, "q25": middle - 0.5, "q75": middle + 0.25}


def profile(cell, phase, middle, half_life, lag=LAG, **columns):
    return band(middle, phase=phase, cell=cell, lag=lag, half_life=half_life, **columns)


def lines(ax, style="-"):
    return {line.get_label(): line for line in ax.lines if line.get_linestyle() == style}


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def bands(ax):
    """The lower and upper edge of each shaded band, at every x."""
    found = []
    for collection in ax.collections:
        assert isinstance(collection, PolyCollection)
        points = np.concatenate([path.vertices for path in collection.get_paths()])
        xs = np.unique(points[:, 0])
        at = [points[points[:, 0] == x, 1] for x in xs]
        found.append((xs, [ys.min() for ys in at], [ys.max() for ys in at]))
    return found


def test_gradient_profiles_are_the_medians_in_powers_of_ten(stored):
    middle = {
        ("elman", "before"): -0.9 * LAG,
        ("elman", "after"): -0.7 * LAG + 0.1 * LAG**2,
        ("lstm", "before"): -0.2 * LAG,
        ("lstm", "after"): 0.0 * LAG,
    }
    lives = {"elman": np.log(2) / 0.9, "lstm": np.inf}
    parts = [profile(c, p, m, lives[c]) for (c, p), m in middle.items()]
    figure = draw(figures.gradient_profiles, stored(parts), TITLES)
    assert [ax.get_title() for ax in figure.axes] == list(TITLES.values())
    for ax, phase in zip(figure.axes, TITLES, strict=True):
        labels = ["Elman, half-life 0.77 steps", "LSTM, half-life none (no decay)"]
        assert legend(ax) == labels
        for (cell, label), (xs, low, high) in zip(
            zip(lives, labels, strict=True), bands(ax), strict=True
        ):
            line = lines(ax)[label]
            want = middle[cell, phase]
            np.testing.assert_array_equal(line.get_xdata(), LAG)
            np.testing.assert_allclose(line.get_ydata(), want / LN10, rtol=1e-12)
            np.testing.assert_array_equal(xs, LAG)
            np.testing.assert_allclose(low, (want - 0.5) / LN10)
            np.testing.assert_allclose(high, (want + 0.25) / LN10)
            assert same_color(line.get_color(), figures.COLOURS[cell])
    (fit,) = lines(figure.axes[0], ":").values()  # none for what does not decay
    np.testing.assert_allclose(fit.get_ydata(), -0.9 * LAG / LN10, rtol=1e-12)
    (fit,) = lines(figure.axes[1], ":").values()
    np.testing.assert_allclose(np.diff(fit.get_ydata()), -0.9 / LN10)
    wanted = middle["elman", "after"].mean() / LN10
    np.testing.assert_allclose(np.mean(fit.get_ydata()), wanted, rtol=1e-12)
    assert figure.axes[0].get_yticklabels()[0].get_text().startswith("$10^{")


def test_what_is_exactly_zero_or_undefined_is_left_out(stored):
    gone = np.full(7, -np.inf)
    some = np.where(LAG < 4, -LAG, -np.inf)
    parts = [
        profile("elman", "before", gone, np.nan),
        profile("lstm", "before", some, np.log(2)),
        profile("elman", "after", gone, np.inf),
    ]
    figure = draw(figures.gradient_profiles, stored(parts), TITLES)
    before, after = figure.axes
    assert legend(before) == ["Elman, half-life undefined", "LSTM, half-life 0.693 steps"]
    assert legend(after) == ["Elman, half-life none (no decay)"]  # the LSTM has no rows there
    elman, lstm = lines(before).values()
    assert np.isnan(elman.get_ydata()).all()
    np.testing.assert_allclose(lstm.get_ydata()[:3], -LAG[:3] / LN10)
    assert np.isnan(lstm.get_ydata()[3:]).all()
    (fit,) = lines(before, ":").values()
    np.testing.assert_allclose(fit.get_ydata(), -LAG / LN10)


def test_a_cell_of_the_users_own_has_one_colour_everywhere(stored):
    cells = ("lstm", "mgu", "elman", "my own", "mgu")
    parts = [profile(c, p, -i * LAG, 1.0) for p in TITLES for i, c in enumerate(cells[:4])]
    figure = draw(figures.gradient_profiles, stored(parts), TITLES)
    found = []
    for ax in figure.axes:
        assert [label.split(",")[0] for label in legend(ax)] == ["LSTM", "mgu", "Elman", "my own"]
        solid, dotted = lines(ax).values(), [*ax.lines[1::2]]
        for line, fit, shade in zip(solid, dotted, ax.collections, strict=True):
            assert same_color(line.get_color(), fit.get_color())
            assert same_color(line.get_color(), shade.get_facecolor()[0, :3])
        found.append([line.get_color() for line in solid])
    assert found[0] == found[1] and len(set(found[0])) == 4
    many = [band([1.0], cell=f"cell {i}", step=5) for i in range(9)]
    assert len(draw(figures.learning_curves, stored(many), 0.5).axes[0].lines) == 10


def cell_at(mesh):
    """Return the cell of a heat map that covers a point, as a function of x and y."""
    corners, values = mesh.get_coordinates(), mesh.get_array()

    def at(x, y):
        column = np.searchsorted(corners[0, :, 0], x) - 1
        row = np.searchsorted(corners[:, 0, 1], y) - 1
        return values[row, column]

    return at


def test_heat_maps_have_steps_to_the_right_and_lags_upwards(stored):
    rng = np.random.default_rng(0)
    steps = [0, 10, 20, 50]
    values = {
        (c, s, k): -rng.uniform(1, 9) for c in ("gru", "mgu") for s in steps for k in (1, 2, 3)
    }
    values["gru", 20, 3] = -20.0  # one to recognise
    values["mgu", 0, 1] = -np.inf
    parts = [band([v], cell=c, step=s, lag=k) for (c, s, k), v in values.items()]
    rng.shuffle(parts)  # in any order
    parts.sort(key=lambda part: part["cell"])
    figure = draw(figures.profile_over_training, stored(parts))
    *panels, bar = figure.axes
    assert [ax.get_title() for ax in panels] == ["GRU", "mgu"]
    for ax, cell in zip(panels, ("gru", "mgu"), strict=True):
        (mesh,) = ax.collections
        at = cell_at(mesh)
        for (c, step, lag), value in values.items():
            if c == cell and np.isfinite(value):
                assert at(step, lag) == pytest.approx(value / LN10)
        (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
        assert left < right and bottom < top
        lowest, highest = mesh.get_clim()
        finite = [v / LN10 for v in values.values() if np.isfinite(v)]
        assert (lowest, highest) == pytest.approx((min(finite), max(finite)))
    image = panels[0].collections[0]
    assert cell_at(image)(20, 3) == image.get_array().min() == pytest.approx(-20 / LN10)
    assert np.ma.getmaskarray(panels[1].collections[0].get_array())[0, 0]
    assert panels[0].get_xlabel() == "training step" and panels[0].get_ylabel().startswith("lag k")
    assert bar.get_ylabel() == "gradient norm relative to lag 0"


@pytest.mark.parametrize(
    ("steps", "lags", "value"),
    [((0,), (1,), -1.0), ((0, 5), (1,), -1.0), ((0,), (1, 2), -np.inf), ((0, 5), (1, 2), 0.0)],
)
def test_small_and_flat_heat_maps(stored, steps, lags, value):
    parts = [band([value], cell="gru", step=s, lag=k) for s in steps for k in lags]
    figure = draw(figures.profile_over_training, stored(parts))
    (mesh,) = figure.axes[0].collections
    assert mesh.get_array().shape == (len(lags), len(steps))
    corners = mesh.get_coordinates()
    assert (np.diff(corners[0, :, 0]) > 0).all() and (np.diff(corners[:, 0, 1]) > 0).all()
    if np.isfinite(value):
        assert cell_at(mesh)(steps[-1], lags[-1]) == pytest.approx(value / LN10)


def test_learning_curves_stand_over_chance(stored):
    loss = {"elman": [0.3, 0.2, 0.17], "gru": [0.3, 0.01, 1e-5]}
    parts = [
        {"cell": c, "step": s, "median": v, "q25": v / 2, "q75": v * 2}
        for c, values in loss.items()
        for s, v in zip((10, 20, 30), values, strict=True)
    ]
    figure = draw(figures.learning_curves, stored(parts), 1 / 6, "held-out loss")
    (ax,) = figure.axes
    assert legend(ax) == ["Elman", "GRU", "chance 0.167"]
    assert (ax.get_yscale(), ax.get_ylabel()) == ("log", "held-out loss")
    for label, cell in (("Elman", "elman"), ("GRU", "gru")):
        np.testing.assert_array_equal(lines(ax)[label].get_xdata(), [10, 20, 30])
        np.testing.assert_array_equal(lines(ax)[label].get_ydata(), loss[cell])
    (chance,) = lines(ax, "--").values()
    np.testing.assert_allclose(chance.get_ydata(), 1 / 6)
    _, low, high = bands(ax)[1]
    np.testing.assert_allclose(low, np.array(loss["gru"]) / 2)
    np.testing.assert_allclose(high, np.array(loss["gru"]) * 2)


def test_path_split_draws_each_path_in_each_panel(stored):
    paths = {"c": "to c", "h": "to h", "joint": "to both"}
    parts = [
        band(-(i + j + 1) * LAG, phase=phase, path=path, lag=LAG)
        for i, phase in enumerate(TITLES)
        for j, path in enumerate(paths)
    ]
    figure = draw(figures.path_split, stored(parts), TITLES, paths)
    assert [ax.get_title() for ax in figure.axes] == list(TITLES.values())
    assert legend(figure.axes[0]) == list(paths.values())
    for i, ax in enumerate(figure.axes):
        assert [line.get_label() for line in ax.lines] == list(paths.values())
        assert [line.get_linestyle() for line in ax.lines] == ["-", "-", ":"]
        for j, line in enumerate(ax.lines):
            np.testing.assert_allclose(line.get_ydata(), -(i + j + 1) * LAG / LN10)
    assert len({line.get_color() for line in figure.axes[0].lines}) == 3
    more = {str(i): f"part {i}" for i in "abcde"}
    parts = [band(-LAG, phase="after", path=path, lag=LAG) for path in more]
    figure = draw(figures.path_split, stored(parts), {"after": "after"}, more)
    assert len({line.get_color() for line in figure.axes[0].lines}) == 5


def test_one_lag_or_step_is_a_dot(stored):
    """One seed, too: its quartiles are its median."""
    alone = {"median": -1.0, "q25": -1.0, "q75": -1.0}
    table = stored(
        [{"phase": p, "cell": "gru", "lag": 1, "half_life": np.nan} | alone for p in TITLES]
    )
    drawn = [draw(figures.gradient_profiles, table, TITLES)]
    table = stored([{"phase": "before", "path": "h", "lag": 1} | alone])
    drawn.append(draw(figures.path_split, table, {"before": "before"}, {"h": "to h"}))
    table = stored([{"cell": "gru", "step": 7, "median": 0.5, "q25": 0.5, "q75": 0.5}])
    drawn.append(draw(figures.learning_curves, table, 0.2))
    for figure in drawn:
        for ax in figure.axes:
            assert ax.lines[0].get_marker() == "." and len(ax.lines[0].get_ydata()) == 1


def test_drawing_needs_no_window_and_touches_no_global_state():
    code = """
import sys
import numpy as np
from rnnjax import figures
table = {"cell": ["gru"], "step": [1], "median": [.1], "q25": [.1], "q75": [.2]}
table = {name: np.array(column) for name, column in table.items()}
figures.learning_curves(table, 0.2).savefig(sys.stdout.buffer, format="svg")
assert "matplotlib.pyplot" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"") and b"<svg" in done.stdout


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


COUNTS = {
    "low": [0.1, 1.0, 10.0],
    "high": [1.0, 10.0, 100.0],
    "median": [4.0, 0.0, 2.0],
    "q25": [3.0, 0.0, 0.0],
    "q75": [8.0, 1.0, 5.0],
}


def test_histograms_are_steps_with_bands_and_say_what_is_in_no_bin(stored):
    columns = {name: np.array(column) for name, column in COUNTS.items()}
    parts = [
        {"kernel": kernel, "gate": gate, **columns, "zero": zero, "not_finite": lost}
        for kernel in ("input", "recurrent")
        for gate, zero, lost in (("f", 0.25, 0), ("n", 0, 3))
    ]
    figure = draw(
        lambda table: figures.histograms(table, "gate", panel="kernel", xlabel="|w|", log_x=True),
        stored(parts),
    )
    assert [ax.get_title() for ax in figure.axes] == ["input", "recurrent"]
    for ax in figure.axes:
        assert legend(ax) == ["f, 0.25 zero", "n, 3 not finite"]
        assert (ax.get_xscale(), ax.get_yscale(), ax.get_xlabel()) == ("log", "log", "|w|")
        for stairs in ax.patches:
            values, edges, _ = stairs.get_data()
            np.testing.assert_array_equal(edges, [0.1, 1, 10, 100])
            np.testing.assert_array_equal(values, [4, np.nan, 2])  # an empty bin is left out
        colours = [stairs.get_edgecolor() for stairs in ax.patches]
        assert not same_color(*colours)
        for colour, (xs, low, high) in zip(colours, bands(ax), strict=True):
            np.testing.assert_array_equal(xs, [0.1, 1, 10, 100])
            # the quartiles, on both sides of an edge; down to the least of all where q25 is zero
            np.testing.assert_array_equal(low, [3, 1, 1, 1])
            np.testing.assert_array_equal(high, [8, 8, 5, 5])
            assert len(colour) == 4
    bare = draw(lambda table: figures.histograms(table, "gate", xlabel="w"), stored(parts[:1]))
    assert bare.axes[0].get_xscale() == "linear"
    empty = dict.fromkeys(("median", "q25", "q75"), np.zeros(3))  # a bias that is zero, say
    none = draw(
        lambda table: figures.histograms(table, "gate", xlabel="w"), stored([parts[0] | empty])
    )
    assert legend(none.axes[0]) == ["f, 0.25 zero"]


def test_block_maps_have_a_row_for_each_kernel_and_one_scale_in_it():
    rng = np.random.default_rng(0)
    blocks = {
        "recurrent_kernel": {"r": rng.normal(size=(5, 5)), "n": 9 * rng.normal(size=(5, 5))},
        "bias": {"r": np.zeros(5), "n": np.zeros(5)},
        "recurrent_bias": {"": np.array([1.0, np.nan, -np.inf, 0.5, -2.0])},
    }
    figure = draw(figures.block_maps, blocks)
    maps = [ax for ax in figure.axes if ax.images]
    flat = [(kernel, gate) for kernel, gates in blocks.items() for gate in gates]
    assert len(maps) == len(flat) == 5
    assert [ax.get_title() for ax in maps] == [gate for _, gate in flat]
    kernel = blocks["recurrent_kernel"]
    highest = {
        "recurrent_kernel": max(np.abs(block).max() for block in kernel.values()),
        "bias": 1,
        "recurrent_bias": 2,
    }
    for ax, (kernel, gate) in zip(maps, flat, strict=True):
        (image,) = ax.images
        want = np.atleast_2d(blocks[kernel][gate])
        shown = np.ma.filled(image.get_array(), np.nan)
        np.testing.assert_array_equal(shown, np.where(np.isfinite(want), want, np.nan))
        assert image.get_clim() == (-highest[kernel], highest[kernel])
    rows = [ax.get_ylabel().replace("\n", "_") for ax in maps if ax.get_ylabel()]
    assert rows == list(blocks)


def test_eigenvalues_lie_in_the_plane_with_the_unit_circle(stored):
    real, imag = np.array([0.5, -2.0]), np.array([1.0, 0.0])
    parts = [
        {"gate": gate, "step": step, "real": sign * real, "imag": imag}
        for step in (50, 0)
        for gate, sign in (("f", 1), ("o", -1))
    ]
    *panels, bar = draw(figures.eigenvalues, stored(parts)).axes
    assert [ax.get_title() for ax in panels] == ["f", "o"]
    assert bar.get_ylabel() == "training step"
    for ax, sign in zip(panels, (1, -1), strict=True):
        (circle,) = ax.lines
        np.testing.assert_allclose(np.hypot(*circle.get_data()), 1)
        (dots,) = ax.collections
        want = np.stack([sign * real, imag], axis=1)
        np.testing.assert_array_equal(dots.get_offsets(), [*want, *want])
        np.testing.assert_array_equal(dots.get_array(), [0, 0, 50, 50])  # the last on top
        assert dots.get_clim() == (0, 50) and ax.get_aspect() == 1
    (ax, _) = draw(figures.eigenvalues, stored(parts[:1])).axes
    assert ax.collections[0].get_clim() == (50, 51)


def test_singular_values_are_followed_by_rank(stored):
    values = {1: [3.0, 2.0, 1.5], 2: [1e-3, 0.0, 0.5], 3: [0.0, 0.0, 1e-2]}
    parts = [
        {"gate": "h", "step": step, "rank": rank, "value": column[i]}
        for i, step in enumerate((0, 10, 20))
        for rank, column in values.items()
    ]
    ax, bar = draw(figures.singular_values, stored(parts)).axes
    *ranks, one = ax.lines
    np.testing.assert_array_equal(one.get_ydata(), [1, 1])
    assert len(ranks) == 3 and ax.get_yscale() == "log" and bar.get_ylabel() == "rank"
    for line, column in zip(ranks, values.values(), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), [0, 10, 20])
        shown = [value or np.nan for value in column]
        np.testing.assert_array_equal(line.get_ydata(), shown)
    assert len({tuple(line.get_color()) for line in ranks}) == 3
    assert [line.get_marker() for line in ranks] == ["", "", "."]


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


def test_layer_profiles_count_lags_from_each_sequences_own_end():
    values = np.arange(12.0).reshape(6, 2)  # [T, B]
    values[0] = -np.inf
    figure = draw(figures.layer_profiles, {"layers_0/carry": values, "inputs": values[:4]})
    (ax,) = figure.axes
    assert legend(ax) == ["layers_0/carry", "inputs"]
    for name, count in (("layers_0/carry", 6), ("inputs", 4)):
        line = lines(ax)[name]
        assert line.get_xdata().tolist() == list(range(1, count + 1))
        want = values[:count][::-1, 0] / LN10
        want[-1] = np.nan
        np.testing.assert_allclose(line.get_ydata(), want)
    figure = draw(figures.layer_profiles, {"a": values}, np.array([6, 3]), {"a": "layer 1"})
    line = lines(figure.axes[0])["layer 1"]
    low = np.minimum(values[5:2:-1, 0], values[2::-1, 1])
    np.testing.assert_allclose(line.get_ydata(), np.where(low == -np.inf, np.nan, low) / LN10)


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
