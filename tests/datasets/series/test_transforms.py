"""Returns, ranges, missing values and scaling, by hand."""

import json

import numpy as np
import pandas as pd
import pytest

from rnnjax.datasets import series


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


def test_the_exponential_average_is_that_of_a_loop():
    values = np.random.default_rng(0).normal(size=20)
    expected = [values[0]]
    for value in values[1:]:
        expected.append(0.8 * expected[-1] + 0.2 * value)
    np.testing.assert_allclose(series.exponential_average(values, 0.8), expected, rtol=1e-12)


def test_a_scaling_is_the_same_from_lists_and_its_first_column_alone():
    values = np.random.default_rng(0).normal(3, 5, (50, 2))
    scaling = series.Scaling.fit(values)
    kept = series.Scaling.from_lists(json.loads(json.dumps(scaling.as_lists())))
    np.testing.assert_array_equal(kept, scaling)
    scaled = scaling.apply(values)[:, :1].reshape(5, 10)
    np.testing.assert_allclose(scaling.first.undo(scaled), values[:, 0].reshape(5, 10), rtol=1e-12)
