"""What forecasts read and predict, and folds by year."""

import numpy as np
import pytest

from rnnjax.datasets import series

ALL = (*series.PRICES, *series.MEASUREMENTS)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    for name in ALL:
        series.load(name, directory)
    return directory


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
