"""Fixed points against closed forms, brute force, and the equations they have to fulfil."""

import dataclasses
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import own_cells
import pytest
from jax.flatten_util import ravel_pytree
from slow import slow_but_for

import rnnjax
from rnnjax import GRU, LSTM, Elman, dynamics
from rnnjax.cells import ElmanCarry, LSTMCarry, identity
from rnnjax.diagnostics import one_unit
from rnnjax.dynamics import search

KEY = jax.random.key(0)
D = 2
X = np.zeros(D)


def tanh_fixed_point(gain):
    h = 1.0
    for _ in range(200):
        h = np.tanh(gain * h)
    return h


def test_a_diagonal_elman_network_has_27_fixed_points(x64):
    gain, cell = 1.5, Elman(3, param_dtype=jnp.float64)
    params = cell.init(KEY, D)._replace(recurrent_kernel=gain * jnp.eye(3))
    starts = ElmanCarry(jax.random.normal(KEY, (500, 3)))
    found = dynamics.fixed_points(cell, params, jnp.zeros(D), starts)
    star = tanh_fixed_point(gain)
    signs = np.round(found.points.h / star).astype(int)
    np.testing.assert_allclose(found.points.h, star * signs, rtol=0, atol=1e-12)
    assert {*map(tuple, signs)} == {*itertools.product((-1, 0, 1), repeat=3)}
    assert len(signs) == 27
    assert found.stable.sum() == 8 and (found.num_unstable == (signs == 0).sum(1)).all()
    slopes = gain * (1 - found.points.h**2)
    want = -np.sort(-slopes, axis=1)
    np.testing.assert_allclose(found.eigenvalues, want, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.time_constants, -1 / np.log(want), rtol=1e-10)
    assert found.counts.sum() == found.report.num_converged == 500
    assert (np.diff(found.num_unstable) >= 0).all()


@pytest.mark.parametrize("cell", slow_but_for("LSTM", {"LSTM": LSTM, "GRU": GRU}))
def test_without_weights_a_gated_cell_has_one_fixed_point(cell, x64):
    """LSTM: c' = c/2, h' = tanh(c')/2, so eigenvalues 1/2 and 0; GRU: h' = h/2."""
    cell = cell(3, param_dtype=jnp.float64)
    params = jax.tree.map(jnp.zeros_like, cell.init(KEY, D))
    starts = jax.tree.map(lambda a: jax.random.normal(KEY, a.shape), cell.initial_carry((20,)))
    found = dynamics.fixed_points(cell, params, jnp.ones(D), starts)
    assert found.q.shape == (1,) and found.counts == [20]
    for leaf in jax.tree.leaves(found.points):
        np.testing.assert_allclose(leaf, 0, atol=1e-12)
    want = [[0.5] * 3 + [0] * (found.eigenvalues.shape[1] - 3)]
    np.testing.assert_allclose(found.eigenvalues, want, atol=1e-12)


class Gains(NamedTuple):
    """Parameters of the test's own cells."""

    gain: Any


@dataclasses.dataclass(frozen=True)
class Linear(rnnjax.Cell):
    """s' = (0.5 + 0.3 i) s + x, complex, in two entries, as somebody writes it."""

    def init(self, key, input_size):
        return Gains(jnp.array([0.5 + 0.3j, 1.2j]))

    def initial_carry(self, batch_shape):
        return {"s": jnp.zeros((*batch_shape, 2), complex)}

    def project(self, ready, x):
        return x.astype(complex)

    def step(self, ready, carry, u):
        return {"s": ready.gain * carry["s"] + u}

    def output(self, carry):
        return carry["s"].real


def test_a_complex_carry_counts_twice(x64):
    cell = Linear()
    starts = {"s": jax.random.normal(KEY, (4, 2), complex)}
    found = dynamics.fixed_points(cell, cell.init(KEY, 2), jnp.array([1.0, 2.0]), starts)
    a = np.array([0.5 + 0.3j, 1.2j])
    np.testing.assert_allclose(found.points["s"], [[1, 2] / (1 - a)], rtol=1e-12)
    want = [[1.2j, -1.2j, 0.5 + 0.3j, 0.5 - 0.3j]]
    np.testing.assert_allclose(found.eigenvalues, want, atol=1e-12)
    assert found.num_unstable == [2] and not found.stable[0]


def random_network(cell, spread=2.0):
    """Return parameters far from those at the start, and starts."""
    params = cell.init(KEY, D)
    params = jax.tree.map(lambda a: (a * spread).astype(float), params)
    leaves, structure = jax.tree.flatten(cell.initial_carry((30,)))
    keys = jax.random.split(KEY, len(leaves))
    drawn = [jax.random.normal(k, a.shape, float) for k, a in zip(keys, leaves, strict=True)]
    return params, structure.unflatten(drawn)


CELLS = {
    "LSTM": LSTM(3, param_dtype=jnp.float64),
    "GRU": GRU(5, param_dtype=jnp.float64),
    "expRNN": own_cells.ExpRNN(5, param_dtype=jnp.float64),
    "coRNN": own_cells.CoRNN(3, param_dtype=jnp.float64),
}


@pytest.mark.parametrize("cell", slow_but_for("LSTM", CELLS))
def test_the_points_fulfil_their_equations(cell, x64):
    params, starts = random_network(cell)
    x = jnp.array([0.3, -0.2])
    found = dynamics.fixed_points(cell, params, x, starts)
    assert len(found.q)
    ready = cell.prepare(params)
    for p in range(len(found.q)):
        point = jax.tree.map(lambda a: jnp.asarray(a[p]), found.points)  # noqa: B023
        flat, unravel = ravel_pytree(point)

        def move(flat):
            after = cell.step(ready, unravel(flat), cell.project(ready, x))  # noqa: B023
            return ravel_pytree(after)[0]

        after, jacobian = move(flat), np.asarray(jax.jacobian(move)(flat))
        assert np.linalg.norm(after - flat) < 1e-9
        np.testing.assert_allclose(found.speed[p], np.linalg.norm(after - flat), atol=1e-14)
        np.testing.assert_allclose(found.jacobians[p], jacobian, atol=1e-12)
        values = found.eigenvalues[p]
        assert (np.diff(np.abs(values)) < 1e-12).all()
        want = np.linalg.eigvals(jacobian)
        assert max(np.abs(want - v).min() for v in values) < 1e-9
        right, left = found.right[p], found.left[p]
        np.testing.assert_allclose(right @ jacobian.T, values[:, None] * right, atol=1e-9)
        np.testing.assert_allclose(left @ jacobian, values[:, None] * left, atol=1e-7)
        np.testing.assert_allclose(np.linalg.norm(right, axis=1), 1)
        assert found.num_unstable[p] == (np.abs(values) >= 1).sum()
    assert (found.stable == (found.num_unstable == 0)).all()


def test_left_and_right_vectors_are_biorthogonal():
    matrix = np.random.default_rng(0).normal(size=(2, 5, 5))
    known = dynamics.stability(matrix)
    for left, right in zip(known.left, known.right, strict=True):
        np.testing.assert_allclose(left @ right.T, np.eye(5), atol=1e-10)
    defective = dynamics.stability(np.array([[[0.5, 1.0], [0.0, 0.5]]]))
    np.testing.assert_allclose(defective.eigenvalues, [[0.5, 0.5]])
    assert np.isfinite(defective.left).all()


def test_a_slow_point_is_a_minimum_of_q(x64):
    """Just beyond a saddle-node no fixed point is left but a ghost of it."""
    cell, b = one_unit.Unit(), -2.34
    params = one_unit.Params(jnp.asarray(5.0), jnp.asarray(b))
    starts = one_unit.State(jnp.linspace(-2.0, 0.0, 5))
    grid = np.linspace(-1.2, -0.7, 100_001)
    q = (5 / (1 + np.exp(-grid)) + b - grid) ** 2 / 2
    ghost = dynamics.fixed_points(cell, params, jnp.zeros(1), starts, tolerance=1e-3)
    near = np.abs(ghost.points.x - grid[q.argmin()]) < 1e-4
    assert near.sum() == 1
    np.testing.assert_allclose(ghost.q[near], q.min(), rtol=1e-6)
    exact = dynamics.fixed_points(cell, params, jnp.zeros(1), starts)
    assert (exact.points.x > 0).all()  # the upper stable point alone
    assert exact.report.num_converged < 5 == len(exact.report.q)
    assert exact.report.q.max() == pytest.approx(q.min(), rel=1e-6)


def test_points_on_a_line_are_thinned_by_their_distance(x64):
    cell = Elman(1, activation_fn=identity, param_dtype=jnp.float64)
    params = cell.init(KEY, D)._replace(recurrent_kernel=jnp.eye(1))
    starts = ElmanCarry(jnp.linspace(-1, 1, 21)[:, None])
    found = [
        dynamics.fixed_points(cell, params, jnp.zeros(D), starts, min_distance=d)
        for d in (1e-6, 0.25)
    ]
    assert [len(f.q) for f in found] == [21, 7]
    assert not found[0].stable.any() and np.isinf(found[0].time_constants).all()
    assert found[1].counts.sum() == 21


def test_a_start_ends_where_it_first_is_slow(x64):
    """x' = 1.001 tanh(x) beside a fast unit: a line of slow points, with three fixed points."""
    cell = Elman(2, param_dtype=jnp.float64)
    params = cell.init(KEY, D)._replace(recurrent_kernel=jnp.diag(jnp.array([1.001, 0.1])))
    along = jnp.linspace(-0.3, 0.3, 13)
    starts = ElmanCarry(jnp.stack([along, 0.2 * jnp.ones(13)], -1))
    options: dict[str, Any] = {"tolerance": 1e-4, "min_distance": 1e-2}
    fixed = dynamics.fixed_points(cell, params, jnp.zeros(D), starts, **options)
    slow = dynamics.fixed_points(cell, params, jnp.zeros(D), starts, stop_at=1e-4, **options)
    root = 0.001**0.5 * 3**0.5  # of 1.001 tanh(x) = x, to first order
    np.testing.assert_allclose(np.sort(fixed.points.h[:, 0]), [-root, 0, root], atol=1e-3)
    assert fixed.q.max() < 1e-25
    assert len(slow.q) == 13 and 1e-12 < slow.q.max() <= 1e-4
    assert np.ptp(slow.points.h[:, 0]) > 5 * root  # steps of the search move them, but not far
    step = np.tanh(slow.points.h * [1.001, 0.1]) - slow.points.h
    np.testing.assert_allclose(slow.q, np.sum(step**2, -1) / 2, rtol=1e-9)
    already = ElmanCarry(jnp.stack([along, 0.005 * jnp.ones(13)], -1))
    slow = dynamics.fixed_points(cell, params, jnp.zeros(D), already, stop_at=1e-4, **options)
    order = np.argsort(slow.points.h[:, 0])
    np.testing.assert_allclose(slow.points.h[order], already.h, rtol=1e-12)


def test_far_away_points_are_dropped_and_counted(x64):
    cell = Elman(1, activation_fn=identity, param_dtype=jnp.float64)
    params = cell.init(KEY, 1)._replace(
        input_kernel=jnp.ones((1, 1)), recurrent_kernel=jnp.array([[0.9]])
    )
    starts = ElmanCarry(jnp.linspace(-1, 1, 5)[:, None])
    x = jnp.array([10.0])  # the fixed point is at 100
    found = dynamics.fixed_points(cell, params, x, starts)
    assert len(found.q) == 0 and found.report.num_outliers == found.report.num_converged == 5
    assert found.eigenvalues.shape == (0, 1) and found.points.h.shape == (0, 1)
    np.testing.assert_allclose(found.report.ends.h, 100, rtol=1e-9)
    kept = dynamics.fixed_points(cell, params, x, starts, outlier_factor=np.inf)
    np.testing.assert_allclose(kept.points.h, [[100]], rtol=1e-9)


@pytest.mark.slow
def test_starts_in_chunks_are_the_starts_at_once(x64, monkeypatch):
    cell = GRU(3, param_dtype=jnp.float64)
    params, starts = random_network(cell, 3.0)
    whole = dynamics.fixed_points(cell, params, jnp.ones(D), starts)
    minimise: Any = search.minimise
    monkeypatch.setattr(search, "ENTRIES", 9 * 4)  # four starts, so 30 need eight chunks
    minimise.clear_cache()
    parts = dynamics.fixed_points(cell, params, jnp.ones(D), starts)
    minimise.clear_cache()
    np.testing.assert_allclose(parts.points.h, whole.points.h, atol=1e-12)
    np.testing.assert_array_equal(parts.counts, whole.counts)


@pytest.mark.slow
def test_integers_stay_as_they_are(x64):
    cell = own_cells.Counting(3, param_dtype=jnp.float64)
    params = cell.init(KEY, D)
    starts = own_cells.CountingCarry(jnp.full(10, 2), jax.random.normal(KEY, (10, 3), jnp.float64))
    found = dynamics.fixed_points(cell, params, jnp.ones(D), starts)
    assert found.eigenvalues.shape[1] == 3 and (found.points.count == 2).all()
    u, v = jnp.ones(D) @ params.input_kernel + params.bias, params.recurrent_kernel
    for h in found.points.h:
        np.testing.assert_allclose(np.tanh(u + np.cos(2) * (h @ v)), h, atol=1e-10)


def test_float32_is_warned_about():
    cell = Elman(2)
    params, starts = cell.init(KEY, D), ElmanCarry(jax.random.normal(KEY, (5, 2)))
    with pytest.warns(RuntimeWarning, match=r"states are float32: .* compute in float64"):
        found = dynamics.fixed_points(cell, params, jnp.zeros(D), starts)
    np.testing.assert_allclose(found.points.h[0], 0, atol=1e-3)
    with pytest.warns(RuntimeWarning, match="tolerance = 1e-20 is below what float32 can reach"):
        dynamics.fixed_points(cell, params, jnp.zeros(D), starts, tolerance=1e-20)


def test_what_it_refuses(x64):
    cell = LSTM(3, param_dtype=jnp.float64)
    params, carry = cell.init(KEY, D), cell.initial_carry((4,))

    def refused(error, words, x: Any = X, starts: Any = carry, **options):
        with pytest.raises(error, match=words):
            dynamics.fixed_points(cell, params, x, starts, **options)

    refused(ValueError, r"x must be the input of one step.*such as xs\[-1\]", jnp.zeros((7, D)))
    refused(ValueError, "inputs must have 2 features", jnp.zeros(5))
    wide = LSTMCarry(jnp.zeros((4, 5)), jnp.zeros((4, 5)))
    refused(ValueError, r"starts.c must have shape \(4, 3\), got \(4, 5\)", starts=wide)
    one = cell.initial_carry(())
    refused(ValueError, "starts.c must have shape", starts=one)
    refused(ValueError, "starts must have the structure", starts=carry.h)
    refused(ValueError, "starts must hold at least one", starts=cell.initial_carry((0,)))
    bad = carry._replace(c=carry.c.at[2, 1].set(jnp.nan))
    refused(FloatingPointError, "1 of 4 are not, the first at index 2", starts=bad)
    refused(ValueError, "tolerance must be positive, got -1", tolerance=-1.0)
    refused(ValueError, "stop_at must be positive and at most tolerance = 1e-20", stop_at=1e-3)
    refused(ValueError, "stop_at must be positive", stop_at=0.0)
    refused(ValueError, "min_distance must be positive, got 0", min_distance=0.0)
    refused(ValueError, "outlier_factor must be positive", outlier_factor=-1.0)
    refused(ValueError, "max_iterations must be a positive integer", max_iterations=0)


def test_arrays_on_two_devices_are_searched_on_one(x64):
    """LAPACK may deadlock where two CPU devices call it at once."""
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("seeds",))
    both = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    params, starts = jax.device_put(random_network(CELLS["LSTM"]), both)
    assert len(params.bias.devices()) == 2
    found = dynamics.fixed_points(CELLS["LSTM"], params, X, starts)
    first = jax.tree.map(lambda a: jnp.asarray(a[0]), found.points)
    way = jax.device_put(jnp.ones(D), both)
    branch = dynamics.continue_fixed_point(
        CELLS["LSTM"], lambda p: (params, p * way), first, 0.0, 0.05, max_step=0.05
    )
    assert len(branch.values) > 1
