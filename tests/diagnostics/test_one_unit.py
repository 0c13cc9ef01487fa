"""One unit: its closed forms against its equations, and against what is measured."""

import math

import numpy as np
import pytest

from rnnjax.diagnostics import one_unit
from rnnjax.testing import check_cell


@pytest.mark.slow
def test_the_unit_is_a_cell():
    check_cell(one_unit.Unit(), 1)


@pytest.mark.parametrize("w", [4.5, 5.0, 8.0])
def test_a_saddle_node_is_a_double_root(w):
    """Of w s(x) + b - x."""
    for (b, x), kind in zip(one_unit.saddle_nodes(w), (1, -1), strict=True):
        s = 1 / (1 + math.exp(-x))
        assert w * s + b == pytest.approx(x)
        assert w * s * (1 - s) == pytest.approx(1)
        assert math.copysign(1, x) == kind


def test_the_basin_boundary_is_where_the_start_is_a_fixed_point():
    line, s = one_unit.basin_boundary(0.5), 1 / (1 + math.exp(-0.5))
    for w in (4.5, 6.0):
        assert w * s + line.at(w) == pytest.approx(0.5)
    assert one_unit.repelling_weight(0.5) * s * (1 - s) == pytest.approx(1)


@pytest.mark.slow
def test_what_is_measured_is_the_closed_form(x64):
    measured, stated = one_unit.measure(5.0, 0.5, 50), one_unit.closed_forms(5.0, 0.5)
    assert measured.keys() == stated.keys()
    for name, value in measured.items():
        allowed = 5e-4 if "repels" in name else 5e-6
        assert value == pytest.approx(stated[name], abs=allowed), name


@pytest.mark.slow
def test_the_states_are_fixed_points(x64):
    low, high, parting = one_unit.find_states(5.0, (-2.65561, -2.34439), 50, [-2.5])
    assert [part["state"] for part in (low, high, parting)] == ["low", "high", "parting"]
    for part in (low, high, parting):
        x, b = part["median"], part["b"]
        np.testing.assert_allclose(5 / (1 + np.exp(-x)) + b, x, atol=1e-6)
    assert len(parting["b"]) == 61 and (np.diff(parting["b"]) > 0).all()


def test_the_answer_is_that_of_a_loop():
    x = 0.5
    for _ in range(3):
        x = 5 / (1 + math.exp(-x)) - 2.6
    got = one_unit.answer(one_unit.Params(5.0, -2.6), 0.5, 3)
    assert float(got) == pytest.approx(1 / (1 + math.exp(-x)), rel=1e-6)


@pytest.mark.parametrize("w", [4.0, math.nan])
def test_a_weight_without_two_states_is_refused(w):
    with pytest.raises(ValueError, match="w must be above 4"):
        one_unit.saddle_nodes(w)
    with pytest.raises(ValueError, match="w must be above 4 and at most 15"):
        one_unit.find_saddle_nodes(w)
