"""Omega and flossing against closed forms, loops and finite differences; and what they do."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from own_cells import LRU

from rnnjax import GRU, LSTM, Cell, Elman
from rnnjax.cells import ElmanCarry, GatedParams, GRUCarry, GRUParams, LSTMCarry, identity
from rnnjax.cells.initializers import Identity, Orthogonal
from rnnjax.diagnostics import adjoints, lyapunov_spectrum
from rnnjax.regularizers import flossing, omega

KEY = jax.random.key(0)
T, B, D, H = 7, 2, 3, 5


def logistic(x):
    return 1 / (1 + np.exp(-x))


# One step backward in NumPy: the next state, and what of a gradient `a` goes around the recurrent
# kernel to each part of the state, and to its products h U.


def elman_pull(params, x, state, a):
    (h,) = state
    new = np.tanh(x @ params.input_kernel + params.bias + h @ params.recurrent_kernel)
    return (new,), (np.zeros(H),), a[0] * (1 - new**2)


def lstm_pull(params, x, state, a):
    c, h = state
    packed = x @ params.input_kernel + params.bias + h @ params.recurrent_kernel
    i, f, g, o = np.split(packed, 4)
    i, f, g, o = logistic(i), logistic(f), np.tanh(g), logistic(o)
    new = f * c + i * g
    dc = a[0] + a[1] * o * (1 - np.tanh(new) ** 2)
    do = a[1] * np.tanh(new) * o * (1 - o)
    dv = dc * g * i * (1 - i), dc * c * f * (1 - f), dc * i * (1 - g**2), do
    return (new, o * np.tanh(new)), (dc * f, np.zeros(H)), np.concatenate(dv)


def gru_pull(params, x, state, a):
    (h,) = state
    u = np.split(x @ params.input_kernel + params.bias, 3)
    v = np.split(h @ params.recurrent_kernel, 3)
    r, z, inner = logistic(u[0] + v[0]), logistic(u[1] + v[1]), v[2] + params.recurrent_bias
    n = np.tanh(u[2] + r * inner)
    dn = a[0] * (1 - z) * (1 - n**2)
    dv = dn * inner * r * (1 - r), a[0] * (h - n) * z * (1 - z), dn * r
    return ((1 - z) * n + z * h,), (a[0] * z,), np.concatenate(dv)


KINDS = {
    "elman": (Elman, ElmanCarry, elman_pull, (2, 3)),
    "lstm": (LSTM, LSTMCarry, lstm_pull, (2,)),
    "gru": (GRU, GRUCarry, gru_pull, ()),
}


def problem(name):
    """A cell, parameters, inputs, adjoints (any will do) and a first carry, in float64."""
    kind, carry, _, batch = KINDS[name]
    cell, rng = kind(H, param_dtype=jnp.float64), np.random.default_rng(3)
    count = len(cell.gate_names)
    params = GatedParams(*(rng.normal(size=(*n, count * H)) for n in ((D,), (H,), ())))
    if name == "gru":
        params = GRUParams(*params, recurrent_bias=rng.normal(size=H))
    parts = len(carry._fields)
    state = carry(*rng.normal(size=(parts, *batch, H)))
    found = carry(*rng.normal(size=(parts, T, *batch, H)))
    return cell, *jax.tree.map(jnp.asarray, (params, rng.normal(size=(T, *batch, D)), found, state))


def in_numpy(name, arguments, exponent, kernel):
    """Omega of a kernel that takes part in nothing but the step backward."""
    params, xs, adjoints, start = jax.tree.map(np.asarray, arguments)
    *_, pull, batch = KINDS[name]
    total = 0
    for index in np.ndindex(*batch):
        state = tuple(leaf[index] for leaf in start)
        for t in range(T - 1):
            later = [leaf[(t + 1, *index)] for leaf in adjoints]
            state, direct, products = pull(params, xs[(t, *index)], state, later)
            earlier = [*direct[:-1], direct[-1] + kernel @ products]
            ratio = np.linalg.norm(np.concatenate(earlier)) / np.linalg.norm(np.concatenate(later))
            total += (ratio**exponent - 1) ** 2
    return total / np.prod(batch)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "exponent"), [("elman", 1), ("elman", 2), ("lstm", 1), ("gru", 2)]
)
def test_omega_and_its_slope_equal_a_loop_and_its_differences(name, exponent, x64):
    cell, *arguments = problem(name)
    params, xs, found, start = arguments

    kernel = np.asarray(params.recurrent_kernel)

    def value(params):
        nothing = (params.recurrent_kernel - kernel).sum()  # but its slope, which must not count
        moving = jax.tree.map(lambda a: a + nothing, found)
        return omega(cell, params, xs, moving, start, exponent=exponent)

    got, slope = jax.value_and_grad(value)(params)
    np.testing.assert_allclose(got, in_numpy(name, arguments, exponent, kernel), rtol=1e-12)
    for leaf in slope._replace(recurrent_kernel=None):
        assert leaf is None or (leaf == 0).all()
    rng = np.random.default_rng(4)
    for direction in rng.normal(size=(3, *kernel.shape)):
        ends = (
            in_numpy(name, arguments, exponent, kernel + size * direction)
            for size in (1e-3, -1e-3, 5e-4, -5e-4)
        )
        plus, minus, half_plus, half_minus = ends
        want = (8 * (half_plus - half_minus) - (plus - minus)) / 6e-3  # Richardson's
        np.testing.assert_allclose(np.sum(slope.recurrent_kernel * direction), want, rtol=1e-8)


def linear(init):
    """A linear network, its parameters, inputs, and the adjoints of a loss at the last step."""
    cell = Elman(H, activation_fn=identity, recurrent_kernel_init=init, param_dtype=jnp.float64)
    params, xs = cell.init(KEY, D), jnp.ones((T, B, D))
    return cell, params, xs, adjoints(cell, params, xs, lambda ys: (ys[-1] ** 2).sum())


@pytest.mark.slow
@pytest.mark.parametrize("exponent", [1, 2])
def test_an_orthogonal_linear_network_pays_nothing(exponent, x64):
    arguments = linear(Orthogonal())
    assert omega(*arguments, exponent=exponent) < 1e-28


@pytest.mark.parametrize("gain", [0.3, 1.2])
def test_a_multiple_of_the_identity_pays_the_same_at_every_step(gain, x64):
    arguments = linear(Identity(gain))
    for exponent in (1, 2):
        want = (T - 1) * (gain**exponent - 1) ** 2
        np.testing.assert_allclose(omega(*arguments, exponent=exponent), want, rtol=1e-12)
    np.testing.assert_allclose(omega(*arguments), (T - 1) * (gain - 1) ** 2, rtol=1e-12)


@pytest.mark.slow
def test_what_no_gradient_reaches_counts_nothing_and_dead_units_give_no_nan(x64):
    cell, params, xs, full = linear(Identity(0.3))
    dead = Elman(H, activation_fn=jax.nn.relu, param_dtype=jnp.float64)
    drowned = params._replace(bias=jnp.full(H, -100.0))
    partly = jax.tree.map(lambda a: a.at[4:].set(0).at[:, 1].set(0), full)
    for which, weights, found, want in (
        (dead, drowned, full, T - 1),  # every ratio is zero
        (cell, params, partly, 3 * 0.7**2 / 2),  # three steps of one of two examples
        (cell, params, jax.tree.map(jnp.zeros_like, full), 0),
        (cell, params, jax.tree.map(lambda a: 1e-250 * a, full), (T - 1) * 0.7**2),
    ):
        got, slope = jax.value_and_grad(lambda p, c=which, f=found: omega(c, p, xs, f))(weights)
        np.testing.assert_allclose(got, want, rtol=1e-12)
        assert all(jnp.isfinite(leaf).all() for leaf in slope)
        assert bool((slope.recurrent_kernel != 0).any()) == (0 < want < T - 1)


def test_descent_on_omega_keeps_the_length_of_the_gradient():
    cell = Elman(H, recurrent_kernel_init=Orthogonal(0.5))
    params, xs = cell.init(KEY, D), 0.3 * jax.random.normal(KEY, (T, B, D))

    @jax.jit
    def step(params):
        found = adjoints(cell, params, xs, lambda ys: ys[-1].sum())
        value, slope = jax.value_and_grad(lambda p: omega(cell, p, xs, found))(params)
        lengths = jnp.linalg.norm(found.h, axis=-1)
        return jax.tree.map(lambda p, g: p - 0.05 * g, params, slope), value, lengths

    values = []
    for _ in range(40):
        moved, value, lengths = step(params)
        values.append(float(value))
        if len(values) == 1:
            assert (lengths[0] < 0.02 * lengths[-1]).all()
        params = moved
    assert all(later < value for value, later in itertools.pairwise(values))
    assert values[-1] < 0.1 * values[0]
    assert (lengths[0] > 0.2 * lengths[-1]).all()


@dataclasses.dataclass(frozen=True)
class Leaky(Cell):
    """A user's cell that is not of the gated form."""

    def init(self, key, input_size):
        raise NotImplementedError

    def initial_carry(self, batch_shape):
        return jnp.zeros((*batch_shape, D))

    def project(self, params, x):
        return params * x

    def step(self, params, carry, u):
        return 0.5 * carry + u

    def output(self, carry):
        return carry


def test_wrong_arguments_are_named():
    xs = jnp.ones((T, B, D))
    with pytest.raises(TypeError, match=r"omega needs a gated cell.*got Leaky"):
        omega(Leaky(), jnp.ones(D), xs, xs)
    cell = Elman(H)
    params, found = cell.init(KEY, D), ElmanCarry(jnp.ones((T, B, H)))
    with pytest.raises(ValueError, match="exponent must be 1 or 2, got 3"):
        omega(cell, params, xs, found, exponent=3)
    with pytest.raises(ValueError, match=r"adjoints.h must have shape \(7, 2, 5\), got \(2, 5\)"):
        omega(cell, params, xs, ElmanCarry(jnp.ones((B, H))))
    with pytest.raises(ValueError, match="adjoints must have the structure"):
        omega(cell, params, xs, found.h)


# Flossing.

FLOSSED = {"elman": Elman(H), "lstm": LSTM(3), "gru": GRU(H), "complex": LRU(3)}


def flossing_problem(cell, steps=T):
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: cell.init(KEY, D))
    params = jax.tree.map(lambda s: jnp.asarray(0.6 * rng.normal(size=s.shape)), shapes)
    return params, jnp.asarray(rng.normal(size=(steps, B, D)))


@pytest.mark.slow
@pytest.mark.parametrize("cell", FLOSSED.values(), ids=FLOSSED)
def test_the_gradient_of_flossing_is_its_finite_difference(cell, x64):
    """Through QR and through the trajectory, along a random direction of all parameters."""
    params, xs = flossing_problem(cell)
    target = jnp.array([0.2, 0.1, -0.1])

    @jax.jit
    def value_and_slope(params):
        return jax.value_and_grad(lambda p: flossing(cell, p, xs, 3, target, transient=2))(params)

    rng = np.random.default_rng(1)
    way = jax.tree.map(lambda p: rng.normal(size=p.shape), params)
    slope = sum(
        jax.tree.leaves(
            jax.tree.map(lambda g, d: np.sum(g * d), *(value_and_slope(params)[1], way))
        )
    )

    def at(h):
        return float(value_and_slope(jax.tree.map(lambda p, d: p + h * d, params, way))[0])

    coarse, fine = ((at(h) - at(-h)) / (2 * h) for h in (1e-4, 5e-5))
    assert slope == pytest.approx((4 * fine - coarse) / 3, rel=1e-7)


def test_flossing_of_one_linear_unit_in_closed_form(x64):
    cell = Elman(1, activation_fn=identity, param_dtype=jnp.float64)
    params = jax.tree.map(jnp.ones_like, cell.init(KEY, 1))

    @jax.jit
    @jax.value_and_grad
    def loss(params):
        return flossing(cell, params, jnp.ones((T, 1)), 1, 0.3)

    for a in (0.5, -1.7):
        value, slope = loss(params._replace(recurrent_kernel=jnp.full((1, 1), a)))
        away = np.log(abs(a)) - 0.3
        assert float(value) == pytest.approx(away**2, rel=1e-12)
        assert float(slope.recurrent_kernel[0, 0]) == pytest.approx(2 * away / a, rel=1e-12)
        assert slope.input_kernel == 0 and slope.bias == 0


@pytest.mark.slow
def test_after_flossing_exponents_are_at_their_targets():
    """Also on inputs that it did not see."""
    cell, target = Elman(7), jnp.array([0.1, -0.2])
    params = jax.tree.map(lambda p: 0.7 * p, cell.init(KEY, D))
    optimizer = optax.adam(3e-3)

    @jax.jit
    def update(params, state, key):
        xs = 0.1 * jax.random.normal(key, (50, 3, D))
        value, slope = jax.value_and_grad(lambda p: flossing(cell, p, xs, 2, target, transient=10))(
            params
        )
        change, state = optimizer.update(slope, state)
        return optax.apply_updates(params, change), state, value

    state, values = optimizer.init(params), []
    for key in jax.random.split(KEY, 400):
        params, state, value = update(params, state, key)
        values.append(float(value))
    assert values[0] > 0.03 and np.mean(values[-20:]) < 0.001
    unseen = 0.1 * jax.random.normal(jax.random.key(1), (50, 30, D))
    found = lyapunov_spectrum(cell, params, unseen, 2, transient=10).exponents.mean(0)
    np.testing.assert_allclose(found, target, atol=0.02)


def test_wrong_arguments_of_flossing_are_named():
    cell = Elman(H)
    params, xs = cell.init(KEY, D), jnp.ones((T, B, D))
    with pytest.raises(ValueError, match=r"shape \[num\] = \[3\], got shape \(2,\)"):
        flossing(cell, params, xs, 3, [0.0, 0.1])
    with pytest.raises(ValueError, match=r"num must lie in 1..N = 1..5"):
        flossing(cell, params, xs, 6)
    with pytest.raises(ValueError, match=r"transient .* T = 7 .*, got 7"):
        flossing(cell, params, xs, 2, transient=7)
    with pytest.raises(FloatingPointError, match="not finite after step 3"):
        flossing(cell, params, xs.at[3].set(jnp.inf), 2)
