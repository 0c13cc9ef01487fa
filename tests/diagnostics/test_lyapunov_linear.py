"""Lyapunov exponents of linear cells: means of ln |a|, exactly, with every option of the others."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from linear_problems import B, D, problem
from slow import slow_but_for

from rnnjax import Cell, Linear
from rnnjax.cells import LRU, MLSTM, RGLRU, LinearAttention, MinGRU
from rnnjax.diagnostics import lyapunov_spectrum

LONG = 83
CELLS: dict[str, Linear] = {
    "minGRU": MinGRU(5),
    "LRU": LRU(3),
    "RG-LRU": RGLRU(4, num_heads=2),
    "mLSTM": MLSTM(2, num_heads=2, key_size=3),
    "linear attention": LinearAttention(4, num_heads=2, key_size=1, decay="vector"),
}


class Carry(NamedTuple):
    z: Any  # complex [*batch, 2]
    s: Any  # [*batch, 2, 3]


class Given(Linear):
    """a is the input itself: complex for two entries, and one number for each of two rows."""

    def init(self, key, input_size):
        return jnp.ones(())

    def initial_carry(self, batch_shape):
        z = jnp.zeros((*batch_shape, 2), jnp.complex64)
        return Carry(z, jnp.zeros((*batch_shape, 2, 3)))

    def coefficients(self, ready, x):
        a = Carry(ready * jax.lax.complex(x[..., :2], x[..., 2:4]), ready * x[..., 4:6, None])
        return a, jax.tree.map(lambda s: s + 1.0, self.initial_carry(x.shape[:-1]))

    def output(self, carry):
        return carry.z.real


@dataclasses.dataclass(frozen=True)
class StepByStep(Cell):
    """The same recurrence as a cell that says nothing of its being linear: the path by QR."""

    cell: Any

    def init(self, key, input_size):
        return self.cell.init(key, input_size)

    def prepare(self, params):
        return self.cell.prepare(params)

    def initial_carry(self, batch_shape):
        return self.cell.initial_carry(batch_shape)

    def project(self, ready, x):
        return self.cell.project(ready, x)

    def step(self, ready, carry, u):
        return self.cell.step(ready, carry, u)

    def output(self, carry):
        return self.cell.output(carry)


def long_problem(cell):
    cell, params, _, carry = problem(cell)
    xs = jnp.asarray(np.random.default_rng(1).normal(size=(LONG, B, D)))
    return cell, params, xs, carry


def logs_of(cell, params, xs):
    """ln |a| `[T, B, N]` in NumPy, each complex entry twice, unsorted."""
    factors = jax.tree.leaves(cell.project(cell.prepare(params), xs)[0])
    carry = jax.tree.leaves(cell.initial_carry(()))
    twice = [2 if jnp.iscomplexobj(s) else 1 for s in carry]
    pairs = zip(factors, twice, strict=True)
    flat = [np.repeat(np.abs(a).reshape(*a.shape[:2], -1), n, axis=-1) for a, n in pairs]
    with np.errstate(divide="ignore"):
        return np.log(np.concatenate(flat, axis=-1))


def sorted_mean(logs):
    return -np.sort(-logs.mean(0), axis=-1)


def spectrum(cell, params, xs, *arguments, **options):
    """The spectrum, and the warning that some exponents are -inf where some are."""
    lost = int((np.isneginf(logs_of(cell, params, xs)).any(0)).sum(-1).max())
    if not lost or arguments:
        return lyapunov_spectrum(cell, params, xs, *arguments, **options)
    with pytest.warns(RuntimeWarning, match=f"^{lost} of .* are -inf: Jacobians are singular"):
        return lyapunov_spectrum(cell, params, xs, **options)


@pytest.mark.slow
@pytest.mark.parametrize("name", slow_but_for("minGRU", [*CELLS]))
def test_exponents_are_the_means_of_the_logs(name, x64):
    cell, params, xs, carry = long_problem(CELLS[name])
    logs = logs_of(cell, params, xs)
    found = spectrum(cell, params, xs, initial_carry=carry)
    want = sorted_mean(logs)
    np.testing.assert_allclose(found.exponents, want, rtol=1e-12)
    assert np.isfinite(want[:, :2]).all()
    few = spectrum(cell, params, xs, 2, initial_carry=carry, interval=4, transient=10)
    np.testing.assert_allclose(few.exponents, sorted_mean(logs[12:])[:, :2], rtol=1e-12)
    short = spectrum(cell, params, xs[:3], initial_carry=carry, interval=7)  # less than one
    np.testing.assert_allclose(short.exponents, sorted_mean(logs[:3]), rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", slow_but_for("minGRU", [*CELLS]))
def test_their_sum_is_that_of_the_path_by_factorisation(name, x64):
    """And the number of those of -inf, and every shape and type."""
    cell, params, xs, carry = long_problem(CELLS[name])
    given = {"initial_carry": carry, "transient": 7}
    found = spectrum(cell, params, xs, **given)
    by_qr = StepByStep(cell)
    if np.isneginf(found.exponents).any():
        with pytest.warns(RuntimeWarning, match="-inf"):
            want = lyapunov_spectrum(by_qr, params, xs, **given)
    else:
        want = lyapunov_spectrum(by_qr, params, xs, **given)
    np.testing.assert_array_equal(np.isneginf(found.exponents), np.isneginf(want.exponents))
    sums = (np.where(np.isneginf(e), 0, e).sum(-1) for e in (found.exponents, want.exponents))
    np.testing.assert_allclose(*sums, rtol=1e-10)
    assert jax.tree.map(lambda a: (a.shape, a.dtype), found) == jax.tree.map(
        lambda a: (a.shape, a.dtype), want
    )


@pytest.mark.slow
def test_a_complex_entry_counts_twice_and_one_that_is_cut_has_none(x64):
    rng = np.random.default_rng(0)
    xs = rng.normal(size=(LONG, 6))
    xs[40, 4] = 0  # the first of the two rows is forgotten once
    params = jnp.ones(())
    found = spectrum(Given(), params, jnp.asarray(xs))
    z = np.log(np.abs(xs[:, :2] + 1j * xs[:, 2:4])).mean(0)
    row = np.log(np.abs(xs[:, 5])).mean()
    want = sorted([*z, *z, row, row, row], reverse=True)
    np.testing.assert_allclose(found.exponents, [*want, *[-np.inf] * 3], rtol=1e-12)
    assert np.isnan(found.standard_error[-3:]).all() and found.condition == np.inf
    blocks = np.log(np.abs(xs[:80, 5])).reshape(20, 4).mean(1)  # of 83 steps
    place = want.index(row)
    error = blocks.std(ddof=1) / np.sqrt(20)
    np.testing.assert_allclose(found.standard_error[place : place + 3], error, rtol=1e-10)
    later = lyapunov_spectrum(Given(), params, jnp.asarray(xs), transient=41)  # and no warning
    logs = np.log(np.abs(xs[41:, 4:6])).mean(0)
    near = np.isclose(np.asarray(later.exponents)[:, None], logs, rtol=1e-12, atol=0)
    assert near.sum(0).tolist() == [3, 3]


def test_slopes_are_those_of_the_mean_beside_entries_that_are_zero(x64):
    """d lambda / d ln(scale of a) = 1 for each exponent that is finite; no NaN from ln 0."""
    xs = np.random.default_rng(0).normal(size=(20, 6))
    xs[3, [0, 2, 4]] = 0  # a complex and a real one

    def leading(scale):
        return lyapunov_spectrum(Given(), scale, jnp.asarray(xs), 5).exponents.sum()

    assert jax.jit(jax.grad(leading))(jnp.ones(())) == pytest.approx(5, rel=1e-12)


@pytest.mark.slow
def test_in_float32_and_vmapped(x64):
    cell, params, xs, _ = long_problem(LRU(3))
    cell = dataclasses.replace(cell, param_dtype=jnp.float32)
    params, xs = jax.tree.map(lambda a: a.astype(jnp.float32), (params, xs))
    found = jax.vmap(lambda p: lyapunov_spectrum(cell, p, xs).exponents)(
        jax.tree.map(lambda p: jnp.stack([p, p / 2]), params)
    )
    want = np.repeat(-np.exp(np.asarray(params.nu_log)), 2)  # ln |lambda| = -exp(nu_log)
    half = np.repeat(-np.exp(np.asarray(params.nu_log) / 2), 2)
    want = -np.sort(-np.stack([want, half]), axis=-1)
    np.testing.assert_allclose(found[:, 0], want, rtol=1e-5)
    assert found.dtype == jnp.float32


def test_few_exponents_beyond_the_state_are_refused():
    cell = MinGRU(2)
    params = cell.init(jax.random.key(0), D)
    with pytest.raises(ValueError, match=r"num must lie in 1..N = 1..2 "):
        lyapunov_spectrum(cell, params, jnp.ones((4, D)), 3)
    with pytest.raises(FloatingPointError, match="the carry is not finite after step 1"):
        lyapunov_spectrum(cell, params, jnp.ones((4, D)).at[1].set(jnp.nan))
