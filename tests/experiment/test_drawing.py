"""The figures of every application are drawn from its tables."""

import dataclasses

import numpy as np

from rnnjax import experiment
from rnnjax.runs import Run


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(experiment.ApplicationOptions):
    """Of a run in these tests."""


def test_gradients_and_training_are_drawn_from_their_tables(tmp_path):
    run = Run.create(tmp_path / "run", Config())
    table = {"lag": np.arange(1, 5), "median": -np.arange(4.0), "q25": -np.inf, "q75": 0.0}
    run.write_table("gradients", [{"layer": "inputs", **table}])
    loss = {"median": [1.0, 0.5], "q25": [0.8, 0.4], "q75": [1.2, 0.6]}
    run.write_table("training", [{"series": "training loss", "step": [10, 20], **loss}])
    before = {path.name: path.read_bytes() for path in run.path.glob("*.csv")}
    experiment.draw(run)
    for name in ("gradients", "training"):
        assert (run.path / f"{name}.png").stat().st_size > 1000
    assert {path.name: path.read_bytes() for path in run.path.glob("*.csv")} == before


def test_without_a_recorded_loss_there_is_no_figure_of_training(tmp_path):
    run = Run.create(tmp_path / "run", Config())
    table = {"lag": np.arange(1, 3), "median": -np.arange(2.0), "q25": -np.inf, "q75": 0.0}
    run.write_table("gradients", [{"layer": "inputs", **table}])
    run.write_table("training", [{n: [] for n in ("series", "step", "median", "q25", "q75")}])
    experiment.draw(run)
    assert (run.path / "gradients.png").exists() and not (run.path / "training.png").exists()


def test_curves_take_their_labels_from_a_format(tmp_path, monkeypatch):
    run = Run.create(tmp_path / "run", Config())
    experiment.draw_curves(run, "gains", "lag", "gain", xlabel="lag", ylabel="norm")
    assert not (run.path / "gains.png").exists()  # there is no such table
    rows = {"lag": np.arange(3), "median": np.arange(3.0)}
    run.write_table("gains", [{"gain": 0.5, **rows}, {"gain": 2.0, **rows}])
    saved = {}
    monkeypatch.setattr(Run, "save_figure", lambda _, name, figure: saved.update({name: figure}))
    options = {"xlabel": "lag", "ylabel": "norm"}
    formatted = {"label_format": "gain {:g}", "names": {2.0: "the largest"}}
    experiment.draw_curves(run, "gains", "lag", "gain", **formatted, **options)
    labels = [text.get_text() for text in saved["gains"].axes[0].get_legend().get_texts()]
    assert labels == ["gain 0.5", "the largest"]

    def gains(table):
        return table["gain"].tolist()

    experiment.draw_tables(run, {"gains": gains, "not_written": gains})
    assert saved.pop("gains") == [0.5] * 3 + [2.0] * 3  # and nothing of a table that is not there
    one = experiment.select(run.read_table("gains"), gain=2.0)
    experiment.draw_curves(run, "largest", "lag", "gain", table=one, **options)
    assert len(saved["largest"].axes[0].get_legend().get_texts()) == 1


def test_another_column_and_the_lag_have_their_labels(tmp_path, monkeypatch):
    run = Run.create(tmp_path / "run", Config())
    rows = {"lag": np.arange(3), "norm": np.arange(3.0) + 1}
    run.write_table("norms", [{"cell": "gru", **rows}])
    saved = {}
    monkeypatch.setattr(Run, "save_figure", lambda _, name, figure: saved.update({name: figure}))
    experiment.draw_curves(run, "norms", "lag", "cell", value="norm", ylabel="norm", level=2.0)
    (ax,) = saved["norms"].axes
    assert ax.get_xlabel() == "lag k = T - t (steps before the end)"
    assert ax.lines[0].get_ydata().tolist() == [1, 2, 3]


def test_heat_maps_are_drawn_if_there_are_rows(tmp_path):
    run = Run.create(tmp_path / "run", Config())
    table = {"x": np.arange(2.0), "y": np.arange(2.0), "z": np.arange(2.0)}
    labels = {"xlabel": "x", "ylabel": "y", "label": "z"}
    none = {name: column[:0] for name, column in table.items()}
    experiment.draw_heat_maps(run, "map", "x", "y", "z", table=none, **labels)
    assert not (run.path / "map.png").exists()
    experiment.draw_heat_maps(run, "map", "x", "y", "z", table=table, **labels)
    assert (run.path / "map.png").stat().st_size > 1000


def test_heat_maps_of_a_table_that_has_rows(tmp_path):
    run = Run.create(tmp_path / "run", Config())
    labels = {"xlabel": "x", "ylabel": "y", "label": "value"}
    run.write_table("empty", [{"x": [], "y": [], "value": []}])
    experiment.draw_heat_maps(run, "empty", "x", "y", "value", **labels)
    assert not (run.path / "empty.png").exists()
    run.write_table("full", [{"x": [1, 2], "y": [1, 1], "value": [0.5, 1.0]}])
    experiment.draw_heat_maps(run, "full", "x", "y", "value", **labels)
    assert (run.path / "full.png").stat().st_size > 1000
