"""A user's own series."""

import numpy as np
import pytest

from rnnjax.datasets import series


@pytest.mark.parametrize(
    "text",
    [
        "1.5\n2\n-3e2\n",
        "\ufeff1.5\r\n\r\n 2 \r\n-3e2",
        "value\n1.5\n2\n-3e2\n",
        "Date,Open,Close,Adj Close\n1/4/1999,9,1.5,9\n1/5/1999,9,2,9\n1/6/1999,9,-3e2,9\n",
    ],
)
def test_a_file_of_numbers_or_with_a_header_is_read(text, tmp_path):
    (tmp_path / "f.csv").write_text(text, encoding="utf-8", newline="")
    found = series.read_file(tmp_path / "f.csv")
    assert found.values.tolist() == [1.5, 2.0, -300.0] and len(found.low) == 0
    assert found.dates.shape == (3,) and np.isnat(found.dates).all()


def test_low_and_high_are_read_where_both_are_there(tmp_path):
    (tmp_path / "f.csv").write_text("high, CLOSE ,low\n3,2,1\n6,5,4\n")
    found = series.read_file(tmp_path / "f.csv")
    assert [found.low.tolist(), found.values.tolist(), found.high.tolist()] == [
        [1.0, 4.0],
        [2.0, 5.0],
        [3.0, 6.0],
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "f.csv holds no numbers"),
        ("Date,Price\n1,2\n", "f.csv needs one number a line, or a header with Close or Value"),
        ("1,2\n3,4\n", "f.csv needs one number a line, or a header with Close or Value"),
        ("Close\n", "f.csv holds no numbers"),
        ("1\nnan\n", "f.csv, line 2: a finite number is needed, got 'nan'"),
        ("1\n\ninf\n", "f.csv, line 3: a finite number is needed, got 'inf'"),
        ("Date,Close\n1/4/1999,1\n1/5/1999\n", "f.csv, line 3: a finite number is needed, got ''"),
        ("Date,Close\n1/4/1999,.\n", "f.csv, line 2: a finite number is needed, got '.'"),
    ],
)
def test_a_file_that_is_no_series_is_refused_in_one_line(text, message, tmp_path):
    (tmp_path / "f.csv").write_text(text)
    with pytest.raises(ValueError) as caught:
        series.read_file(tmp_path / "f.csv")
    assert str(caught.value).endswith(message) and "\n" not in str(caught.value)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "f.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(ValueError, match=r"f\.csv is no text file"):
        series.read_file(tmp_path / "f.csv")
    with pytest.raises(FileNotFoundError):
        series.read_file(tmp_path / "none.csv")
