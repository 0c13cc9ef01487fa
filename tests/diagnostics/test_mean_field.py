"""Mean-field theory against published numbers and a wide network."""

import math

import numpy as np
import pytest

from rnnjax.diagnostics import critical_gain, gaussian_mean, mean_field_exponent, mean_squared_slope


def logistic_slope(x):
    s = 1 / (1 + np.exp(-x))
    return s * (1 - s)


@pytest.mark.parametrize(
    ("function", "value"),
    [
        (lambda x: 1 - np.tanh(x) ** 2, 0.60571),
        (lambda x: (1 - np.tanh(x) ** 2) ** 2, 0.46440),
        (logistic_slope, 0.20662),
    ],
)
def test_slopes_at_unit_variance(function, value):
    assert gaussian_mean(function, 1.0) == pytest.approx(value, abs=5.1e-6)
    assert gaussian_mean(np.square, 2.5) == pytest.approx(2.5, rel=1e-12)
    assert mean_squared_slope(1.0) == pytest.approx(0.46440, abs=5.1e-6)


def test_the_first_exponent_of_random_networks():
    for gain, value in {1.5: 0.0652, 2.0: 0.1547, 3.0: 0.3103}.items():
        assert mean_field_exponent(gain) == pytest.approx(value, abs=6e-5)
    for gain in (0.3, 0.99, 1.0):
        assert mean_field_exponent(gain) == pytest.approx(math.log(gain), abs=1e-12)
    # E[tanh^2] = 1 - 0.60571 at unit variance, so that with these inputs it is the fixed point.
    driven = mean_field_exponent(1.0, 0.6057055)
    assert driven == pytest.approx(math.log(0.4644029) / 2, abs=1e-6)


@pytest.mark.slow
def test_a_wide_network_does_as_theory_says():
    rng = np.random.default_rng(0)
    gain, width = 1.5, 1000
    U = gain * np.linalg.qr(rng.normal(size=(width, width)))[0]
    h, v, logs = np.zeros(width), rng.normal(size=width), []
    for t in range(60):
        h = np.tanh(h @ U + rng.normal(size=width))
        v = (v @ U) * (1 - h**2)
        if t >= 20:
            logs.append(math.log(np.linalg.norm(v)))
        v /= np.linalg.norm(v)
    assert np.mean(logs) == pytest.approx(mean_field_exponent(gain, 1.0), abs=0.02)


@pytest.mark.slow
def test_growth_begins_at_the_critical_gain_of_a_large_network():
    rng = np.random.default_rng(0)
    critical, width = critical_gain(0.8**2), 800
    U = critical * np.linalg.qr(rng.normal(size=(width, width)))[0]
    h, v, logs = np.zeros(width), rng.normal(size=width), []
    for _ in range(80):
        h = np.tanh(h @ U + 0.8 * rng.normal(size=width))
        v = (v @ U) * (1 - h**2)
        logs.append(math.log(np.linalg.norm(v)))
        v /= np.linalg.norm(v)
    assert np.mean(logs[20:]) == pytest.approx(0, abs=0.02)


@pytest.mark.slow
def test_without_inputs_growth_begins_at_gain_1():
    assert critical_gain(0.0) == pytest.approx(1, abs=1e-3)  # the fixed point is slow to reach


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0,), "gain must be positive and finite, got 0.0"),
        ((math.nan,), "gain must be positive and finite, got nan"),
        ((1.0, -1.0), "input_variance must be finite and not negative, got -1.0"),
        ((1.0, 0.0, 0), "rounds must be a positive integer, got 0"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        mean_field_exponent(*arguments)
