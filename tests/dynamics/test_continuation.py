"""Branches of fixed points against closed forms: folds, crossings, straight lines."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from logistic_map import Logistic, Point

from rnnjax import LSTM, Elman, diagnostics, dynamics
from rnnjax.cells import ElmanCarry, LSTMCarry
from rnnjax.diagnostics import one_unit

KEY = jax.random.key(0)
W = 5.0


def bias(b):
    return one_unit.Params(jnp.asarray(W), b), jnp.zeros(1)


def follow_unit(start, stop, x=2.5, **options):
    point = one_unit.State(jnp.asarray(x))
    return dynamics.continue_fixed_point(one_unit.Unit(), bias, point, start, stop, **options)


def test_the_saddle_nodes_of_one_unit(x64):
    branch = follow_unit(-2.0, -3.0)
    want = one_unit.saddle_nodes(W)  # lower b at the upper state, then upper b at the lower one
    np.testing.assert_allclose(branch.folds.values, [-2.65561, -2.34439], atol=5e-6)
    np.testing.assert_allclose(branch.folds.values, [b for b, _ in want], rtol=0, atol=1e-12)
    np.testing.assert_allclose(branch.folds.points.x, [x for _, x in want], rtol=0, atol=1e-9)
    np.testing.assert_allclose(np.abs(branch.folds.vectors), 1)
    x, b = branch.points.x, branch.values
    np.testing.assert_allclose(W / (1 + np.exp(-x)) + b, x, atol=1e-10)
    assert branch.ended == "at stop" and b[0] == -2 and b[-1] == -3
    unstable = (x > -want[0][1]) & (x < want[0][1])
    assert (branch.stable != unstable).all() and unstable.sum() > 10
    slope = W * np.exp(-x) / (1 + np.exp(-x)) ** 2
    np.testing.assert_allclose(branch.eigenvalues[:, 0], slope, atol=1e-9)
    steps = np.hypot(np.diff(x), np.diff(b))
    assert steps.max() < 0.0101  # a hundredth of the range, up to the curvature


def test_a_branch_may_come_back_to_its_start(x64):
    branch = follow_unit(-2.5, -4.0, max_step=0.1)
    assert branch.ended == "at start" and branch.values[-1] == -2.5
    np.testing.assert_allclose(branch.points.x[-1], 0, atol=1e-10)  # 5/2 - 5/2, by symmetry
    assert len(branch.folds.values) == 1 and not branch.stable[-1]
    assert follow_unit(-2.5, -4.0, max_points=5).ended == "at max_points"


def test_an_input_moves_the_fixed_point_of_a_linear_cell_along_a_line(x64):
    """Of a logistic map with a large input too: x = r x (1 - x) + u is a parabola."""
    r = 2.5
    branch = dynamics.continue_fixed_point(
        *(Logistic(), lambda u: ({"r": jnp.asarray(r)}, u[None]), Point(jnp.asarray(0.6))),
        *(0.0, -1.0),
    )
    x, u = branch.points.x, branch.values
    np.testing.assert_allclose(x - r * x * (1 - x), u, atol=1e-10)
    apex = (r - 1) / (2 * r)
    np.testing.assert_allclose(branch.folds.points.x, [apex], atol=1e-10)
    np.testing.assert_allclose(branch.folds.values, [apex - r * apex * (1 - apex)], atol=1e-12)
    assert branch.ended == "at start" and x[-1] == pytest.approx(0, abs=1e-10)


def test_past_a_pitchfork_the_symmetric_state_is_unstable(x64):
    cell = Elman(2, param_dtype=jnp.float64)
    params, x = cell.init(KEY, 1), jnp.zeros(1)
    kernel = jnp.array([[0.0, 1.0], [-1.0, 0.5]])

    def along(gain):
        return params._replace(recurrent_kernel=gain * kernel), x

    branch = dynamics.continue_fixed_point(cell, along, ElmanCarry(jnp.zeros(2)), 0.5, 1.5)
    values = np.linalg.eigvals(kernel.T)
    want = branch.values[:, None] * np.abs(values)
    np.testing.assert_allclose(np.abs(branch.eigenvalues), want, atol=1e-10)
    assert (branch.stable == (branch.values * np.abs(values).max() < 1)).all()
    assert branch.stable.any() and not branch.stable.all() and not len(branch.folds.values)
    np.testing.assert_allclose(branch.points.h, 0, atol=1e-10)


@pytest.mark.slow
def test_a_stable_and_an_unstable_point_of_an_lstm_meet_in_a_fold(x64):
    cell = LSTM(3, param_dtype=jnp.float64)
    params = jax.tree.map(lambda a: 2 * a, cell.init(KEY, 2))
    way = jnp.array([1.0, -1.0])
    starts = jax.tree.map(lambda a: jax.random.normal(KEY, a.shape), cell.initial_carry((50,)))
    found = dynamics.fixed_points(cell, params, 0 * way, starts)
    assert found.num_unstable.tolist() == [0, 0, 1, 1, 2]
    first = jax.tree.map(lambda a: a[0], found.points)
    branch = dynamics.continue_fixed_point(cell, lambda p: (params, p * way), first, 0, 2)
    assert branch.ended == "at start" and len(branch.folds.values) == 1
    assert branch.num_unstable[0] == 0 and branch.num_unstable[-1] == 1
    met = np.abs(found.points.c[2:4] - branch.points.c[-1]).max(1)  # one of the two saddles
    assert met.min() < 1e-9
    (p,), (vector,) = branch.folds.values, branch.folds.vectors
    assert branch.values.max() <= p < branch.values.max() + 1e-3
    state = LSTMCarry(*(jnp.asarray(a[0]) for a in branch.folds.points))
    jacobian = diagnostics.jacobians(cell, params, p * way[None], state)[0]
    np.testing.assert_allclose(jacobian @ vector, vector, atol=1e-9)


def test_what_it_refuses(x64):
    with pytest.raises(ValueError, match="start and stop must differ, got 1 twice"):
        follow_unit(1, 1)
    with pytest.raises(ValueError, match=r"point must be near a fixed point at start = -2"):
        follow_unit(-2.0, -3.0, x=1e200)
    with pytest.raises(FloatingPointError, match="point must be finite"):
        follow_unit(-2.0, -3.0, x=np.nan)
    for option in ("max_step", "tolerance", "max_points"):
        with pytest.raises(ValueError, match=f"{option} must be"):
            follow_unit(-2.0, -3.0, **{option: 0})
    point = one_unit.State(jnp.zeros(2))
    with pytest.raises(ValueError, match=r"point.x must have shape"):
        dynamics.continue_fixed_point(one_unit.Unit(), bias, point, -2, -3)
