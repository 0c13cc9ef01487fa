"""The OrthogonalRNN: its equations in NumPy and SciPy, singular values of 1, modReLU, rotations."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from slow import slow_but_for

import rnnjax
from rnnjax import diagnostics
from rnnjax.cells import OrthogonalRNN, OrthogonalRNNCarry, OrthogonalRNNParams, identity
from rnnjax.cells.initializers import CayleyRotations, Gaussian, Rotations
from rnnjax.recurrence.fast import served
from rnnjax.testing import check_cell

T, B, D, H = 7, 2, 3, 6
KEY = jax.random.key(0)
KINDS = {
    f"{name}{' unitary' * unitary}": {"parametrization": name, "unitary": unitary}
    for name, unitary in itertools.product(["expm", "cayley"], [False, True])
}


def drawn(unitary):
    """Parameters of random entries, inputs and a state, in NumPy."""
    rng = np.random.default_rng(0)
    rows = H // 2 if unitary else H
    params = OrthogonalRNNParams(*(rng.normal(size=s) for s in ((D, H), (rows, H), rows)))
    return params, rng.normal(size=(T, B, D)), rng.normal(size=(B, H))


def modrelu(z, b):
    """z / |z| max(0, |z| + b), z real or complex."""
    return z / np.abs(z) * np.maximum(0, np.abs(z) + b)


def orthogonal(skew, parametrization):
    one = np.eye(len(skew))
    return (
        scipy.linalg.expm(skew)
        if parametrization == "expm"
        else np.linalg.inv(one + skew) @ (one - skew)
    )


@pytest.mark.parametrize("parametrization", ["expm", "cayley"])
def test_values_are_those_of_the_papers_equation(parametrization, x64):
    params, xs, h = drawn(unitary=False)
    w, a, b = params
    u = orthogonal(a - a.T, parametrization)
    cell = OrthogonalRNN(H, parametrization=parametrization, param_dtype=jnp.float64)
    start = OrthogonalRNNCarry(jnp.asarray(h))
    _, ys = rnnjax.unroll(cell, jax.tree.map(jnp.asarray, params), jnp.asarray(xs), start)
    zeros = 0
    for x, y in zip(xs, ys, strict=True):
        h = modrelu(x @ w + h @ u, b)
        zeros += (h == 0).sum()
        np.testing.assert_allclose(y, h, rtol=1e-12, atol=1e-12)
    assert 0 < zeros < T * B * H  # both pieces of modReLU are seen


@pytest.mark.slow
@pytest.mark.parametrize("parametrization", ["expm", "cayley"])
def test_unitary_values_are_those_of_complex_numbers(parametrization, x64):
    params, xs, h = drawn(unitary=True)
    w, a, b = params
    n = H // 2
    real, imaginary = a[:, :n], a[:, n:]
    skew = (real - real.T) - 1j * (imaginary + imaginary.T)  # acts on row vectors
    np.testing.assert_allclose(skew.conj().T, -skew)
    u = orthogonal(skew, parametrization)
    np.testing.assert_allclose(u.conj().T @ u, np.eye(n), atol=1e-12)
    cell = OrthogonalRNN(H, parametrization=parametrization, unitary=True, param_dtype=jnp.float64)
    start = OrthogonalRNNCarry(jnp.asarray(h))
    _, ys = rnnjax.unroll(cell, jax.tree.map(jnp.asarray, params), jnp.asarray(xs), start)
    z = h[:, :n] + 1j * h[:, n:]
    for x, y in zip(xs, ys, strict=True):
        z = modrelu(x @ (w[:, :n] + 1j * w[:, n:]) + z @ u, b)
        np.testing.assert_allclose(y, np.concatenate([z.real, z.imag], -1), rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("options", slow_but_for(["expm", "cayley unitary"], KINDS))
def test_of_a_linear_network_every_singular_value_is_one_at_every_lag(options, x64):
    unitary = options["unitary"]
    activation: dict[str, Any] = {} if unitary else {"activation_fn": identity}
    cell = OrthogonalRNN(H, **options, **activation, param_dtype=jnp.float64)
    params, xs, h = jax.tree.map(jnp.asarray, drawn(unitary))
    params = params._replace(activation_bias=jnp.zeros_like(params.activation_bias))
    steps = np.asarray(diagnostics.jacobians(cell, params, xs, OrthogonalRNNCarry(h)))
    product = np.eye(H)
    if not unitary:  # modReLU without a bias is the identity
        same = OrthogonalRNN(H, **options, param_dtype=jnp.float64)
        np.testing.assert_allclose(
            diagnostics.jacobians(same, params, xs, OrthogonalRNNCarry(h)), steps, atol=1e-14
        )
    for lag in range(1, T + 1):
        product = product @ steps[T - lag, 0]
        values = np.linalg.svd(product, compute_uv=False)
        np.testing.assert_allclose(values, 1, rtol=1e-12)
    assert np.abs(steps[0, 0] - np.eye(H)).max() > 0.1


@pytest.mark.slow
def test_another_activation_has_the_bias_inside(x64):
    params, xs, h = drawn(unitary=False)
    cell = OrthogonalRNN(H, activation_fn=jnp.tanh, param_dtype=jnp.float64)
    arrays = jax.tree.map(jnp.asarray, (params, xs[:1], OrthogonalRNNCarry(h)))
    u = scipy.linalg.expm(params.recurrent_kernel - params.recurrent_kernel.T)
    want = np.tanh(xs[0] @ params.input_kernel + h @ u + params.activation_bias)
    np.testing.assert_allclose(rnnjax.unroll(cell, *arrays)[1][0], want, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("unitary", [False, True])
def test_modrelu_has_finite_gradients_at_and_near_zero(unitary):
    cell = OrthogonalRNN(H, unitary=unitary)
    count = H // 2 if unitary else H

    @jax.jit
    def slopes(z, bias):
        def activation(z, bias):
            params = OrthogonalRNNParams(None, None, bias)
            return cell.gates(params, OrthogonalRNNCarry(z), (z,), (jnp.zeros(H),)).h

        return jax.jacobian(activation, (0, 1))(z, bias)

    for size in (0.0, 1e-30, 1e-19, 1e-8):
        for bias in (-0.01, 0.0, 0.01):
            of_h, of_b = slopes(np.full(H, size, np.float32), np.full(count, bias, np.float32))
            assert np.isfinite(of_h).all() and np.isfinite(of_b).all()
            if bias == 0 or size == 0:
                want = np.eye(H) if bias >= 0 else np.zeros((H, H))
                np.testing.assert_allclose(of_h, want, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("unitary", [False, True])
def test_rotations_turn_planes_by_the_angles_that_were_drawn(unitary, x64):
    shape = (H // 2, H) if unitary else (H, H)
    for init, kind in ((Rotations(), "expm"), (CayleyRotations(), "cayley")):
        cell = OrthogonalRNN(
            H,
            parametrization=kind,
            unitary=unitary,
            recurrent_kernel_init=init,
            param_dtype=jnp.float64,
        )
        params = cell.init(KEY, D)
        assert params.recurrent_kernel.shape == shape
        u = np.asarray(cell.prepare(params).recurrent_kernel)
        # Coordinates 2i and 2i + 1 are a plane, or those of a complex number.
        pairs = np.arange(H).reshape(2, -1).T if unitary else np.arange(H).reshape(-1, 2)
        want, turned = np.zeros((H, H)), []
        for i, j in pairs:
            turned.append(np.arctan2(u[i, j], u[i, i]))
            cosine, sine = np.cos(turned[-1]), np.sin(turned[-1])
            want[np.ix_((i, j), (i, j))] = [[cosine, sine], [-sine, cosine]]
        np.testing.assert_allclose(u, want, atol=1e-12)
        raw = np.abs(params.recurrent_kernel)[np.abs(params.recurrent_kernel) > 0]
        raw = raw * 2 if unitary else raw
        angles = raw if kind == "expm" else 2 * np.arctan(raw)
        np.testing.assert_allclose(np.sort(np.abs(turned)), np.sort(angles), rtol=1e-9)
        assert len(set(angles)) == H // 2 and angles.max() <= (np.pi if kind == "expm" else 1.571)


@pytest.mark.slow
def test_initialisers_of_angles_are_uniform():
    raw = np.asarray(Rotations()(KEY, (1000, 2000)))
    angles = np.sort(2 * np.diagonal(raw[:, 1000:]))
    assert (raw[:, :1000] == 0).all()
    expected = np.pi * (2 * (np.arange(1000) + 0.5) / 1000 - 1)
    assert np.abs(angles - expected).max() < 0.3
    raw = np.asarray(CayleyRotations()(KEY, (1001, 1001)))  # the last coordinate has no partner
    angles = np.sort(2 * np.arctan(-raw[np.arange(0, 1000, 2), np.arange(1, 1000, 2)]))
    assert (raw != 0).sum() == 500
    assert np.abs(angles - np.pi / 2 * (np.arange(500) + 0.5) / 500).max() < 0.15
    with pytest.raises(ValueError, match=r"a block \[H, H\] or \[H/2, H\], got 3 x 4"):
        Rotations()(KEY, (3, 4))


@pytest.mark.slow
def test_init_draws_what_the_docstring_says():
    cell = OrthogonalRNN(H, recurrent_kernel_init=Gaussian())
    params = cell.init(KEY, D)
    assert [leaf.shape for leaf in params] == [(D, H), (H, H), (H,)]
    bias = np.asarray(params.activation_bias)
    assert 0 < np.abs(bias).max() <= 0.01 and (bias > 0).any() and (bias < 0).any()
    assert cell.without_initialisers() == OrthogonalRNN(H)
    unitary = OrthogonalRNN(H, unitary=True)
    assert [leaf.shape for leaf in unitary.init(KEY, D)] == [(D, H), (H // 2, H), (H // 2,)]
    ready = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
    assert cell.prepare(ready).recurrent_kernel.dtype == jnp.bfloat16


def test_what_it_refuses():
    with pytest.raises(ValueError, match="parametrization must be expm or cayley, got 'qr'"):
        OrthogonalRNN(H, parametrization="qr")
    with pytest.raises(ValueError, match="features must be even if unitary, got 5"):
        OrthogonalRNN(5, unitary=True)
    with pytest.raises(ValueError, match="activation_fn must be None, which is modReLU"):
        OrthogonalRNN(H, unitary=True, activation_fn=jnp.tanh)
    with pytest.raises(ValueError, match="inputs must have 3 features"):
        OrthogonalRNN(H).project(OrthogonalRNN(H).init(KEY, D), jnp.zeros((B, D + 1)))


@pytest.mark.slow
@pytest.mark.parametrize("unitary", [False, True])
def test_it_takes_the_fast_path(unitary):
    cell = OrthogonalRNN(H, unitary=unitary)
    ready = cell.prepare(cell.init(KEY, D))
    assert served(cell, ready, cell.initial_carry((B,)), jnp.zeros((T, B, D)))


@pytest.mark.slow
def test_the_unitary_one_passes_check_cell():
    check_cell(OrthogonalRNN(4, unitary=True, parametrization="cayley"), D)
