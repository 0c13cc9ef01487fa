"""What forecasts read and predict, by loops over days."""

import numpy as np
import pytest

from rnnjax.datasets import series

WINDOW, HORIZON = 8, 3


@pytest.fixture(scope="module")
def prices():
    return series.load("sp500")


@pytest.fixture(scope="module")
def volatility():
    return series.Volatility(decay=0.9, decays=(0.7, 0.9, 0.99))


def folds(prices, *years):
    return series.walk_forward(prices.dates[1:], years, WINDOW, HORIZON)


def test_volatility_is_read_as_log_ranges_and_returns(prices, volatility):
    values, low, high = volatility.values(prices), prices.low[5], prices.high[5]
    np.testing.assert_allclose(
        values[4], [np.log(np.log(high / low)), np.log(prices.values[5] / prices.values[4])]
    )
    nothing = prices._replace(low=prices.low[:0], high=prices.high[:0])
    with pytest.raises(ValueError, match="low and high prices are needed"):
        volatility.values(nothing)
    np.testing.assert_array_equal(series.Returns().values(prices)[:, 0], values[:, 1])


def test_volatility_is_counted_from_the_exponential_average_of_its_window(prices, volatility):
    values = volatility.values(prices)
    scaling = series.Scaling(np.zeros(2), np.ones(2))
    asked = series.questions_at(values, scaling, np.array([50, 70]), WINDOW, HORIZON, 0.9)
    for row, origin in enumerate((50, 70)):
        weights = [0.9**lag for lag in range(WINDOW)]
        level = np.dot(weights, values[origin - WINDOW : origin, 0][::-1]) / sum(weights)
        np.testing.assert_allclose(asked.levels[row], [level], rtol=1e-5)
        window = values[origin - WINDOW : origin]
        np.testing.assert_allclose(asked.inputs[row, :, 0], window[:, 0] - level, atol=1e-5)
        np.testing.assert_allclose(asked.inputs[row, :, 1], window[:, 1], atol=1e-5)
        ahead = values[origin : origin + HORIZON, 0] - level
        np.testing.assert_allclose(asked.targets[row], ahead, atol=1e-5)
    inputs, levels = series.last_question(values[:70], scaling, WINDOW, 0.9)
    np.testing.assert_array_equal(inputs[0], asked.inputs[1])
    np.testing.assert_array_equal(levels[0], asked.levels[1])


def test_without_a_decay_the_level_is_zero(prices):
    values = series.Returns().values(prices)
    scaling = series.Scaling.fit(values)
    asked = series.questions_at(values, scaling, np.array([50]), WINDOW, HORIZON)
    scaled = scaling.apply(values)[:, 0]
    np.testing.assert_allclose(asked.inputs[0, :, 0], scaled[42:50], rtol=1e-5)
    np.testing.assert_allclose(asked.targets[0], scaled[50:53], rtol=1e-5)
    assert asked.levels.tolist() == [[0]]


def test_the_simple_forecasts_of_volatility_are_those_of_a_loop(prices, volatility):
    values = volatility.values(prices)[:600, 0]
    (fold,) = folds(prices, 2001)
    fold = fold._replace(test=fold.test[:5])
    found = volatility.simple_forecasts(values, fold, HORIZON)
    np.testing.assert_array_equal(found["last value"], [values[o - 1] for o in fold.test])
    np.testing.assert_allclose(found["training mean"], [values[: fold.start].mean()] * 5)

    def of_decay(decay, origin):
        level = values[0]
        for value in values[1:origin]:
            level = decay * level + (1 - decay) * value
        return level

    errors = {
        decay: np.mean([(values[o : o + 3] - of_decay(decay, o)) ** 2 for o in fold.train])
        for decay in volatility.decays
    }
    best = min(errors, key=lambda decay: errors[decay])
    assert best != 0.99  # one that is not the best
    expected = [of_decay(best, o) for o in fold.test]
    np.testing.assert_allclose(found["exponential average"], expected, rtol=1e-9)


def test_the_simple_forecasts_of_returns_are_constant(prices):
    values = series.Returns().values(prices)[:, 0]
    (fold,) = folds(prices, 2001)
    found = series.Returns().simple_forecasts(values, fold, HORIZON)
    assert not found["no change"].any() and len(found["no change"]) == len(fold.test)
    np.testing.assert_allclose(found["training mean"], values[: fold.start].mean())


def test_sentences_by_hand(volatility):
    found = list(series.Returns().sentences(np.log([1.5, 2.0]), 10.0))
    assert found == [
        "day 1: log return +40.547 %, price 15.00",
        "day 2: log return +69.315 %, price 30.00",
    ]
    (found,) = volatility.sentences(np.log(np.log([1.02])), 10.0)
    assert found == "day 1: log range -3.922, the high 2.00 % above the low"


def test_folds_of_one_shape_and_the_last_days(prices):
    (fold,) = folds(prices, 2001)
    values = series.Returns().values(prices)
    np.testing.assert_array_equal(fold.scaling(values), series.Scaling.fit(values[: fold.start]))
    fold = fold._replace(test=np.array([5, 6]))
    assert fold.padded_test(4).tolist() == [5, 6, 6, 6]
    lines = {"a": np.arange(3.0), "b": np.ones(3)}
    first, second = series.last_days(lines, np.array([5, 6, 7]), prices.dates, 2)
    assert (first["series"], second["series"]) == ("a", "b")
    assert first["day"].tolist() == [6, 7] and first["median"].tolist() == [1, 2]
    assert first["date"].tolist() == prices.dates[6:8].astype(str).tolist()
    assert series.root_mean_square(np.array([[3.0, 4.0], [0.0, 0.0]])) == 2.5


def test_the_direction_of_returns_and_examples_to_read(prices, volatility):
    ahead, true = np.array([[[1.0], [-2.0]], [[3.0], [0.5]]]), np.array([[0.2], [-0.1]])
    found = series.Returns().entries(ahead, true)
    assert found == {"right_direction": [1.0, 0.5], "rising_days": 0.5}
    assert volatility.entries(ahead, true) == {}
    origins = np.array([5, 6])
    first, second = series.forecast_examples(ahead[0], true, origins, prices.dates, 2)
    assert first == {
        "forecast on": str(prices.dates[4]),
        "of the next days": "1.00",
        "true values": "0.20",
    }
    assert second["of the next days"] == "-2.00"
