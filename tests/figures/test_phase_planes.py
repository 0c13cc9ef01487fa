"""Fixed points are drawn by their stability, over trajectories and unstable directions."""

import numpy as np
from drawn import draw
from matplotlib import colormaps
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgba
from matplotlib.quiver import Quiver

from rnnjax import figures
from rnnjax.figures.phase_planes import KINDS


def points(**columns):
    table = {"x": [0, 1, 2, 3, 4], "y": [5, 6, 7, 8, 9], "num_unstable": [0, 1, 1, 2, 5]}
    return {name: np.array(column) for name, column in (table | columns).items()}


def test_each_kind_of_point_has_its_colour_marker_and_label():
    figure = draw(lambda: figures.phase_plane(points()))
    (ax,), (legend,) = figure.axes, figure.legends
    dots = [c for c in ax.collections if isinstance(c, PathCollection)]
    places = [np.asarray(c.get_offsets()).tolist() for c in dots]
    assert places == [[[0, 5]], [[1, 6], [2, 7]], [[3, 8]], [[4, 9]]]
    assert [t.get_text() for t in legend.get_texts()] == [text for text, *_ in KINDS.values()]
    for c, (_, colour, _) in zip(dots, KINDS.values(), strict=True):
        assert np.allclose(np.asarray(c.get_facecolor())[0], to_rgba(colour))
    shapes = {np.asarray(c.get_paths()[0].vertices).tobytes() for c in dots}
    assert len(shapes) == len(KINDS)  # told apart without colour


def test_panels_have_their_own_trajectories_and_directions():
    cells = ["elman", "elman", "gru", "gru", "gru"]
    table = points(cell=cells)
    paths = {"x": [0, 1, 0, 2], "y": [0, 1, 0, 3], "trajectory": [0, 0, 1, 1]}
    paths = {
        n: np.array(c) for n, c in (paths | {"cell": ["gru", "gru", "elman", "elman"]}).items()
    }
    lines = {"x": [1.0], "y": [6.0], "dx": [0.5], "dy": [-1.0], "cell": ["elman"]}
    lines = {name: np.array(column) for name, column in lines.items()}
    figure = draw(lambda: figures.phase_plane(table, paths, lines, panel="cell"))
    elman, gru = figure.axes
    assert [ax.get_title() for ax in figure.axes] == ["Elman", "GRU"]
    got = [
        [tuple(np.asarray(line.get_xydata()).T.ravel()) for line in ax.lines] for ax in (elman, gru)
    ]
    assert got == [[(0, 2, 0, 3), (0.5, 1.5, 7, 5)], [(0, 1, 0, 1)]]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [KINDS[k][0] for k in KINDS]


def test_paths_may_be_coloured_by_a_number():
    paths = {"x": [0, 1, 0, 2], "y": [0, 1, 0, 3], "trajectory": [0, 0, 1, 1]}
    paths = {n: np.array(c) for n, c in (paths | {"coherence": [-50, -50, 25, 25]}).items()}
    options = {"colour": "coherence", "colour_label": "coherence, %"}
    figure = draw(lambda: figures.phase_plane(points(), paths, **options))
    ax, bar = figure.axes
    assert bar.get_ylabel() == "coherence, %"
    assert [line.get_linestyle() for line in ax.lines] == ["--", "-"]
    scale = colormaps["RdBu_r"]
    expected = [scale(0.0), scale(0.75)]
    np.testing.assert_allclose([line.get_color() for line in ax.lines], expected)


def test_arrows_of_a_flow_field_have_one_length_and_a_colour_for_their_speed():
    x, y = (a.ravel() for a in np.meshgrid(np.linspace(-1, 1, 3), np.linspace(-1, 1, 3)))
    table = {"x": x, "y": y, "dx": -x / 2, "dy": -y / 10}
    origin = {"x": np.zeros(1), "y": np.zeros(1), "num_unstable": np.zeros(1, int)}
    figure = draw(lambda: figures.flow_field(table, origin, xlabel="a", ylabel="b"))
    ax = figure.axes[0]
    (arrows,) = (c for c in ax.collections if isinstance(c, Quiver))
    moving = (x != 0) | (y != 0)
    speed = np.hypot(table["dx"], table["dy"])[moving]
    np.testing.assert_allclose(np.asarray(arrows.get_array()), speed)
    np.testing.assert_allclose(np.hypot(arrows.U, arrows.V), 1)
    np.testing.assert_allclose(arrows.U * speed, table["dx"][moving])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("a", "b")
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["stable"]


def test_a_field_of_one_speed_and_no_points():
    table = {"x": np.arange(3.0), "y": np.zeros(3), "dx": np.ones(3), "dy": np.zeros(3)}
    figure = draw(lambda: figures.flow_field(table, xlabel="a", ylabel="b"))
    assert not figure.legends


def test_paths_in_a_flow_field_are_told_apart():
    table = {"x": np.arange(3.0), "y": np.zeros(3), "dx": np.ones(3), "dy": np.zeros(3)}
    paths = {
        "x": [0.0, 1.0, 0.5, 2.0],
        "y": [0.0, 1.0, 0.0, 0.5],
        "interval": [800, 800, 1500, 1500],
    }
    paths = {
        name: np.array(column) for name, column in (paths | {"trajectory": [0, 0, 1, 1]}).items()
    }
    options = {"series": "interval", "names": {800: "short", 1500: "long"}}
    figure = draw(lambda: figures.flow_field(table, None, paths, xlabel="a", ylabel="b", **options))
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["short", "long"]
    lines = [line for line in figure.axes[0].lines if len(np.asarray(line.get_xdata())) == 2]
    assert [np.asarray(line.get_xdata()).tolist() for line in lines] == [[0, 1], [0.5, 2]]
    assert len({line.get_linestyle() for line in lines}) == 2
    assert len({line.get_color() for line in lines}) == 2


def test_trajectories_are_coloured_by_a_number_and_their_ends_are_marked():
    table = {
        "network": ["elman", "elman", "gru", "gru", "gru"],
        "trajectory": [0, 0, 0, 1, 1],
        "interval": [800, 800, 800, 1500, 1500],
        "x": [0.0, 1.0, 5.0, 2.0, 3.0],
        "y": [0.0, 2.0, 5.0, 4.0, 6.0],
    }
    table = {name: np.array(column) for name, column in table.items()}
    options = {"start": "Set", "end": "Go", "panel": "network"}
    figure = draw(lambda: figures.trajectories(table, "interval", "interval, ms", **options))
    elman, gru, bar = figure.axes
    assert [elman.get_title(), gru.get_title()] == ["Elman", "GRU"]
    assert bar.get_ylabel() == "interval, ms"
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["Set", "Go"]
    assert [np.asarray(line.get_xdata()).tolist() for line in gru.lines] == [[5], [2, 3]]
    assert elman.lines[0].get_color() == gru.lines[0].get_color() != gru.lines[1].get_color()
    marks = [np.asarray(c.get_offsets()).tolist() for c in gru.collections]
    assert marks == [[[5, 5]], [[5, 5]], [[2, 4]], [[3, 6]]]
