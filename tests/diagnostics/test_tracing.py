"""Functions rewritten by way of their jaxprs: exact slopes against closed forms in float64."""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name

import rnnjax
from rnnjax import GRU, LSTM, Cell, Elman
from rnnjax.cells import GRUCarry, LSTMCarry
from rnnjax.cells.elman import ElmanCarry
from rnnjax.diagnostics import log_gradient_profile
from rnnjax.diagnostics.tracing import exact, named_values

KEY = jax.random.key(0)
POINTS = [sign * x for x in (5.0, 9.5, 17.0, 25.0, 40.0) for sign in (1, -1)]


def tanh_slope(x):
    return np.cosh(x) ** -2.0


def logistic(x):
    return 1 / (1 + np.exp(-np.asarray(x, float)))


def logistic_slope(x):
    return 0.25 * np.cosh(np.divide(x, 2)) ** -2.0


def silu_slope(x):
    return logistic(x) + np.asarray(x) * logistic_slope(x)


FUNCTIONS = {
    "tanh": (jnp.tanh, tanh_slope),
    "lax.tanh": (lax.tanh, tanh_slope),
    "jitted": (jax.jit(jax.jit(jnp.tanh)), tanh_slope),
    "sigmoid": (jax.nn.sigmoid, logistic_slope),
    "lax.logistic": (lax.logistic, logistic_slope),
    "expit": (jax.scipy.special.expit, logistic_slope),
    "of a sum": (lambda x: jnp.tanh(2 * (x / 2 + 0.0)) + 3, tanh_slope),
    "half of tanh": (lambda x: (jnp.tanh(x / 2) + 1) / 2, logistic_slope),
}


def derivatives(function, xs):
    """The slope at every point, in four ways."""
    return (
        jax.vmap(jax.grad(function))(xs),
        jax.grad(lambda xs: jax.vmap(function)(xs).sum())(xs),
        jax.jvp(function, (xs,), (jnp.ones_like(xs),))[1],
        jax.linearize(function, xs)[1](jnp.ones_like(xs)),
    )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_slopes_hold_their_digits_far_out(name):
    function, slope = FUNCTIONS[name]
    xs = jnp.array(POINTS)
    assert xs.dtype == jnp.float32
    assert (np.asarray(jax.vmap(jax.grad(function))(xs)) == 0).any()  # what exact is for
    for found in jax.jit(lambda xs: derivatives(exact(function), xs))(xs):
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, slope(np.array(POINTS)), rtol=1e-5)


@pytest.mark.parametrize("wrapped", [jax.nn.silu, jax.jit(lambda x: x * lax.logistic(x))])
def test_silu_is_right_on_both_sides(wrapped):
    xs = jnp.array([x for x in POINTS if abs(x) < 30])
    want = silu_slope(np.asarray(xs, float))
    for found in jax.jit(lambda xs: derivatives(exact(wrapped), xs))(xs):
        np.testing.assert_allclose(found, want, rtol=1e-5)


def test_slopes_agree_with_those_of_jax_where_nothing_is_saturated(x64):
    xs = jnp.linspace(-3.0, 3.0, 61)
    functions = [function for function, _ in FUNCTIONS.values()]
    want = jax.jit(lambda xs: [jax.vmap(jax.grad(f))(xs) for f in functions])(xs)
    got = jax.jit(lambda xs: [jax.vmap(jax.grad(exact(f)))(xs) for f in functions])(xs)
    np.testing.assert_allclose(got, want, rtol=1e-13)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.float64])
def test_values_are_unchanged_bit_for_bit(dtype, x64):
    xs = jnp.concatenate([jnp.linspace(-20, 20, 1001), jnp.array([jnp.inf, -jnp.inf, -0.0, 1e-30])])
    xs = xs.astype(dtype)
    functions = [*(f for f, _ in FUNCTIONS.values()), jax.nn.silu, jax.nn.softplus]
    # Both compiled whole: several operations at once may be rounded otherwise than one by one.
    want = jax.jit(lambda xs: [f(xs) for f in functions])(xs)
    got = jax.jit(lambda xs: [exact(f)(xs) for f in functions])(xs)
    for a, b in zip(got, want, strict=True):
        assert a.dtype == b.dtype == dtype
        np.testing.assert_array_equal(np.asarray(a).view(np.uint8), np.asarray(b).view(np.uint8))


def test_nan_stays_nan():
    assert np.isnan(exact(jnp.tanh)(jnp.nan)) and np.isnan(jax.grad(exact(jnp.tanh))(jnp.nan))


def test_at_infinity_the_slope_is_zero():
    for function in (jnp.tanh, jax.nn.sigmoid):
        for x in (jnp.inf, -jnp.inf, 200.0):
            assert jax.grad(exact(function))(jnp.float32(x)) == 0
            assert jax.grad(jax.grad(exact(function)))(jnp.float32(x)) == 0


def test_higher_derivatives_are_right_at_zero_and_far_out(x64):
    xs = jnp.array([0.0, -0.0, 1e-9, 0.3, -2.0, 12.0, -40.0])
    t, s = np.tanh(xs), tanh_slope(xs)
    # Near zero 1 - exp(-2 |x|) cancels: right to an eps of the slope, not of the derivative.
    close = {"rtol": 1e-9, "atol": 4e-16}

    @jax.jit
    def of_tanh(xs):
        second = jax.grad(jax.grad(exact(jnp.tanh)))
        hessian = jax.hessian(lambda xs: exact(jnp.tanh)(xs).sum())(xs)
        return jax.vmap(second)(xs), hessian, jax.vmap(jax.grad(second))(xs)

    second, hessian, third = of_tanh(xs)
    np.testing.assert_allclose(second, -2 * t * s, **close)
    np.testing.assert_allclose(hessian, np.diag(-2 * t * s), **close)
    np.testing.assert_allclose(third, s * (4 * t**2 - 2 * s), **close)
    np.testing.assert_allclose(second[-2:], (-2 * t * s)[-2:], rtol=1e-12)
    s = logistic_slope(xs)
    second = jax.jit(jax.vmap(jax.grad(jax.grad(exact(jax.nn.sigmoid)))))(xs)
    np.testing.assert_allclose(second, -s * np.tanh(np.divide(xs, 2)), **close)
    np.testing.assert_allclose(second[-1], s[-1], rtol=1e-12)


def test_second_derivatives_hold_in_float32():
    xs = jnp.array([-20.0, -9.5, 9.5, 20.0])
    wide = np.asarray(xs, float)
    for found in (
        jax.vmap(jax.grad(jax.grad(exact(jnp.tanh))))(xs),
        jax.vmap(lambda x: jax.jvp(jax.grad(exact(jnp.tanh)), (x,), (1.0,))[1])(xs),
    ):
        np.testing.assert_allclose(found, -2 * np.tanh(wide) * tanh_slope(wide), rtol=1e-5)


@pytest.mark.slow
def test_around_relu_softplus_and_scans():
    """Functions with rules or loops of their own keep them, and tanh beside them is exact."""

    def function(x):
        total, _ = lax.scan(lambda c, w: (c + w * x, w), 0.0, jnp.arange(3.0))  # 3 x
        flag = lax.cond(x > 0, lambda x: x, lambda x: -x, x)  # |x|
        return jnp.tanh(x) * jax.nn.relu(-x) + jax.nn.softplus(x) + total + flag

    xs = jnp.array([-20.0, -10.0, 0.5, 10.0])
    wide = np.asarray(xs, float)
    np.testing.assert_array_equal(jax.vmap(exact(function))(xs), jax.vmap(function)(xs))
    below = wide < 0
    want = np.where(below, -np.tanh(wide) - wide * tanh_slope(wide), 0)
    want = want + logistic(wide) + 3 + np.sign(wide)
    np.testing.assert_allclose(jax.vmap(jax.grad(exact(function)))(xs), want, rtol=1e-5)
    saturated = exact(lambda x: jnp.tanh(x) * jax.nn.relu(3 - x))
    want = 23 * tanh_slope(20.0) + 1  # tanh(-20) = -1, relu' = 1
    np.testing.assert_allclose(jax.grad(saturated)(jnp.float32(-20)), want, rtol=1e-5)


def test_a_custom_rule_is_kept():
    @jax.custom_vjp
    def odd(x):
        return jnp.tanh(x)

    odd.defvjp(lambda x: (odd(x), x), lambda x, g: (7 * g,))

    @jax.custom_jvp
    def even(x):
        return jnp.tanh(x)

    even.defjvp(lambda x, dx: (even(*x), 5 * dx[0]))
    assert jax.grad(exact(lambda x: odd(x) + jnp.tanh(x)))(jnp.float32(20)) == 7
    assert jax.grad(exact(lambda x: even(x) + jnp.tanh(x)))(jnp.float32(20)) == 5


def test_closed_over_arrays_pytrees_and_several_arguments():
    W = jnp.full((3, 2), 10.0)

    def function(tree, scale, *, shift=1.0):
        return {"y": scale * jnp.tanh(tree["x"] @ W + shift), "same": tree["x"]}, tree["n"] + 1

    tree = {"x": jnp.array([0.5, -0.2, 0.6]), "n": jnp.int32(3)}
    want, number = function(tree, 2.0)
    got, counted = exact(function)(tree, 2.0)
    assert counted == number == 4 and counted.dtype == jnp.int32
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), got, want))

    def total(x, W):
        return exact(lambda x: jnp.tanh(x @ W).sum())(x)

    x = jnp.array([0.5, -0.2, 0.6])
    pre = np.asarray(x, float) @ np.full((3, 2), 10.0)
    dx, dW = jax.grad(total, (0, 1))(x, W)  # also with respect to what the function closes over
    np.testing.assert_allclose(dx, np.full(3, 2 * 10 * tanh_slope(pre[0])), rtol=1e-4)
    np.testing.assert_allclose(dW, np.outer(x, tanh_slope(pre)), rtol=1e-4)


def test_integers_python_numbers_and_literals():
    assert exact(jnp.tanh)(2) == jnp.tanh(2)
    assert exact(jnp.tanh)(2.0) == jnp.tanh(2.0)
    assert exact(lambda x: jnp.tanh(x.astype(float)))(jnp.int32(2)) == jnp.tanh(2.0)
    number, array, x = exact(lambda x: (1.5, jnp.tanh(2.0), x))(jnp.float32(3))
    assert number == 1.5 and array == jnp.tanh(2.0) and x == 3
    np.testing.assert_allclose(jax.grad(exact(jnp.tanh))(10.0), tanh_slope(10.0), rtol=1e-5)


def test_bfloat16_slopes_are_right_to_its_accuracy():
    xs = jnp.array(POINTS, jnp.bfloat16)
    found = jax.vmap(jax.grad(exact(jnp.tanh)))(xs)
    assert found.dtype == jnp.bfloat16
    want = tanh_slope(np.asarray(xs, float))
    np.testing.assert_allclose(np.asarray(found, float), want, rtol=2**-6)


def test_exact_survives_jit_and_being_nested():
    inner = exact(jnp.tanh)
    outer = jax.jit(exact(lambda x: inner(x) + jax.jit(inner)(x)))
    found = jax.jit(jax.grad(outer))(jnp.float32(15))
    np.testing.assert_allclose(found, 2 * tanh_slope(15.0), rtol=1e-5)


@dataclasses.dataclass(frozen=True)
class Held(Cell):
    """A user's cell that is not gated: h' = phi(a h + x), the inputs far from zero."""

    activation: Callable = jnp.tanh

    def init(self, key, input_size):
        return {"a": jnp.full((4,), 0.5, jnp.float32)}

    def initial_carry(self, batch_shape):
        return jnp.zeros((*batch_shape, 4), jnp.float32)

    def project(self, params, x):
        return x

    def step(self, params, carry, u):
        return self.activation(params["a"] * carry + u)

    def output(self, carry):
        return carry


USERS = {"user's tanh": Held(jax.jit(jnp.tanh)), "user's sigmoid": Held(jax.nn.sigmoid)}


def cast(tree, dtype):
    return jax.tree.map(lambda a: a.astype(dtype), tree)


def saturated(name):
    """Return a cell, its parameters, inputs and a cotangent, every gate far out."""
    long, signs = 1000, jnp.array([1.0, -1.0, 1.0, -1.0])
    xs = jnp.zeros((long, 2, 1))
    ones = jnp.ones((2, 4))
    if name == "elman":
        cell = Elman(4)
        params = cell.init(KEY, 1)._replace(bias=15 * signs)
        return cell, params, xs, ElmanCarry(ones)
    if name == "lstm":
        cell = LSTM(4)
        params = cell.init(KEY, 1)
        bias = jnp.concatenate([-20 * signs, -20 * signs, 20 * signs, 20 * signs])
        return cell, params._replace(bias=bias), xs, LSTMCarry(ones, ones)
    if name == "gru":
        cell = GRU(4)
        bias = jnp.concatenate([20 * signs, -20 * jnp.ones(4), 20 * signs])
        return cell, cell.init(KEY, 1)._replace(bias=bias), xs, GRUCarry(ones)
    cell = USERS[name]
    xs = jnp.full((long, 2, 4), 20.0)
    return cell, cell.init(KEY, 1), xs, ones


@pytest.mark.slow
@pytest.mark.parametrize("name", ["elman", "lstm", "gru", *USERS])
def test_a_saturated_network_has_the_same_profile_in_float32_as_in_float64(name, x64):
    cell, params, xs, cotangent = saturated(name)
    single = log_gradient_profile(cell, *cast((params, xs, cotangent), jnp.float32))
    double = log_gradient_profile(cell, *cast((params, xs, cotangent), jnp.float64))
    assert single.dtype == jnp.float32 and jnp.isfinite(single).all()
    np.testing.assert_allclose(single, double, rtol=1e-4)


@pytest.mark.slow
def test_an_elman_unit_held_at_15_loses_28_nats_a_step(x64):
    """ln(1 - tanh(15)^2) = ln 4 - 30, to which the weight adds its logarithm."""
    cell, params, xs, cotangent = saturated("elman")
    params = params._replace(recurrent_kernel=jnp.eye(4) * 1e-3)  # h is +-1, as the bias +-15
    profile = log_gradient_profile(cell, *cast((params, xs, cotangent), jnp.float32))
    slope = np.log(tanh_slope(15 + 1e-3)) + np.log(1e-3)
    np.testing.assert_allclose(profile[0], 1000 * slope + np.log(2), rtol=1e-4)
    assert abs(slope - (math.log(4) - 30 + math.log(1e-3))) < 0.01


def test_names_are_found_under_nested_jit():
    @jax.jit
    def inner(x):
        return checkpoint_name(2 * x, "inner")

    def function(x, y):
        z = jax.jit(lambda x: inner(x) + 1)(checkpoint_name(x, "x"))
        return z * checkpoint_name(y, "y")

    x, y = jnp.arange(3.0), jnp.float32(5)
    found = named_values(function)(x, y)
    assert list(found) == ["x", "inner", "y"]
    for name, want in (("x", x), ("inner", 2 * x), ("y", y)):
        np.testing.assert_array_equal(found[name], want)
    jitted = jax.jit(named_values(function))(x, y)
    np.testing.assert_array_equal(jitted["inner"], 2 * x)
    many = jax.vmap(named_values(function), (0, None))(x, y)
    np.testing.assert_array_equal(many["inner"], 2 * x)
    slope = jax.grad(lambda x: named_values(function)(x, y)["inner"].sum())(x)
    np.testing.assert_array_equal(slope, np.full(3, 2))


def test_without_names_nothing_is_found():
    assert named_values(lambda x: jnp.tanh(x) + 1)(jnp.ones(2)) == {}
    assert named_values(lambda x: 1.0)(jnp.ones(2)) == {}


def test_the_gates_of_a_cell_are_found_by_their_names():
    cell = LSTM(4)
    params = cell.init(KEY, 3)
    x, carry = jax.random.normal(KEY, (2, 3)), cell.initial_carry((2,))
    found = named_values(lambda p, c, x: cell.step(p, c, cell.project(p, x)))(params, carry, x)
    i, f, _, o = np.split(np.asarray(x @ params.input_kernel + params.bias, float), 4, axis=-1)
    for name, want in (("i", i), ("f", f), ("o", o)):
        np.testing.assert_allclose(found[name], logistic(want), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("cell", [Elman(5), LSTM(5), GRU(5)], ids=["elman", "lstm", "gru"])
def test_jvp_and_hessian_through_unroll_equal_those_of_a_python_loop(cell, x64):
    params = jax.tree.map(lambda p: 1.5 * p.astype(jnp.float64) + 0.1, cell.init(KEY, 3))
    xs = jax.random.normal(KEY, (4, 2, 3), jnp.float64)
    start = jax.tree.map(lambda c: c.astype(jnp.float64) + 0.2, cell.initial_carry((2,)))

    def scaled(gain):
        return params._replace(
            recurrent_kernel=gain[0] * params.recurrent_kernel, bias=gain[1] + params.bias
        )

    def loss(outputs):
        return (outputs**2).sum() + jnp.sin(outputs[2] * outputs[-1]).sum()

    def by_scan(gain):
        return loss(rnnjax.unroll(cell, scaled(gain), xs, start)[1])

    def by_loop(gain):
        carry, p, outputs = start, scaled(gain), []
        for x in xs:
            carry = cell.step(p, carry, cell.project(p, x))
            outputs.append(carry.h)
        return loss(jnp.stack(outputs))

    gain, direction = jnp.array([0.9, 0.1]), jnp.array([0.3, -0.7])

    def derivatives_of(function):
        @jax.jit
        def every(gain):
            tangent = jax.jvp(function, (gain,), (direction,))
            return *tangent, jax.hessian(function)(gain)

        return every(gain)

    for got, want in zip(derivatives_of(by_scan), derivatives_of(by_loop), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-11)
    assert np.abs(got).min() > 0.01  # no second derivative is trivial
