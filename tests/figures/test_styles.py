"""Series have one look in every figure, told apart without colour and by the colour-blind."""

import itertools

import numpy as np
import pytest
from drawn import LAG, band, draw, legend, lines
from matplotlib.colors import to_rgb

from rnnjax import figures
from rnnjax.figures import styles

OWN = "./mine.py:MyCell"
CELLS = "lstm", OWN, "elman", "my_cells:MGU", "gru"


def luminance(colour):
    """Return the lightness L* of CIELAB."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return 116 * np.cbrt(linear @ [0.2126, 0.7152, 0.0722]) - 16


def seen_without_green(colour):
    """Return a colour as deuteranopes see it, linear RGB: Vienot, Brettel, Mollon 1999."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    matrix = [[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]]
    return np.clip(np.array(matrix) @ linear, 0, 1) ** (1 / 2.2)


def test_the_librarys_cells_look_the_same_in_every_figure():
    whole = styles.series(CELLS)
    for cell in ("elman", "lstm", "gru"):
        assert whole[cell][:4] == styles.series([OWN, cell])[cell][:4]
        assert whole[cell].colour == figures.COLOURS[cell]


@pytest.mark.parametrize("name", ["colour", "marker", "dashes"])
def test_each_of_many_series_has_its_own_look(name):
    looks = styles.series([*CELLS, *map(str, range(20))]).values()
    assert len({(s.colour, s.marker) for s in looks}) == 25
    few = [getattr(s, name) for s in styles.series(CELLS).values()]
    assert len(set(map(str, few))) == len(CELLS)


def test_colours_differ_for_those_who_see_no_green():
    colours = [s.colour for s in styles.series(map(str, range(8))).values()]
    for a, b in itertools.combinations(colours, 2):
        assert np.linalg.norm(seen_without_green(a) - seen_without_green(b)) > 0.15, (a, b)
    assert all(luminance(c) < 75 for c in colours)  # on white


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("elman", "Elman"),
        ("lstm", "LSTM"),
        ("gru", "GRU"),
        ("mgu", "mgu"),
        ("./mine.py:MyCell", "MyCell"),
        ("/home/me/my cells/mine.py:MyCell", "MyCell"),
        ("deep_bidirectional_gru", "deep bidirectional GRU"),
        ("deep_./mine.py:MyCell", "deep MyCell"),
        ("bidirectional_mine:MyCell", "bidirectional MyCell"),
        ("deep_thought", "deep_thought"),
        ("residual_lstm", "residual LSTM"),
        ("my_cells:MGU", "MGU"),
        ("package.cells:MGU", "MGU"),
        ("ratio 1:2", "ratio 1:2"),
        ("1:2", "1:2"),
        ("Bach, held out: bass", "Bach, held out: bass"),
    ],
)
def test_names_in_print(name, label):
    assert styles.name(name) == label


def test_a_network_looks_like_its_cell_where_it_is_the_only_one():
    alone = styles.series(["residual_lstm", "residual_lru", 3.0])
    assert alone["residual_lstm"].colour == styles.COLOURS["lstm"]
    assert alone["residual_lru"].colour not in styles.COLOURS.values()
    both = styles.series(["deep_lstm", "lstm"])
    assert both["lstm"].colour == styles.COLOURS["lstm"] != both["deep_lstm"].colour
    twice = styles.series(["deep_lstm", "residual_lstm"])
    assert styles.COLOURS["lstm"] not in {style.colour for style in twice.values()}


def test_labels_are_given_or_short_or_whole_where_they_would_be_equal():
    given = styles.series(["lstm", "a:B"], {"a:B": "mine"})
    assert [s.label for s in given.values()] == ["LSTM", "mine"]
    equal = styles.series(["a:B", "gru", "b:B", 0.25, 1e-7])
    labels = ["a:B", "GRU", "b:B", "0.25", "$10^{-7}$"]
    assert [s.label for s in equal.values()] == labels


def draw_profiles(stored):
    parts = [band(-LAG, phase="after", cell=c, lag=LAG, half_life=np.nan) for c in CELLS]
    return draw(figures.gradient_profiles, stored(parts), {"after": "after"})


def draw_learning(stored):
    parts = [band(LAG / 9, cell=c, step=LAG) for c in CELLS]
    return draw(figures.learning_curves, stored(parts), 0.5)


def draw_curves(stored):
    table = stored([band(LAG, cell=c, t=LAG) | {"theory": LAG + 1.0} for c in CELLS])
    return draw(lambda: figures.curves(table, "t", "cell", xlabel="t", ylabel="y"))


@pytest.mark.parametrize("drawn", [draw_profiles, draw_learning, draw_curves])
def test_lines_of_any_cells_have_markers_of_their_own_and_short_labels(drawn, stored):
    (ax,) = drawn(stored).axes
    labels = [text.split(",")[0] for text in legend(ax)][: len(CELLS)]
    assert labels == ["LSTM", "MyCell", "Elman", "MGU", "GRU"]
    solid = list(lines(ax).values())
    assert len({line.get_marker() for line in solid}) == len(CELLS)
    assert all(len(line.get_markevery()) >= 5 for line in solid)


def test_a_comparison_shows_own_cells_with_one_marker_on_both_sides(stored):
    results = {"network": CELLS, "value": LAG[:5], "low": LAG[:5] - 1.0, "high": LAG[:5] + 1.0}
    results = {name: np.array(column) for name, column in results.items()}
    gradients = stored([{"network": c, "lag": LAG, "median": -1.0 * LAG} for c in CELLS])
    figure = draw(
        lambda: figures.comparison(
            results | {"baseline": np.ones(5)}, gradients, metric="error", baseline="mean"
        )
    )
    left, right = figure.axes
    assert [t.get_text() for t in left.get_yticklabels()] == [
        "LSTM",
        "MyCell",
        "Elman",
        "MGU",
        "GRU",
    ]
    points = [line.get_marker() for line in left.lines[1:-1:2]]
    assert points == [line.get_marker() for line in right.lines] and len(set(points)) == 5


def test_heat_maps_histograms_and_coordinates_take_any_cell(stored):
    names = ["LSTM", "MyCell", "Elman", "MGU", "GRU"]
    over = [band([-1.0 * i], cell=c, step=s, lag=1) for s in (0, 1) for i, c in enumerate(CELLS)]
    *panels, _ = draw(figures.profile_over_training, stored(over)).axes
    assert [ax.get_title() for ax in panels] == names
    table = stored([{"cell": c, "x": x, "v": x * i} for i, c in enumerate(CELLS) for x in (1, 2)])
    options = {"xlabel": "x", "ylabel": "cell", "label": "v"}
    ax, _ = draw(lambda: figures.heat_maps(table, "x", "cell", "v", **options)).axes
    assert [t.get_text() for t in ax.get_yticklabels()] == names
    draw(lambda: figures.parallel_coordinates(table, ["cell", "x"], "v", label="v"))
    edges = {"low": np.arange(3.0), "high": np.arange(1.0, 4.0)}
    bins = stored([band([1.0, 2.0, 1.0], cell=c, **edges) for c in CELLS])
    (ax,) = draw(lambda: figures.histograms(bins, "cell", xlabel="gate")).axes
    assert legend(ax) == names
    assert len({str(stairs.get_linestyle()) for stairs in ax.patches}) == len(CELLS)
