"""The TFDS builders of the series that arch and statsmodels ship; they run without TensorFlow."""

import csv
import datetime
import gzip
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

from rnnjax.datasets.builders import Builder, package_file
from rnnjax.datasets.series.sources import PRICES

FEATURES = "low", "high", "values"


class SeriesBuilder(Builder, skip_registration=True):
    """Builds one example per series: its days since 1970-01-01 and its values; abstract.

    A subclass has `series`. Each series is its own split, with the name of the series; users of
    the data split it in time.
    """

    @classmethod
    def features(cls):
        """Return the features of a series, without `index`."""
        kept = tfds.features.Encoding.BYTES  # otherwise TFDS rounds to float32
        floats = {
            name: tfds.features.Tensor(shape=(None,), dtype=np.float64, encoding=kept)
            for name in FEATURES
        }
        days = tfds.features.Tensor(shape=(None,), dtype=np.int32)
        return {"days": days, **floats}

    def series(self):
        """Yield names, and the series as dictionaries of the features."""
        raise NotImplementedError


class Prices(SeriesBuilder, skip_registration=True):
    """Build the series of daily prices that the package arch ships: sp500, nasdaq, wti.

    Raises ModuleNotFoundError when arch is missing.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "Three series of arch 8.0."}
    DESCRIPTION = """\
Daily prices as the package arch ships them (NCSA licence): the share indices S&P 500 and NASDAQ
Composite, 1999 to 2018, low, high and close in points; and West Texas Intermediate crude oil, 1986
to the first days of 2019, in dollars a barrel (from FRED, series DCOILWTICO), without a range and
without the days on which there was no price. Demonstration scale."""
    CITATION = """\
@software{sheppard_arch,
  title = {arch: Autoregressive Conditional Heteroskedasticity models in Python},
  author = {Sheppard, Kevin and others},
  doi = {10.5281/zenodo.593254},
}"""
    HOMEPAGE = "https://github.com/bashtage/arch"

    def series(self):
        """Yield names, and the series as dictionaries of the features."""
        for name in PRICES:
            path = package_file("arch", "data", name, f"{name}.csv.gz", extra="series")
            with gzip.open(path, "rt", newline="", encoding="utf-8") as file:
                header, *lines = csv.reader(file)
            if name == "wti":
                places, lines = [1], [line for line in lines if line[1] != "."]
            else:
                places = [header.index(column) for column in ("Close", "Low", "High")]
            dates = [datetime.datetime.strptime(line[0], "%m/%d/%Y").date() for line in lines]
            yield name, _row(dates, *([line[place] for line in lines] for place in places))

    def _split_generators(self, dl_manager):
        return {name: self._generate_examples([row]) for name, row in self.series()}


class Measurements(SeriesBuilder, skip_registration=True):
    """Build the series of nature that statsmodels ships: co2, elnino, sunspots.

    Raises ModuleNotFoundError when statsmodels is missing.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "Three series of statsmodels 0.14."}
    DESCRIPTION = """\
Measurements as the package statsmodels ships them (the data are in the public domain):
co2: CO2 in the air of Mauna Loa, Hawaii, parts per million, weekly averages, 1958 to 2001, 59 weeks
missing (Keeling and Whorf 2004); elnino: sea surface temperature in the region Nino 1+2, degrees
Celsius, monthly averages, 1950 to 2010 (NOAA, ERSST.V3B); sunspots: sunspot numbers, yearly
averages, 1700 to 2008 (National Geophysical Data Center). Demonstration scale."""
    CITATION = """\
@inproceedings{seabold2010statsmodels,
  title = {statsmodels: Econometric and statistical modeling with Python},
  author = {Seabold, Skipper and Perktold, Josef},
  booktitle = {9th Python in Science Conference},
  year = {2010},
}"""
    HOMEPAGE = "https://www.statsmodels.org/stable/datasets"

    def series(self):
        """Yield names, and the series as dictionaries of the features."""
        weeks = _table("co2")
        dates = [datetime.datetime.strptime(day, "%Y%m%d").date() for day, _ in weeks]
        yield "co2", _row(dates, [value or "nan" for _, value in weeks])
        months = [
            (datetime.date(int(float(year)), month, 1), value)
            for year, *values in _table("elnino")
            for month, value in enumerate(values, 1)
        ]
        yield "elnino", _row(*zip(*months, strict=True))
        years = [(datetime.date(int(year), 1, 1), value) for year, value in _table("sunspots")]
        yield "sunspots", _row(*zip(*years, strict=True))

    def _split_generators(self, dl_manager):
        return {name: self._generate_examples([row]) for name, row in self.series()}


def _table(name):
    """Return the lines of a CSV file of statsmodels below its header."""
    path = package_file("statsmodels", "datasets", name, f"{name}.csv", extra="series")
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))[1:]


def _row(dates, values, low=(), high=()):
    days = np.array(dates, "datetime64[D]").astype(np.int32)
    floats = {
        n: np.array(v, np.float64) for n, v in zip(FEATURES, (low, high, values), strict=True)
    }
    return {"days": days, **floats}
