"""Cells against Flax and PyTorch with the same weights, their initialisation, and their errors."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

import rnnjax
from rnnjax import GRU, LSTM, Elman
from rnnjax.cells import Gated, GatedParams, GRUCarry, LSTMCarry
from rnnjax.cells.base import check_size
from rnnjax.cells.elman import ElmanCarry
from rnnjax.cells.initializers import (
    Chrono,
    Fused,
    Gaussian,
    Identity,
    Orthogonal,
    SpectralRadius,
    Uniform,
    draw,
    spectral_radius,
)
from rnnjax.cells.kernels import matmul
from rnnjax.testing import check_cell

KEY = jax.random.key(0)
T, B, D, H = 7, 2, 3, 5
CELLS = {"elman": Elman, "lstm": LSTM, "gru": GRU}
PRECISIONS = [(jnp.float32, 1e-5), (jnp.float64, 1e-10)]


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("name", ["elman", "elman_relu", "lstm", "gru"])
def test_outputs_and_gradients_equal_pytorch(name, dtype, tolerance, x64):
    with np.load(oracles.PYTORCH) as file:
        arrays = {
            k.removeprefix(f"{name}/"): file[k].astype(dtype)
            for k in file
            if k.startswith(f"{name}/")
        }
    kind = name.split("_")[0]
    options = {"activation_fn": jax.nn.relu} if name == "elman_relu" else {}
    cell = CELLS[kind](H, param_dtype=dtype, **options)
    params = oracles.from_pytorch(kind, arrays)
    states = [arrays[k][0] for k in ("c0", "h0") if k in arrays]
    carry = type(cell.initial_carry(()))(*map(jnp.asarray, states))

    @jax.jit
    def loss(params, xs, carry):
        final, outputs = rnnjax.unroll(cell, params, xs, carry)
        total = jnp.sum(outputs * arrays["weights"]) + sum(f.sum() for f in final)
        return total, (final, outputs)

    xs = jnp.asarray(arrays["xs"])
    gradients, (final, outputs) = jax.grad(loss, (0, 1, 2), has_aux=True)(params, xs, carry)
    assert outputs.dtype == dtype
    assert oracles.relative_error(outputs, arrays["outputs"]) < tolerance
    for field in final._fields:
        want = arrays[f"final_{field}"][0]
        assert oracles.relative_error(getattr(final, field), want) < tolerance
        want = arrays[f"grad/{field}0"][0]
        assert oracles.relative_error(getattr(gradients[2], field), want) < tolerance
    assert oracles.relative_error(gradients[1], arrays["grad/xs"]) < tolerance
    theirs = {k.removeprefix("grad/"): v for k, v in arrays.items() if k.startswith("grad/")}
    # The gradient of a bias is that of either of PyTorch's two, which are the same sum.
    want_bias = theirs["bias_ih_l0"]
    want = [theirs["weight_ih_l0"].T, theirs["weight_hh_l0"].T, want_bias]
    if kind == "gru":
        want.append(theirs["bias_hh_l0"][2 * H :])
    for got, expected in zip(gradients[0], want, strict=True):
        assert oracles.relative_error(got, expected) < tolerance


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("name", CELLS)
def test_outputs_and_gradients_equal_flax(name, dtype, tolerance, x64):
    cell = CELLS[name](H, param_dtype=dtype)
    params = jax.tree.map(
        lambda p: p + 0.1 * jax.random.normal(KEY, p.shape, dtype), cell.init(KEY, D)
    )
    xs = jax.random.normal(KEY, (T, B, D), dtype)
    weights = jax.random.normal(jax.random.key(1), (T, B, H), dtype)
    carry = jax.tree.map(lambda c: c + 0.3 * xs[0, :, :1], cell.initial_carry((B,)))

    def ours(params, xs, carry):
        outputs = rnnjax.unroll(cell, params, xs, carry)[1]
        return jnp.sum(outputs * weights), outputs

    def theirs(params, xs, carry):
        outputs = oracles.run_flax(name, H, params, xs, carry)
        return jnp.sum(outputs * weights), outputs

    got = jax.jit(jax.grad(ours, (0, 1, 2), has_aux=True))(params, xs, carry)
    want = jax.jit(jax.grad(theirs, (0, 1, 2), has_aux=True))(params, xs, carry)
    assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(got))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert oracles.relative_error(a, b) < tolerance


@pytest.mark.slow
@pytest.mark.parametrize(
    "cell",
    [
        Elman(4, activation_fn=jax.nn.relu, recurrent_kernel_init=SpectralRadius(0.9, 2)),
        LSTM(5, dtype=jnp.bfloat16, forget_bias=Chrono(20.0)),
        GRU(5),
    ],
    ids=["elman", "lstm", "gru"],
)
def test_our_cells_pass_check_cell(cell):
    check_cell(cell, 3)


def test_parameter_counts_are_those_of_the_definitions():
    def count(cell):
        return sum(p.size for p in jax.tree.leaves(cell.init(KEY, D)))

    assert count(Elman(H)) == D * H + H * H + H
    assert count(LSTM(H)) == 4 * (D * H + H * H + H)
    assert count(GRU(H)) == 3 * (D * H + H * H + H) + H


@pytest.mark.parametrize("kind", CELLS.values())
def test_recurrent_blocks_are_orthogonal_one_for_each_gate(kind):
    kernel = kind(16).init(KEY, D).recurrent_kernel
    for block in np.split(np.asarray(kernel), kernel.shape[1] // 16, axis=1):
        np.testing.assert_allclose(block.T @ block, np.eye(16), atol=1e-5)
    fused = kind(16, recurrent_kernel_init=Fused(Orthogonal())).init(KEY, D).recurrent_kernel
    np.testing.assert_allclose(fused @ fused.T, np.eye(16), atol=1e-5)
    if fused.shape[1] > 16:
        radii = [
            np.abs(np.linalg.eigvals(b)).max() for b in np.split(fused, fused.shape[1] // 16, 1)
        ]
        assert max(radii) < 0.85  # the trap that per-gate blocks avoid


def test_the_forget_bias_is_added_once():
    assert_gates = {"i": 0.0, "f": 1.0, "g": 0.0, "o": 0.0}
    bias = LSTM(H).init(KEY, D).bias
    np.testing.assert_array_equal(bias, np.repeat(list(assert_gates.values()), H))
    np.testing.assert_array_equal(LSTM(H, forget_bias=3).init(KEY, D).bias[H : 2 * H], 3.0)
    np.testing.assert_array_equal(GRU(H, forget_bias=2).init(KEY, D).bias[H : 2 * H], 2.0)
    np.testing.assert_array_equal(GRU(H).init(KEY, D).bias, 0.0)
    np.testing.assert_array_equal(GRU(H).init(KEY, D).recurrent_bias, 0.0)


def test_a_numpy_number_is_a_number():
    np.testing.assert_array_equal(draw(np.float32(2), KEY, (3,), jnp.float32), [2, 2, 2])


@pytest.mark.slow
def test_chrono_draws_ln_uniform_and_mirrors_it_to_the_input_gate():
    i, f, g, o = np.split(
        LSTM(
            4000,
            forget_bias=Chrono(100.0),
            kernel_init=Identity(),
            recurrent_kernel_init=Identity(),
        )
        .init(KEY, 1)
        .bias,
        4,
    )
    np.testing.assert_array_equal(i, -f)
    np.testing.assert_array_equal(np.concatenate([g, o]), 0)
    uniform = np.sort(np.exp(f))
    expected = 1 + 98 * (np.arange(4000) + 0.5) / 4000  # quantiles of U[1, 99]
    assert np.abs(uniform - expected).max() < 3  # Kolmogorov-Smirnov at 1.36 / sqrt(4000) = 2.1


def test_the_identity_is_found_where_it_is_looked_for(x64):
    """An IRNN whose units are active repeats its state, and its Jacobians are the identity."""
    identity = rnnjax.initializers.Identity()
    assert identity == Identity()
    cell = Elman(
        H, activation_fn=jax.nn.relu, recurrent_kernel_init=identity, param_dtype=jnp.float64
    )
    params = cell.init(KEY, D)
    carry = ElmanCarry(jnp.arange(1.0, H + 1))
    xs = jnp.zeros((T, D))
    final = jax.jacobian(lambda c: rnnjax.unroll(cell, params, xs, c)[0].h)(carry)
    np.testing.assert_array_equal(final.h, np.eye(H))
    assert "rnnjax.initializers.Identity()" in (Elman.__doc__ or "")


def test_initialisers_draw_what_they_say():
    shape = (400, 400)
    gaussian = np.asarray(Gaussian(1.5)(KEY, shape))
    assert abs(gaussian.std() * math.sqrt(400) / 1.5 - 1) < 0.01
    assert abs(gaussian.mean()) < 1e-3
    assert abs(np.abs(np.linalg.eigvals(gaussian)).max() / 1.5 - 1) < 0.1  # circular law
    np.testing.assert_array_equal(Identity(2.0)(KEY, (3, 3)), 2 * np.eye(3))
    uniform = np.asarray(Uniform()(KEY, shape))
    assert np.abs(uniform).max() <= 1 / 20
    assert abs(uniform.std() * 20 * math.sqrt(3) - 1) < 0.01
    assert np.abs(Uniform(0.3)(KEY, shape)).max() <= 0.3
    singular = np.linalg.svd(np.asarray(Orthogonal(0.7)(KEY, (50, 50))), compute_uv=False)
    np.testing.assert_allclose(singular, 0.7, rtol=1e-5)


@pytest.mark.parametrize("nonzeros", [None, 15])
def test_spectral_radius_is_exact_and_sparsity_is_per_unit(nonzeros):
    block = np.asarray(SpectralRadius(0.95, nonzeros)(KEY, (50, 50)))
    assert abs(np.abs(np.linalg.eigvals(block.astype(np.float64))).max() / 0.95 - 1) < 1e-5
    if nonzeros:
        np.testing.assert_array_equal((block != 0).sum(axis=0), nonzeros)


def test_spectral_radius_of_a_non_normal_matrix():
    # Singular values near 100, eigenvalues 0.5 and 0.4: power iterations that stop early see 100.
    matrix = jnp.array([[0.5, 100.0], [0.0, 0.4]])
    assert abs(float(spectral_radius(matrix)) / 0.5 - 1) < 1e-5
    rotation = 0.9 * jnp.array([[0.6, -0.8], [0.8, 0.6]])  # a complex pair
    assert abs(float(spectral_radius(rotation)) / 0.9 - 1) < 1e-5


def test_gates_can_have_their_own_initialisers():
    inits = (Identity(), Orthogonal(), Identity(2.0), Uniform(0.1))
    blocks = np.split(LSTM(H, recurrent_kernel_init=inits).init(KEY, D).recurrent_kernel, 4, axis=1)
    np.testing.assert_array_equal(blocks[0], np.eye(H))
    np.testing.assert_array_equal(blocks[2], 2 * np.eye(H))
    assert np.abs(blocks[3]).max() <= 0.1
    with pytest.raises(ValueError, match=r"recurrent_kernel_init .* i, f, g, o; got a tuple of 2"):
        LSTM(H, recurrent_kernel_init=inits[:2])


def test_jax_initialisers_work_in_place_of_ours():
    cell = Elman(H, kernel_init=jax.nn.initializers.lecun_normal())
    assert cell.init(KEY, D).input_kernel.shape == (D, H)


@pytest.mark.parametrize("features", [0, -1, True])
def test_features_must_be_a_positive_integer(features):
    with pytest.raises(ValueError, match=f"features must be a positive integer, got {features}"):
        LSTM(features)
    for other in (2.5, "8", None):
        with pytest.raises(ValueError, match="features must be a positive integer, got"):
            check_size("features", other)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LSTM(H).init(KEY, 0), "input_size must be a positive integer, got 0"),
        (lambda: Chrono(2.0), "t_max must be greater than 2, got 2.0"),
        (lambda: SpectralRadius(0.9, 0), "nonzeros must be at least 1 or None, got 0"),
        (lambda: SpectralRadius()(KEY, (2, 3)), "needs a square block, got 2 x 3"),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_cells_are_values():
    assert LSTM(8) == LSTM(8, forget_bias=1.0)
    assert hash(LSTM(8)) == hash(LSTM(8))
    assert LSTM(8) != LSTM(8, forget_bias=2.0)
    assert GRU(8, recurrent_kernel_init=Orthogonal(0.5)) != GRU(8)
    with pytest.raises(dataclasses.FrozenInstanceError):
        LSTM(8).features = 9  # pyright: ignore


def test_bfloat16_matmuls_accumulate_in_float32():
    # 4096 ones in bfloat16 add up to 256 if the sum is kept in bfloat16's eight bits.
    ones = jnp.ones((1, 4096), jnp.float32)
    assert float(matmul(ones, ones.T, jnp.bfloat16)[0, 0]) == 4096
    cell = LSTM(H, dtype=jnp.bfloat16)
    params = cell.init(KEY, D)
    final, outputs = rnnjax.unroll(cell, params, jnp.ones((T, B, D)))
    assert {leaf.dtype for leaf in jax.tree.leaves((params, final, outputs))} == {jnp.float32.dtype}
    exact = rnnjax.unroll(LSTM(H), params, jnp.ones((T, B, D)))[1]
    error = oracles.relative_error(outputs, exact)
    assert 1e-5 < error < 0.02  # it does compute in bfloat16, and loses no more than that


def test_carries_are_named():
    assert LSTM(H).initial_carry((B,))._fields == ("c", "h") == LSTMCarry._fields
    assert isinstance(Elman(H).initial_carry(()), ElmanCarry)
    assert isinstance(GRU(H).initial_carry((2, 3)), GRUCarry)
    assert GRU(H).initial_carry((2, 3)).h.shape == (2, 3, H)
    assert LSTM(H, param_dtype=jnp.bfloat16).init(KEY, D).bias.dtype == jnp.bfloat16


def test_gated_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        Gated(4)  # pyright: ignore
    assert GatedParams._fields == ("input_kernel", "recurrent_kernel", "bias")
