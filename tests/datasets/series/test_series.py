"""The series against the packages that ship them."""

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
