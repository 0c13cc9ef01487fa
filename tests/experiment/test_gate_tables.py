"""Live metrics averaged over parts of training, histograms of gates, growth over seeds."""

import collections
from types import SimpleNamespace

import numpy as np
import pytest

from rnnjax import diagnostics
from rnnjax.experiment import gate_tables
from rnnjax.training import TrainingResult


def chunk(first, metrics, counts, observed=None):
    steps = len(next(iter(metrics.values())))
    return SimpleNamespace(
        first_step=first,
        step=first + steps - 1,
        counts=np.array(counts),
        metrics={name: np.asarray(values, float) for name, values in metrics.items()},
        observed=observed,
    )


def test_metrics_are_averaged_over_parts_and_adjoints_relative_to_lag_1():
    metrics = {
        "loss": [[4, 9], [2, 9], [1, 9], [3, 9]],
        "gate_f_low": [[0.5, 9], [0.7, 9], [0.1, 9], [0.1, 9]],
        "gate_f_mean": np.ones((4, 2)),
        "adjoint_norm_lag_1": [[2, 9], [2, 9], [0, 9], [0, 9]],
        "adjoint_norm_lag_5": [[1, 9], [3, 9], [1, 9], [1, 9]],
        "update_ratio_kernel": np.full((4, 2), 0.1),
        "grad_norm": np.ones((4, 2)),
    }
    tables = collections.defaultdict(list)
    one = chunk(11, metrics, counts=[4, 2])  # the second member has stopped
    gate_tables.record_live(tables, "lstm", one, windows=2)
    found = {name: [(row["series"], row["step"], row["median"]) for row in rows]
             for name, rows in tables.items()}  # fmt: skip
    assert found["learning_curves"] == [("", 12, 3), ("", 14, 2)]
    assert found["saturation"] == [("f_low", 12, pytest.approx(0.6)), ("f_low", 14, 0.1)]
    assert found["update_ratios"] == [("kernel", 12, 0.1), ("kernel", 14, 0.1)]
    lag_1, lag_5, *rest = found["adjoint_norms"]
    assert (lag_1, lag_5) == (("1", 12, 1), ("5", 12, 1))
    assert all(np.isnan(median) for _, _, median in rest)  # no gradient at lag 1
    assert set(found) == {"learning_curves", "saturation", "update_ratios", "adjoint_norms"}


def test_gates_are_counted_before_and_after():
    values = np.random.default_rng(0).uniform(size=(2, 2, 7, 3, 5)).astype(np.float32)
    seeds = [[diagnostics.gate_statistics(v, bins=4) for v in end] for end in values]
    ends = [
        {"gates": {"f": diagnostics.GateStatistics(*map(np.stack, zip(*end, strict=True)))}}
        for end in seeds
    ]
    metrics = {"loss": [[1, 1]], "adjoint_norm_lag_1": [[1, 1]]}
    trained = TrainingResult(None, ends[0], [chunk(1, metrics, [1, 1], ends[1])])  # pyright: ignore
    tables = collections.defaultdict(list)
    gate_tables.record(tables, "lstm", trained)
    for row, end in zip(tables["gates"], values, strict=True):
        counts = [np.histogram(v, 4, (0, 1))[0] for v in end]
        np.testing.assert_array_equal(row["median"], np.mean(counts, axis=0))
        np.testing.assert_allclose(row["low"], [0, 0.25, 0.5, 0.75])
    assert [row["phase"] for row in tables["gates"]] == ["before", "after"]
    low, high = (values[1] < 0.1), (values[1] > 0.9)
    shares = (low | high).mean((1, 2, 3))
    saturated = gate_tables.saturation(ends[1]["gates"])
    assert saturated == {"saturated_f": pytest.approx(np.median(shares), rel=1e-5)}


def test_growth_is_the_median_ratio_with_its_interval():
    found = gate_tables.growth([1.0, 2.0, 4.0], [2.0, 8.0, 12.0])
    assert found["growth_of_seeds"] == [2, 4, 3] and found["growth"]["value"] == 3
    assert (found["before"], found["after"]) == (2, 8)
    assert 2 <= found["growth"]["low"] <= 3 <= found["growth"]["high"] <= 4
    entry = {"before": 3.0, "after": 12.0, "growth": {"value": 4.0, "low": 3.5, "high": 5.0}}
    assert gate_tables.growth_text(entry) == "3 -> 12  (4 [3.5, 5])"
    assert gate_tables.growth_text(None) is None
