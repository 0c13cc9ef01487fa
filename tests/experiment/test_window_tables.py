"""Tables of windows and draws are those of NumPy, and their figures show them."""

import numpy as np
from drawn import legend
from run_directories import Config

from rnnjax.experiment import add_windows, draw_windows
from rnnjax.runs import Run

NETWORKS = [
    {"variance": 4.0, "half_life": 3.0, "k_9": 2},
    {"variance": 16.0, "half_life": 6.0, "k_9": 1},
]
ERRORS = {"d = 1": [[0.5, 0.25, 0.125]], "d = 2": [[0.5, 0.3, 0.2]]}


def add(tables, cell="gru"):
    add_windows(tables, cell, NETWORKS, ERRORS, (1, 9))
    return tables


def test_every_series_has_its_errors_and_draws_their_level():
    tables = add({"errors": [], "networks": []})
    one, nine, first, second = tables["errors"]
    assert [row["series"] for row in (first, second)] == list(ERRORS)
    assert [row["series"] for row in (one, nine)] == ["UORO, 1 draw", "UORO, 9 draws"]
    for row in tables["errors"]:
        np.testing.assert_array_equal(row["k"], [1, 2, 3])
    np.testing.assert_allclose(second["median"], ERRORS["d = 2"][0])
    np.testing.assert_allclose(one["median"], 3)  # between 2 and 4
    np.testing.assert_allclose(one["q25"], 2)
    np.testing.assert_allclose(nine["q75"], 4 / 3)
    assert tables["networks"] == [{"cell": "gru", **row} for row in NETWORKS]


def test_both_figures_are_drawn_from_the_tables(tmp_path, monkeypatch):
    run, drawn = Run.create(tmp_path / "run", Config()), {}
    run.write_tables(add(add({"errors": [], "networks": []}), "lstm"))
    monkeypatch.setattr(Run, "save_figure", lambda self, name, figure: drawn.update({name: figure}))
    draw_windows(run, "k_9", 9)
    assert [ax.get_title() for ax in drawn["errors"].axes] == ["GRU", "LSTM"]
    (below,) = drawn["errors"].legends
    names = [text.get_text() for text in below.get_texts()]
    assert names == ["UORO, 1 draw", "UORO, 9 draws", *ERRORS]
    (ax,) = drawn["crossings"].axes
    # log2(9) / 2 = 1.58; V = 10 is more than 9 draws can average, so there is no line for it
    assert legend(ax) == ["GRU", "LSTM", "formula: 1.6 half-lives (V = 1)"]
    np.testing.assert_allclose(ax.lines[0].get_xydata(), [[3, 2], [6, 1]])
    np.testing.assert_allclose(ax.lines[2].get_xydata(), [[h, h * np.log2(9) / 2] for h in (3, 6)])
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
