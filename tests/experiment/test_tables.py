"""Tables that experiments share, against what they are by hand."""

from types import SimpleNamespace

import numpy as np

from rnnjax.experiment import (
    loss_curve,
    print_table,
    profile_rows,
    quantile_band,
    select,
    step_band,
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
