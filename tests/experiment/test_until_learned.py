"""Networks trained until a rule is met: what is counted, and what is shown."""

import numpy as np
import pytest

from rnnjax import experiment, training
from rnnjax.experiment import SeedOptions


def test_learned_networks_are_counted_and_drawn_as_a_staircase(capsys):
    """Three networks, of which two have met a rule of two sequences after 5 and 3."""
    rule = training.StoppingRule(0.5, window=2)
    right = np.array([[True, True], [True, True], [False, True]])
    judged = training.Judged(np.array([5, 3, 9]), right, np.zeros((3, 2), np.float32))
    params = {"w": np.zeros((3, 2, 2)), "b": np.zeros((3, 2))}
    state = training.TrainState(params, (), np.full(3, 9), None, (), judged)
    errors = {4: [0.4, 0.2, 0.3], 9: [0.1, 0.2, 0.6]}
    chunks = [
        training.ChunkRecord(1, t, {}, np.full(3, t), (), {"error": np.array(of)})
        for t, of in errors.items()
    ]
    result = training.TrainingResult(state, {"error": np.zeros(3)}, chunks)
    tables = {"learned": [], "error": [], "networks": []}
    config = SeedOptions(seeds=3)
    entry = experiment.add_learned(tables, config, rule, result, [0, 1, 7], "one")
    assert entry == {"weights": 6, "sequences": [5, 3, None], "wrong": [0, 1, 7]}
    assert experiment.sequences_taken(entry).tolist() == [5, 3, np.inf]
    (row,) = tables["learned"]
    assert row["sequences"] == [0, 3, 3, 5, 5, 9]
    assert row["median"] == pytest.approx([0, 0, 1 / 3, 1 / 3, 2 / 3, 2 / 3])
    (row,) = tables["error"]
    assert row["sequences"] == [4, 9] and row["median"].tolist() == [0.3, 0.2]
    experiment.show_learned({"one": entry, "none": entry | {"sequences": [None] * 3}})
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["one", "6", "2", "of", "3", "4", "4", "3", "5", "1", "7"]
    assert lines[2].split() == ["none", "6", "0", "of", "3", "-", "-", "-", "-", "1", "7"]
