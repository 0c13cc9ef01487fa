"""Gradient profiles recorded over training, and which of them are compared in a figure."""

import collections
from types import SimpleNamespace

import numpy as np
import pytest

from rnnjax.experiment import profile_tables
from rnnjax.training import TrainingResult


def chunk(first, last, observed):
    metrics = {"loss": np.ones((last - first + 1, 2))}
    return SimpleNamespace(first_step=first, step=last, observed=observed, metrics=metrics)


def profiles(rate, **parts):
    falling = np.broadcast_to(-rate * np.arange(1.0, 6)[:, None], (2, 5, 3))  # [S, K, B]
    return {"h": falling, "joint": falling} | {name: falling + more for name, more in parts.items()}


def trained(steps, **parts):
    ends = [profiles(1.0 / (i + 1), **parts) for i in range(len(steps) + 1)]
    firsts = [1, *(step + 1 for step in steps)]
    rows = zip(firsts, steps, ends[1:], strict=False)
    return TrainingResult(None, ends[0], [chunk(*row) for row in rows])  # pyright: ignore


@pytest.mark.parametrize(
    ("steps", "phases"),
    [
        ([2, 4, 6, 8], {"before": 0, "during": 4, "after": 8}),
        ([3, 6, 7], {"before": 0, "during": 3, "after": 7}),
        ([5], {"before": 0, "after": 5}),
    ],
)
def test_profiles_before_halfway_and_after_are_compared(steps, phases):
    tables = collections.defaultdict(list)
    half_lives = profile_tables.record(tables, "gru", trained(steps))
    for i, step in enumerate([0, *steps]):  # the rate is 1 / (i + 1)
        assert half_lives[step] == pytest.approx((i + 1) * np.log(2), rel=1e-5)
    assert [row["step"] for row in tables["profile_over_training"]] == [0, *steps]
    compared = {row["phase"]: row["step"] for row in tables["gradient_profiles"]}
    assert compared == phases
    for row in tables["gradient_profiles"]:
        assert row["half_life"] == half_lives[row["step"]]
    assert "path_split" not in tables
    assert {row["cell"] for row in tables["learning_curves"]} == {"gru"}
    assert tables["learning_curves"][-1]["step"] == steps[-1]


def test_an_lstm_is_split_by_path_in_these_phases():
    tables = collections.defaultdict(list)
    profile_tables.record(tables, "lstm", trained([2, 4, 6, 8], carousel=-1.0, rest=-2.0))
    rows = tables["path_split"]
    assert [(row["phase"], row["path"]) for row in rows] == [
        (phase, path)
        for phase in ("before", "during", "after")
        for path in ("h", "joint", "carousel", "rest")
    ]
    np.testing.assert_allclose(rows[2]["median"], rows[1]["median"] - 1)
