"""Tables that experiments share, against what they are by hand."""

import math
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.experiment import (
    estimate_text,
    loss_curve,
    nested,
    print_table,
    profile_rows,
    quantile_band,
    rates_by_lag,
    select,
    step_band,
    surface_columns,
)


def test_a_band_is_over_members_and_examples():
    values = np.arange(24.0).reshape(2, 3, 4)  # [S, K, B]
    band = quantile_band(values)
    for k in range(3):
        own = np.sort(values[:, k].ravel())
        assert band["median"][k] == np.median(own)
        assert band["q25"][k] == (own[1] + own[2]) / 2 and band["q75"][k] == (own[5] + own[6]) / 2


def test_a_profile_has_lags_from_one():
    values = np.arange(3.0)[:, None] - np.arange(1, 9)  # [S, K]
    rows = profile_rows(values[..., None])
    assert rows["lag"].tolist() == list(range(1, 9))
    np.testing.assert_array_equal(rows["median"], values[1])


def test_a_band_by_step_is_over_the_sequences_that_have_it():
    values = np.array([[[1.0, 2.0], [3.0, 99.0]], [[5.0, 6.0], [7.0, 99.0]]])  # [S, T, B]
    band = step_band("letter", values, [2, 1])
    assert band["letter"].tolist() == [1, 2]
    assert band["median"].tolist() == [3.5, 5.0]  # of 1, 2, 5, 6; and of 3, 7


def test_rows_are_selected_by_mask_and_by_value():
    table = {"cell": np.array(["gru", "lstm", "gru"]), "step": np.array([1, 2, 3])}
    assert select(table, cell="gru")["step"].tolist() == [1, 3]
    assert select(table, cell="gru", step=3) == {"cell": ["gru"], "step": [3]}
    assert select(table, np.array([False, True, True]))["step"].tolist() == [2, 3]
    assert select(table, np.array([2, 0]), cell="gru")["step"].tolist() == [3, 1]
    assert select(table, cell="elman")["step"].tolist() == []
    assert select(table, cell=["lstm", "gru"], step=[1, 2])["step"].tolist() == [1, 2]


def test_a_loss_curve_leaves_out_members_that_stopped():
    losses = np.array([[1.0, 5.0], [3.0, np.nan], [5.0, np.nan], [7.0, np.nan]])
    chunk = SimpleNamespace(metrics={"loss": losses}, first_step=11)
    rows = loss_curve(chunk, windows=2)
    assert [row["step"] for row in rows] == [12, 14]
    assert [row["median"] for row in rows] == [2.0, 6.0]
    assert [row["step"] for row in loss_curve(chunk, windows=9)] == [11, 12, 13, 14]


def test_a_printed_table_is_aligned(capsys):
    print_table(["cell", "loss", "note"], [["elman", 0.123456, None], ["gru", 12, "ok"]], indent=1)
    assert capsys.readouterr().out.splitlines() == [
        " cell     loss  note",
        " elman  0.1235     -",
        " gru        12    ok",
    ]


def test_an_estimate_is_a_text_with_its_interval():
    entry = {"value": 1.23456, "low": 1.0, "high": math.inf}
    assert estimate_text(entry).split() == ["1.235", "[1,", "inf]"]
    assert estimate_text(entry | {"theory": 2.0}).split()[-1] == "(2)"
    assert len(estimate_text(entry)) == 37


def test_rows_are_nested_by_their_columns():
    rows = [
        {"cell": "gru", "what": "a", "at": 1, "theory": math.nan},
        {"cell": "gru", "what": "b", "at": 1, "theory": 0.5},
        {"cell": "lstm", "what": "a", "at": 2, "theory": 0.5},
    ]
    found = nested(rows, "cell", "what", optional=["theory"])
    assert found["gru"] == {"a": [{"at": 1}], "b": [{"at": 1, "theory": 0.5}]}
    assert list(found) == ["gru", "lstm"]


def test_the_rate_is_fitted_to_the_later_three_quarters():
    lags = np.array([1, 10, 20, 30, 40])
    logs = {"a": np.array([50.0, 3, 1, -1, -3])[:, None], "b": np.zeros((5, 2, 3))}
    columns, rates = rates_by_lag({"cell": "gru"}, lags, logs, {"a": -0.25}, skip=1 / 4)
    assert rates["a"] == {"rate": pytest.approx(-0.2), "r2": pytest.approx(1), "theory": -0.25}
    assert rates["b"]["theory"] is None and np.isnan(columns["b"]["theory"]).all()
    assert columns["a"]["cell"] == "gru" and columns["a"]["median"].tolist() == [50, 3, 1, -1, -3]
    np.testing.assert_allclose(columns["a"]["theory"], -0.25 * lags)
    infinite = {"c": np.array([1.0, -2, -4, -6, -np.inf])[:, None], "d": np.full((5, 1), np.inf)}
    _, rates = rates_by_lag({}, lags, infinite, {})
    assert rates["c"]["rate"] == pytest.approx(-0.2) and math.isnan(rates["d"]["rate"])


def test_a_surface_is_a_table_with_a_row_for_each_point():
    axes = {"w": np.array([1.0, 2.0, 3.0]), "b": np.array([0.5, 4.0])}
    center = {"w": jnp.zeros(()), "b": jnp.zeros(())}
    table = surface_columns(lambda params: params["w"] * params["b"] ** 2, center, axes)
    assert list(table) == ["w", "b", "loss", "log_gradient_norm"]
    pairs = [(w, b) for b in axes["b"] for w in axes["w"]]
    assert [*zip(table["w"], table["b"], strict=True)] == pairs
    np.testing.assert_allclose(table["loss"], table["w"] * table["b"] ** 2, rtol=1e-6)
    gradient = np.hypot(table["b"] ** 2, 2 * table["w"] * table["b"])
    np.testing.assert_allclose(np.exp(table["log_gradient_norm"]), gradient, rtol=1e-6)
