"""Every cell that has a name under the main diagnostics, against products of its Jacobians."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from slow import slow_but_for

from rnnjax import Linear, networks
from rnnjax.diagnostics import gradient_profile, jacobian_singular_values, lyapunov_spectrum
from rnnjax.testing.problems import at, wide

T, D, H = 3, 2, 2


def brute_force(cell, params, xs, carry, weights):
    """Return J_t `[T, N, N]`, and d(weights . y_T)/ds_T, in real coordinates, by jax.jacobian."""
    complex_ = [jnp.iscomplexobj(leaf) for leaf in jax.tree.leaves(carry)]
    structure = jax.tree.structure(carry)

    def real(carry):
        pairs = zip(jax.tree.leaves(carry), complex_, strict=True)
        return ravel_pytree([(s.real, s.imag) if both else s for s, both in pairs])

    back = real(carry)[1]

    def whole(flat):
        pairs = zip(back(flat), complex_, strict=True)
        return structure.unflatten([jax.lax.complex(*s) if both else s for s, both in pairs])

    @jax.jit
    def step(flat, x):
        def after(flat):
            ready = cell.prepare(params)
            new = real(cell.step(ready, whole(flat), cell.project(ready, x)))[0]
            return new, new

        matrix, new = jax.jacobian(after, has_aux=True)(flat)
        return matrix, new, jax.grad(lambda flat: cell.output(whole(flat)) @ weights)(new)

    flat, matrices = real(carry)[0], []
    for x in xs:
        matrix, flat, slope = step(flat, x)
        matrices.append(matrix)
    return np.stack(matrices), np.asarray(slope)


@pytest.mark.filterwarnings("ignore:.* exponents are -inf:RuntimeWarning")
@pytest.mark.parametrize(
    "name", slow_but_for(["elman", "lru", "retnet"], networks.NAMED_CELLS.keys())
)
def test_profiles_exponents_and_singular_values_are_those_of_the_jacobians(name, x64):
    cell = networks.make_cell(name, H, param_dtype=jnp.float64)
    params, xs, carry = wide(cell, D, jax.random.key(0))[1:]
    xs, carry = xs[:T, 0], at(carry, 0)
    weights = jnp.cos(jnp.arange(cell.output_size))
    matrices, slope = brute_force(cell, params, xs, carry, weights)
    products = [functools.reduce(np.matmul, matrices[t:][::-1]) for t in range(T)]

    profile = gradient_profile(cell, params, xs, lambda ys: ys[-1] @ weights, carry)
    norms = [np.linalg.norm(product.T @ slope) for product in products]
    np.testing.assert_allclose(np.exp(profile.log_norms[::-1]), norms, rtol=1e-8, atol=1e-12)

    values = np.linalg.svd(products[0], compute_uv=False)
    if name in ("elman", "lru", "retnet", "slstm", "deltanet"):  # takes as long as all the rest
        found = jacobian_singular_values(cell, params, xs, [T], initial_carry=carry)
        np.testing.assert_allclose(np.exp(found.log_values[0]), values, rtol=1e-8, atol=1e-12)

    linear = isinstance(cell, Linear)
    num = None if linear else 1
    growth = T * lyapunov_spectrum(cell, params, xs, num, initial_carry=carry).exponents
    if linear:  # the axes of its state do not mix
        factors = np.sort(np.abs(np.linalg.eigvals(products[0])))[::-1]
        np.testing.assert_allclose(np.exp(growth), factors, rtol=1e-8, atol=1e-12)
    else:  # of some vector
        assert values[-1] * (1 - 1e-8) <= np.exp(growth[0]) <= values[0] * (1 + 1e-8)
