"""Exponents of windows of time and of conditions: a NumPy QR loop, determinants, closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from slow import slow_but_for

from rnnjax import GRU, LSTM, Elman, Linear
from rnnjax.diagnostics import (
    exponents_by_condition,
    finite_time_exponents,
    jacobians,
    lyapunov_spectrum,
)

KEY = jax.random.key(0)
T, B, D = 97, 2, 3
CELLS = {"elman": Elman(5), "lstm": LSTM(3), "gru": GRU(5)}


def problem(cell):
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: cell.init(KEY, D))
    params = jax.tree.map(lambda s: jnp.asarray(0.6 * rng.normal(size=s.shape)), shapes)
    return params, jnp.asarray(rng.normal(size=(T, B, D)))


@pytest.mark.parametrize("cell", slow_but_for("elman", CELLS))
def test_windows_are_those_of_a_loop(cell, x64):
    params, xs = problem(cell)
    found = finite_time_exponents(cell, params, xs, 7, transient=40)
    matrices = np.asarray(jacobians(cell, params, xs))
    size = matrices.shape[-1]
    assert found.shape == (8, B, size)  # one step is left over
    volumes = np.linalg.slogdet(matrices)[1][40:96].reshape(8, 7, B).mean(1)
    np.testing.assert_allclose(found.sum(-1), volumes, rtol=1e-9)
    q, logs = np.broadcast_to(np.eye(size), (B, size, size)), []
    for matrix in matrices:
        q, r = np.linalg.qr(matrix @ q)
        logs.append(np.log(np.abs(np.diagonal(r, axis1=-2, axis2=-1))))
    want = np.stack(logs)[40:96].reshape(8, 7, B, size).mean(1)
    np.testing.assert_allclose(found[..., 0], want[..., 0], atol=1e-3)  # frames forget their start
    np.testing.assert_allclose(found[4:, ..., 0], want[4:, ..., 0], atol=1e-6)


@pytest.mark.slow
def test_the_mean_over_windows_is_the_exponent(x64):
    cell = CELLS["elman"]
    params, xs = problem(cell)
    found = finite_time_exponents(cell, params, xs[:96], 8, 3, transient=40)
    whole = lyapunov_spectrum(cell, params, xs[:96], 3, transient=40)
    np.testing.assert_allclose(found.mean(0), whole.exponents, rtol=1e-12)


class Switched(Linear):
    """s' = e^x s: the input is the growth rate of each entry."""

    def init(self, key, input_size):
        return jnp.ones(())

    def initial_carry(self, batch_shape):
        return jnp.zeros((*batch_shape, D))

    def coefficients(self, ready, x):
        return ready * jnp.exp(x), 0 * x

    def output(self, carry):
        return carry


@pytest.mark.slow
def test_a_linear_cell_grows_as_its_input_says(x64):
    """Two conditions, of which the second shrinks the entries that the first lets grow."""
    rng = np.random.default_rng(1)
    labels = rng.integers(2, size=(T, B))
    rates = np.array([[0.3, 0.1, -0.2], [-0.4, -0.5, -0.1]])
    xs = jnp.asarray(rates[labels])
    local = finite_time_exponents(Switched(), jnp.ones(()), xs, 1)
    np.testing.assert_allclose(local.sum(-1), rates[labels].sum(-1), rtol=1e-9)
    apart = [exponents_by_condition(local[:, b], labels[:, b]) for b in range(B)]
    for b, found in enumerate(apart):
        order = np.argsort(-rates[labels[:, b]].sum(0))  # of the whole run
        np.testing.assert_allclose(found.exponents, rates[:, order], rtol=1e-9)
        np.testing.assert_allclose(found.standard_error, 0, atol=1e-12)
        assert found.windows.tolist() == np.bincount(labels[:, b]).tolist()
        again = found.windows @ found.exponents / T
        whole = lyapunov_spectrum(Switched(), jnp.ones(()), xs[:, b]).exponents
        np.testing.assert_allclose(again, whole, rtol=1e-9)


def test_means_by_label_are_those_of_a_loop():
    rng = np.random.default_rng(2)
    rates, labels = rng.normal(size=(50, B, 3)), rng.integers(-1, 4, size=(50, B))
    labels[labels == 2] = 3
    labels[7:, :] = np.where(labels[7:] == 0, 1, labels[7:])
    labels[:7] = 0
    rates[labels == 3] -= np.inf
    found = exponents_by_condition(rates, labels)
    assert found.windows.tolist() == [np.sum(labels == c) for c in range(4)]
    for c in (0, 1):
        np.testing.assert_allclose(found.exponents[c], rates[labels == c].mean(0))
        assert (found.standard_error[c] > 0).all()
    assert np.isnan(found.exponents[2]).all() and np.isnan(found.standard_error[2]).all()
    assert (found.exponents[3] == -np.inf).all() and np.isnan(found.standard_error[3]).all()
    alone = exponents_by_condition(rates[:1, 0], labels[:1, 0])
    np.testing.assert_allclose(alone.exponents, rates[:1, 0])
    assert np.isnan(alone.standard_error).all()


def test_errors_are_the_spread_of_many_runs():
    """Rates that forget over five steps, conditions that last for ten, three examples at once."""
    rng = np.random.default_rng(3)
    runs, steps = 200, 1000
    noise = rng.normal(size=(steps, runs, 3))
    slow = np.zeros_like(noise)
    switches = rng.random((steps, runs, 3)) < 0.1
    labels = np.cumsum(switches, axis=0) % 2
    for t in range(1, steps):
        slow[t] = 0.8 * slow[t - 1] + noise[t]
    rates = slow + np.where(labels, 0.5, -0.5)
    found = [exponents_by_condition(rates[:, i, :, None], labels[:, i]) for i in range(runs)]
    means, errors = (np.array([f[k][:, 0] for f in found]) for k in (0, 1))
    spread = means.std(0, ddof=1)
    np.testing.assert_allclose(means.mean(0), [-0.5, 0.5], atol=4 * spread.max() / runs**0.5)
    np.testing.assert_allclose(np.sqrt((errors**2).mean(0)), spread, rtol=0.15)


def test_wrong_arguments_are_named():
    cell = CELLS["elman"]
    params, xs = cell.init(KEY, D), jnp.ones((7, D))
    for options, message in (
        ({"window": 0}, "window must be a positive integer, got 0"),
        ({"window": 5, "transient": 3}, "leave a window of 5 of the T = 7 steps, got 3"),
        ({"window": 5, "transient": -1}, "transient must be at least 0.*got -1"),
        ({"window": 5, "num": 6}, r"num must lie in 1..N = 1..5"),
    ):
        with pytest.raises(ValueError, match=message):
            finite_time_exponents(cell, params, xs, **options)
    with pytest.raises(FloatingPointError, match="the carry is not finite after step 4"):
        finite_time_exponents(cell, params, xs.at[4].set(jnp.nan), 1)
    with pytest.raises(ValueError, match=r"labels \[windows, \*batch\].*got \(7, 2, 3\) and \(7,"):
        exponents_by_condition(np.zeros((7, 2, 3)), np.zeros(7, int))
    with pytest.raises(ValueError, match="at least one window"):
        exponents_by_condition(np.zeros((0, 3)), np.zeros(0, int))
    with pytest.raises(ValueError, match="labels must be integers, got float64"):
        exponents_by_condition(np.zeros((7, 3)), np.zeros(7))
