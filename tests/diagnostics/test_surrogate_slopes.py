"""Diagnostics of spiking cells: with the surrogate slopes, and a sentence where there are none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from own_cells import LIF, PlainLIF, spike, spike_in_reverse
from slow import slow_but_for

from rnnjax import diagnostics

KEY = jax.random.key(0)
T, B, D, H = 5, 2, 3, 4
KINDS = slow_but_for("LIF", {"LIF": LIF, "PlainLIF": PlainLIF})


def problem(cell):
    xs = 2 * jax.random.normal(KEY, (T, B, D))
    carry = jax.tree.map(lambda c: c + 0.5, cell.initial_carry((B,)))
    return cell.init(KEY, D), xs, carry._replace(s=carry.s.at[:, ::2].set(1).at[:, 1::2].set(0))


def last(ys):
    return (ys[-1] * jnp.arange(1.0, H + 1)).sum()


@pytest.mark.parametrize("kind", KINDS)
def test_jacobians_have_the_surrogate_slope(kind):
    """In NumPy: dv'/dv = a (1 - s), dv'/ds = U^T - a v, and ds' = dv' / (1 + 10 |v' - 1|)^2."""
    cell = kind(H)
    params, xs, carry = problem(cell)
    found = diagnostics.jacobians(cell, params, xs, carry)
    w, u, b = map(np.asarray, params)
    v, s = map(np.asarray, carry)
    for t, x in enumerate(np.asarray(xs)):
        of_v = np.einsum("bi,ij->bij", 0.9 * (1 - s), np.eye(H))
        of_s = u.T - np.einsum("bi,ij->bij", 0.9 * v, np.eye(H))
        v = 0.9 * v * (1 - s) + x @ w + s @ u + b
        s, slope = (v > 1) * 1.0, (1 + 10 * np.abs(v - 1)) ** -2.0
        of_both = np.concatenate([of_v, of_s], axis=-1)
        want = np.concatenate([of_both, slope[..., None] * of_both], axis=1)
        np.testing.assert_allclose(found[t], want, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_backward_pass_suffices_for_all_that_goes_back(kind):
    forward, reverse = kind(H, spike=spike), kind(H, spike=spike_in_reverse)
    params, xs, carry = problem(forward)
    for measure in (
        lambda cell: diagnostics.gradient_profile(cell, params, xs, last, carry).log_norms,
        lambda cell: jax.tree.leaves(diagnostics.adjoints(cell, params, xs, last, carry)),
        lambda cell: diagnostics.log_gradient_profile(cell, params, xs, carry, carry),
        lambda cell: diagnostics.parameter_gradient_by_lag(cell, params, xs, last, carry)[1],
    ):
        found, want = np.asarray(measure(reverse)), np.asarray(measure(forward))
        assert np.isfinite(want).any()
        np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_where_forward_mode_is_needed_the_error_says_what_to_write(kind):
    cell = kind(H, spike=spike_in_reverse)
    params, xs, carry = problem(cell)
    for measure in (
        lambda: diagnostics.jacobians(cell, params, xs, carry),
        lambda: diagnostics.jacobian_singular_values(cell, params, xs, [1], initial_carry=carry),
        lambda: diagnostics.lyapunov_spectrum(cell, params, xs, initial_carry=carry),
        lambda: diagnostics.fisher_memory_curve(cell, params, [0], np.ones(D)),
    ):
        with pytest.raises(
            TypeError, match=f"^{kind.__name__} .*write it with jax.custom_jvp,"
        ) as e:
            measure()
        assert "\n" not in str(e.value)
