"""Gradient profiles, heat maps over training and learning curves show their tables."""

import subprocess
import sys

import numpy as np
import pytest
from drawn import LAG, LN10, band, bands, cell_at, draw, legend, lines
from matplotlib.colors import same_color

from rnnjax import figures

TITLES = {"before": "before training (step 0)", "after": "after training (step 50)"}


def profile(cell, phase, middle, half_life, lag=LAG, **columns):
    return band(middle, phase=phase, cell=cell, lag=lag, half_life=half_life, **columns)


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


@pytest.mark.slow
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


def test_one_lag_or_step_is_a_marker(stored):
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
            assert ax.lines[0].get_markevery() == [0] and len(ax.lines[0].get_ydata()) == 1


@pytest.mark.slow
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
