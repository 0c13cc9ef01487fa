"""The series against pandas and statsmodels; forecasts that cannot look ahead."""

import importlib.util
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from rnnjax.datasets import series

ALL = (*series.PRICES, *series.MEASUREMENTS)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    for name in ALL:
        series.load(name, directory)
    return directory


# --- the data ---------------------------------------------------------------------------------


def oracle(name):
    """Return the series as pandas reads it."""
    if name in series.PRICES:  # as arch does, which takes seconds to import
        (place,) = importlib.util.find_spec("arch").submodule_search_locations
        table = pd.read_csv(f"{place}/data/{name}/{name}.csv.gz", index_col="Date")
        table.index = pd.to_datetime(table.index, format="%m/%d/%Y")
        return table.apply(pd.to_numeric, errors="coerce")
    import statsmodels.datasets

    return getattr(statsmodels.datasets, name).load_pandas().data


@pytest.mark.parametrize("name", ["sp500", "nasdaq"])
def test_share_indices_are_what_arch_ships(name, data_dir):
    found, expected = series.load(name, data_dir), oracle(name)
    np.testing.assert_array_equal(found.dates, expected.index.to_numpy("datetime64[D]"))
    for ours, theirs in (("values", "Close"), ("low", "Low"), ("high", "High")):
        np.testing.assert_array_equal(getattr(found, ours), expected[theirs])
    assert np.all(found.low <= found.values) and np.all(found.values <= found.high)


def test_oil_is_what_arch_ships_on_the_days_with_a_price(data_dir):
    found, expected = series.load("wti", data_dir), oracle("wti")["DCOILWTICO"].dropna()
    np.testing.assert_array_equal(found.dates, expected.index.to_numpy("datetime64[D]"))
    np.testing.assert_array_equal(found.values, expected)
    assert len(found.low) == len(found.high) == 0


def test_co2_is_what_statsmodels_gives_with_its_missing_weeks(data_dir):
    found, expected = series.load("co2", data_dir), oracle("co2")
    np.testing.assert_array_equal(found.dates, expected.index.to_numpy("datetime64[D]"))
    np.testing.assert_array_equal(found.values, expected["co2"])
    assert np.isnan(found.values).sum() == 59


def test_elnino_and_sunspots_are_what_statsmodels_gives(data_dir):
    found, expected = series.load("elnino", data_dir), oracle("elnino")
    np.testing.assert_array_equal(found.values, expected.iloc[:, 1:].to_numpy().ravel())
    months = pd.date_range("1950-01-01", "2010-12-01", freq="MS")
    np.testing.assert_array_equal(found.dates, months.to_numpy("datetime64[D]"))
    found, expected = series.load("sunspots", data_dir), oracle("sunspots")
    np.testing.assert_array_equal(found.values, expected["SUNACTIVITY"])
    np.testing.assert_array_equal(
        found.dates.astype("datetime64[Y]").astype(int) + 1970, expected["YEAR"]
    )


@pytest.mark.parametrize("name", ALL)
def test_series_are_in_the_order_of_time(name, data_dir):
    assert np.all(np.diff(series.load(name, data_dir).dates).astype(int) > 0)


def test_the_data_sets_document_themselves(data_dir):
    import tensorflow_datasets as tfds

    for name, version in (("prices", "1.0.0"), ("measurements", "1.0.0")):
        builder = tfds.builder_from_directory(data_dir / name / version)
        assert "Demonstration scale" in builder.info.description
        assert builder.info.citation and builder.info.homepage.startswith("https://")


def test_an_unknown_series_is_named(data_dir):
    with pytest.raises(ValueError, match="series must be one of sp500, .*, sunspots; got 'gold'"):
        series.load("gold", data_dir)


@pytest.mark.parametrize(("name", "package"), [("sp500", "arch"), ("co2", "statsmodels")])
def test_without_the_package_the_error_names_the_extra(name, package, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'rnnjax\[series\]'") as caught:
        series.load(name, tmp_path)
    assert package in str(caught.value) and "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_reading_imports_neither_the_packages_nor_pandas_nor_tensorflow(tmp_path):
    code = (
        "import sys; from rnnjax.datasets import series\n"
        "print('tensorflow_datasets' in sys.modules, 'grain' in sys.modules)\n"
        "series.load('wti', sys.argv[1]), series.load('co2', sys.argv[1])\n"
        "print({'arch', 'statsmodels', 'pandas', 'tensorflow'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, tmp_path], capture_output=True, text=True
    )
    assert done.stdout == "False False\nset()\n" and done.stderr == ""


# --- files of one's own -----------------------------------------------------------------------


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


# --- what is computed -------------------------------------------------------------------------


def test_returns_and_ranges_by_hand():
    found = series.log_returns(np.array([1.0, np.e, 1.0]))
    np.testing.assert_allclose(found, [1, -1], rtol=1e-15)
    found = series.log_ranges(np.array([1.0, 5.0]), np.array([np.exp(np.e), 5.0]))
    np.testing.assert_allclose(found, [1, np.log(1e-4)], rtol=1e-15)
    with pytest.raises(ValueError, match="prices must be positive, got -37"):
        series.log_returns(np.array([20.0, -37.0]))
    for low in (0.0, 3.0):
        with pytest.raises(ValueError, match="low prices must be positive and no higher"):
            series.log_ranges(np.array([low]), np.array([2.0]))


def test_what_is_missing_is_the_last_value_before_it():
    values = np.array([np.nan, 1, np.nan, np.nan, 2, 3, np.nan])
    expected = pd.Series(values).ffill().to_numpy()
    np.testing.assert_array_equal(series.carried_forward(values), expected)


def test_scaling_gives_mean_zero_and_std_one_and_is_undone():
    values = np.random.default_rng(0).normal(3, 5, (50, 2))
    scaling = series.Scaling.fit(values)
    scaled = scaling.apply(values)
    np.testing.assert_allclose([scaled.mean(0), scaled.std(0)], [[0, 0], [1, 1]], atol=1e-14)
    np.testing.assert_allclose(scaling.undo(scaled), values, rtol=1e-12)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e9])
def test_a_constant_is_scaled_to_zero(constant):
    values = np.full((7, 1), constant)
    scaling = series.Scaling.fit(values)
    assert scaling.std == 1
    np.testing.assert_allclose(scaling.apply(values), 0, atol=1e-6)


def test_forecasts_read_what_is_before_and_are_about_what_comes():
    """Against a loop over a series whose values are its steps."""
    steps, window, horizon = np.arange(20.0), 4, 3
    found = series.origins(2, 15, window, horizon)
    read = series.inputs(steps[:, None], found, window)
    about = series.targets(steps, found, horizon)
    expected = [o for o in range(20) if o >= 4 and o >= 2 and o + 3 <= 15]
    assert found.tolist() == expected == list(range(4, 13))
    for row, origin in enumerate(expected):
        assert read[row].ravel().tolist() == [origin + lag for lag in (-4, -3, -2, -1)]
        assert about[row].tolist() == [origin, origin + 1, origin + 2]
    assert len(series.origins(0, 6, window, horizon)) == 0


def test_folds_walk_forward_by_calendar_years():
    dates = np.arange("2001-03-01", "2004-06-01", dtype="datetime64[D]")
    folds = series.walk_forward(dates, [2003, 2004], window=10, horizon=5)
    for fold in folds:
        years = dates.astype("datetime64[Y]").astype(int) + 1970
        assert years[fold.start] == fold.year > years[fold.start - 1]
        assert fold.train[0] == 10 and fold.train[-1] == fold.start - 5
        assert fold.test[0] == fold.start
        about = fold.test[:, None] + np.arange(5)
        assert np.unique(about).tolist() == np.flatnonzero(years == fold.year).tolist()
    message = "year 2001 needs 15 steps before it and 5 within it; the series has 0 and 306"
    with pytest.raises(ValueError, match=message):
        series.walk_forward(dates, [2001], window=10, horizon=5)
    with pytest.raises(ValueError, match="year 2005 needs .* the series has 1188 and 0"):
        series.walk_forward(dates, [2005], window=10, horizon=5)


def test_no_fold_looks_ahead(data_dir):
    """What comes at the origin or after it changes no input, no scaling and nothing learned from.

    All is computed as a forecaster does, from the prices on.
    """
    source = series.load("sp500", data_dir)
    window, horizon = 20, 5

    def seen(prices):
        """Return what the forecasts of each fold depend on."""
        returns = series.log_returns(prices)
        for fold in series.walk_forward(source.dates[1:], [2001, 2017], window, horizon):
            scaling = series.Scaling.fit(returns[: fold.start, None])
            scaled = scaling.apply(returns[:, None])
            learned = (
                series.inputs(scaled, fold.train, window),
                series.targets(returns, fold.train, horizon),
            )
            yield fold, scaling, learned, series.inputs(scaled, fold.test, window)

    for number, (fold, scaling, learned, read) in enumerate(seen(source.values)):
        for row in (0, 100, -1):
            origin = fold.test[row]
            changed = source.values.copy()
            changed[origin + 1 :] *= np.random.default_rng(row + 1).uniform(
                0.5, 2, len(changed) - origin - 1
            )  # return o is known with price o + 1
            assert np.all(
                series.log_returns(changed)[origin:] != series.log_returns(source.values)[origin:]
            )
            _, again, learned_again, read_again = list(seen(changed))[number]
            np.testing.assert_array_equal(again, scaling)
            np.testing.assert_array_equal(read_again[row], read[row])
            np.testing.assert_array_equal(learned_again[0], learned[0])
            np.testing.assert_array_equal(learned_again[1], learned[1])
            # The price before is read: the test would see it.
            changed[origin] *= 1.1
            *_, read_again = list(seen(changed))[number]
            assert np.any(read_again[row] != read[row])
