"""Checks of options that take several values: what is refused, and in which words."""

import math
from types import SimpleNamespace

import pytest

from rnnjax.command_line import (
    ArgumentError,
    as_argument_error,
    distinct,
    finite,
    fraction,
    positive,
    rising,
)


@pytest.mark.parametrize("values", [(), ("a", "a"), (1, 2, 1)])
def test_values_must_be_there_and_each_once(values):
    with pytest.raises(ArgumentError, match=r"^--batch-sizes needs one or more values, each once"):
        distinct(SimpleNamespace(batch_sizes=values), "batch_sizes")


@pytest.mark.parametrize(
    ("values", "above", "allowed"),
    [
        ((1.0, math.nan), -math.inf, "finite"),
        ((math.inf,), -math.inf, "finite"),
        ((0.0, 1.0), 0, "positive and finite"),
        ((math.nan,), 0, "positive and finite"),
        ((2.0, 4.0), 2, "finite and above 2"),
    ],
)
def test_numbers_must_be_finite_and_above_their_bound(values, above, allowed):
    with pytest.raises(ArgumentError) as error:
        finite(SimpleNamespace(gains=values), "gains", above=above)
    given = " ".join(map(str, values))
    assert str(error.value) == f"--gains must be {allowed}, each once, got {given}"


def test_right_values_pass():
    config = SimpleNamespace(gains=(0.5, 2.0), biases=(-1.0, 0.0), names=("a", "b"))
    distinct(config, "names", "gains")
    finite(config, "gains", above=0)
    finite(config, "gains", "biases")


@pytest.mark.parametrize(
    ("low", "high"),
    [(2.0, 1.0), (1.0, 1.0), (0.0, math.inf), (-math.inf, 0.0), (math.nan, 1.0)],
)
def test_the_ends_of_a_range_must_be_finite_and_rise(low, high):
    with pytest.raises(ArgumentError, match="^--b-min and --b-max must be finite and in rising"):
        rising(SimpleNamespace(b_min=low, b_max=high), "b_min", "b_max")


def test_values_must_rise():
    rising(SimpleNamespace(gains=(0.5, 2.0), low=1, high=3), "gains")
    rising(SimpleNamespace(low=1, high=3), "low", "high")
    with pytest.raises(ArgumentError) as error:
        rising(SimpleNamespace(t_maxes=(4.0, 8.0, 5.0)), "t_maxes")
    assert str(error.value) == "--t-maxes must be finite and in rising order, got 4.0 8.0 5.0"


def test_a_fraction_lies_strictly_between_0_and_1():
    fraction(SimpleNamespace(share=0.5), "share")
    for value in (0, 1, -0.1, math.nan):
        with pytest.raises(ArgumentError, match=r"^--share must lie between 0 and 1, got "):
            fraction(SimpleNamespace(share=value), "share")


def test_a_librarys_error_names_the_option():
    too_early = pytest.raises(ArgumentError, match=r"^--years: 1999 is too early$")
    with too_early as error, as_argument_error("--years"):
        raise ValueError("1999 is too early")
    assert error.value.__suppress_context__
    with pytest.raises(KeyError), as_argument_error("--years"):
        raise KeyError("another kind of error")


def test_numbers_may_have_a_largest_value():
    finite(SimpleNamespace(gains=(0.5, 100.0)), "gains", above=0, most=100)
    with pytest.raises(ArgumentError) as error:
        finite(SimpleNamespace(gains=(0.5, 100.5)), "gains", above=0, most=100)
    allowed = "positive and finite, at most 100, each once"
    assert str(error.value) == f"--gains must be {allowed}, got 0.5 100.5"


@pytest.mark.parametrize(
    ("value", "most", "allowed"),
    [
        (0.0, math.inf, "positive and finite"),
        (math.inf, math.inf, "positive and finite"),
        (math.nan, math.inf, "positive and finite"),
        (0.0, 1, "positive and at most 1"),
        (1.25, 1, "positive and at most 1"),
        (math.nan, 1, "positive and at most 1"),
    ],
)
def test_a_number_must_be_positive_and_may_have_a_bound(value, most, allowed):
    positive(SimpleNamespace(top_p=1.0), "top_p", most=1)
    with pytest.raises(ArgumentError) as error:
        positive(SimpleNamespace(top_p=value), "top_p", most=most)
    assert str(error.value) == f"--top-p must be {allowed}, got {value}"
