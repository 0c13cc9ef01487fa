"""Gradients forward in time, against back-propagation, brute force and what methods leave out."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree
from oracles import relative_error
from slow import slow_but_for

import rnnjax
from rnnjax import LSTM, Elman, diagnostics, networks, online
from rnnjax.cells import LRU, Rate
from rnnjax.online import RFLO, RTRL, UORO, EProp, SnAp, Truncated, local
from rnnjax.online.base import Example, flat_step
from rnnjax.online.influence import jacobians
from rnnjax.testing.problems import wide

T, B, D, H = 7, 2, 3, 4
KEY = jax.random.key(0)


def loss(y, t):
    weights = jnp.cos(jnp.arange(y.size).reshape(y.shape) + t)
    return jnp.sum(jnp.sin(y) * weights)


def problem(name):
    return wide(networks.make_cell(name, H), D, KEY)


def back_propagated(cell, params, xs, carry, run=rnnjax.unroll, **options):
    def total(params):
        ys = run(cell, params, xs, carry, **options)[1]
        return sum(loss(y, t) for t, y in enumerate(ys))

    return jax.grad(total)(params)


def found(method, cell, params, xs, carry, loss=loss, **options):
    run = functools.partial(online.gradient, method, cell, loss=loss, **options)
    return jax.jit(lambda params, xs, carry: run(params, xs, initial_carry=carry))(
        params, xs, carry
    )


@pytest.mark.parametrize("name", slow_but_for(["lru", "gru"], [*networks.NAMED_CELLS]))
def test_rtrl_is_back_propagation(name, x64):
    cell, params, xs, carry = problem(name)
    want = back_propagated(cell, params, xs, carry)
    got, final = found(RTRL(), cell, params, xs, carry)
    assert relative_error(got, want) < 1e-10
    assert relative_error(final, rnnjax.unroll(cell, params, xs, carry)[0]) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lstm", "lru"])
def test_the_definition_gives_the_same(name, x64):
    cell, params, xs, carry = problem(name)
    want = back_propagated(cell, params, xs, carry)
    assert relative_error(found(RTRL("dense"), cell, params, xs, carry)[0], want) < 1e-10


@pytest.mark.parametrize("name", slow_but_for("indrnn", ["indrnn", "gru"]))
def test_a_reset_begins_again(name, x64):
    cell, params, xs, carry = problem(name)
    resets = np.zeros((T, B), bool)
    resets[[0, 4], [1, 0]] = resets[2] = True
    want = back_propagated(cell, params, xs, carry, resets=resets)
    for method in (RTRL(), Truncated(T)):
        got = found(method, cell, params, xs, carry, resets=resets)[0]
        assert relative_error(got, want) < 1e-10


def test_the_weight_of_a_step_scales_what_it_adds(x64):
    """The gradient is linear in the weights, with the exact parts of the steps as coefficients."""
    cell, params, xs, carry = problem("gru")
    method, weights = RTRL(), jnp.linspace(-1.0, 2.0, T)

    def at_the_end(ys):
        return loss(ys[-1], T - 1)

    def run(now, step):
        return method.step(cell, params, *now, *step), None

    traces = method.init(cell, params, carry, xs[0])
    (final, traces), _ = jax.lax.scan(run, (carry, traces), (xs, weights))
    slope = jax.grad(lambda s: loss(cell.output(s), T - 1))(final)
    found = method.gradient(cell, params, final, traces, xs[0], slope)
    parts = diagnostics.parameter_gradient_by_lag(cell, params, xs, at_the_end, carry)
    want = jax.tree.map(lambda g: jnp.tensordot(weights, g, 1), parts)
    assert relative_error(found, want) < 1e-10
    assert relative_error(final, rnnjax.unroll(cell, params, xs, carry)[0]) < 1e-12


def test_narrow_parameters_have_narrow_traces_where_64_bit_types_are_on(x64):
    cell = Elman(H)
    params, xs = cell.init(KEY, D), jax.random.normal(KEY, (T, B, D), jnp.float32)
    gradient, _ = found(SnAp(1), cell, params, xs, None)
    assert {leaf.dtype for leaf in gradient} == {jnp.dtype("float32")}


@pytest.mark.slow
@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.data())
def test_any_length_batch_and_resets(data):
    name = data.draw(st.sampled_from(["elman", "lstm", "indrnn", "lru", "mlstm"]))
    total = data.draw(st.integers(0, 9))
    batch = data.draw(st.sampled_from([(), (1,), (3,), (2, 2)]))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    resets = rng.random((total, *batch)) < data.draw(st.sampled_from([0.0, 0.3, 1.0]))
    with jax.enable_x64(True):
        cell = dataclasses.replace(networks.make_cell(name, H), param_dtype=jnp.float64)
        params = cell.init(KEY, D)
        xs = jnp.asarray(rng.normal(size=(total, *batch, D)))
        want = jax.tree.map(jnp.zeros_like, params)
        if total:
            want = back_propagated(cell, params, xs, None, resets=resets)
        got = found(RTRL(), cell, params, xs, None, resets=resets)[0]
        assert relative_error(got, want) < 1e-10


@pytest.mark.parametrize("name", slow_but_for("lru", ["lru", "indrnn", "mingru", "rglru"]))
def test_snap_1_is_exact_where_units_see_only_themselves(name, x64):
    cell, params, xs, carry = problem(name)
    want = back_propagated(cell, params, xs, carry)
    assert relative_error(found(SnAp(1), cell, params, xs, carry)[0], want) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("name", ["elman", "lstm"])
def test_snap_of_a_full_mask_is_rtrl(name, x64):
    cell, params, xs, carry = problem(name)
    want = found(RTRL(), cell, params, xs, carry)[0]
    assert (
        relative_error(found(SnAp(2 if name == "elman" else 3), cell, params, xs, carry)[0], want)
        < 1e-10
    )


def masked_rtrl(cell, params, xs, carry, mask):
    """P' = mask * (J P + df/dtheta), by jax.jacobian in a Python loop, one example at a time."""
    flat, back = ravel_pytree(params)
    total = 0
    for b in range(B):
        s, whole = ravel_pytree(jax.tree.map(lambda c, b=b: c[b], carry))
        jacobian = np.zeros((len(s), len(flat)))

        def step(theta, s, x, whole=whole):
            ready = cell.prepare(back(theta))
            return ravel_pytree(cell.step(ready, whole(s), cell.project(ready, x)))[0]

        def score(s, t, b=b, whole=whole):
            weights = jnp.cos(jnp.arange(B * H).reshape(B, H)[b] + t)
            return jnp.sum(jnp.sin(cell.output(whole(s))) * weights)

        for t in range(T):
            of_theta, of_s = jax.jacobian(step, (0, 1))(flat, s, xs[t, b])
            jacobian = mask * (of_s @ jacobian + of_theta)
            s = step(flat, s, xs[t, b])
            total = total + jax.grad(score)(s, t) @ jacobian
    return back(total)


def own_unit(cell, params):
    """The mask of SnAp-1 for a cell whose parameters end in gate blocks of H."""
    units = [np.broadcast_to(np.arange(leaf.shape[-1]) % H, leaf.shape).ravel() for leaf in params]
    states = len(jax.tree.leaves(cell.initial_carry(())))
    return np.tile(np.arange(H), states)[:, None] == np.concatenate(units)[None]


@pytest.mark.parametrize("name", slow_but_for("lstm", ["lstm", "elman", "gru"]))
def test_snap_1_keeps_the_entries_of_a_parameters_own_unit(name, x64):
    cell, params, xs, carry = problem(name)
    want = masked_rtrl(cell, params, xs, carry, own_unit(cell, params))
    assert relative_error(found(SnAp(1), cell, params, xs, carry)[0], want) < 1e-10


def cut(cell, params, xs, carry):
    """A Python loop in which no gradient passes through the recurrent product to the state."""
    ready, ys = cell.prepare(params), []
    for x in xs:
        u = cell.project(ready, x)
        v = cell.recur(ready, jax.lax.stop_gradient(carry), u)
        carry = cell.next_carry(cell.elementwise(ready), carry, u, v)
        ys.append(cell.output(carry))
    return carry, jnp.stack(ys)


@pytest.mark.parametrize("name", slow_but_for("lstm", ["lstm", "elman", "gru", "rate"]))
def test_e_prop_is_back_propagation_with_the_recurrent_path_cut(name, x64):
    cell, params, xs, carry = problem(name)
    want = back_propagated(cell, params, xs, carry, run=cut)
    assert relative_error(found(EProp(), cell, params, xs, carry)[0], want) < 1e-10


@pytest.mark.parametrize("alpha", [0.2, pytest.param(1.0, marks=pytest.mark.slow)])
def test_rflo_is_that_of_a_rate_network(alpha, x64):
    cell = Rate(H, dt=alpha * 100, tau=100.0, param_dtype=jnp.float64)
    cell, params, xs, carry = wide(cell, D, KEY)
    want = back_propagated(cell, params, xs, carry, run=cut)
    got = found(RFLO(1 - alpha), cell, params, xs, carry)[0]
    assert relative_error(got, want) < 1e-10


@pytest.mark.parametrize("k", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_truncated_back_propagation_is_exact_up_to_its_lag(k, x64):
    cell, params, xs, carry = problem("lstm")

    def at_the_end(y, t):
        return (t == T - 1) * loss(y, t)

    parts = diagnostics.parameter_gradient_by_lag(
        cell, params, xs, lambda ys: loss(ys[-1], T - 1), carry
    )
    want = jax.tree.map(lambda g: g[T - k :].sum(0), parts)
    got = found(Truncated(k), cell, params, xs, carry, loss=at_the_end)[0]
    assert relative_error(got, want) < 1e-10


@pytest.mark.slow
def test_the_mean_of_uoro_is_rtrl(x64):
    """20,000 draws: every entry within four standard errors, and their squares as many
    as there are."""
    cell, params, xs, carry = problem("elman")
    params, xs, carry = params, xs[:4, :1], jax.tree.map(lambda c: c[:1], carry)
    want = ravel_pytree(back_propagated(cell, params, xs, carry))[0]

    @jax.jit
    def draw(keys):
        run = functools.partial(online.gradient, UORO(), cell, params, xs, loss, carry)
        return jax.vmap(lambda key: ravel_pytree(run(key=key)[0])[0])(keys)

    draws = np.concatenate([draw(keys) for keys in jax.random.split(KEY, (10, 2000))])
    error = (draws.mean(0) - want) / (draws.std(0) / np.sqrt(len(draws)))
    assert np.abs(error).max() < 4 and 0.5 < np.mean(error**2) < 1.6


def test_memory_does_not_grow_with_the_sequence():
    cell = LRU(8)
    params = cell.init(KEY, D)

    def temporaries(total):
        xs = jax.ShapeDtypeStruct((total, B, D), jnp.float32)
        run = jax.jit(lambda params, xs: online.gradient(RTRL(), cell, params, xs, loss)[0])
        return run.lower(params, xs).compile().memory_analysis().temp_size_in_bytes

    assert temporaries(1000) == temporaries(1_000_000) < 100_000


def test_random_feedback(x64):
    x, kernel, feedback = (
        jax.random.normal(key, shape, jnp.float64)
        for key, shape in zip(jax.random.split(KEY, 3), ((B, H), (H, D), (D, H)), strict=True)
    )
    slope = jnp.cos(jnp.arange(B * D).reshape(B, D))
    y, pull = jax.vjp(online.random_feedback, x, kernel, feedback)
    np.testing.assert_array_equal(y, x @ kernel)
    for got, want in zip(pull(slope), (slope @ feedback, x.T @ slope, 0 * feedback), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12)


@dataclasses.dataclass(frozen=True)
class Mixing(Elman):
    """Its bias enters every unit."""

    def gates(self, params, carry, u, v):
        (s,) = jax.tree.leaves(super().gates(params, carry, u, v))
        return type(carry)(s - s.mean(-1, keepdims=True))


def test_what_a_method_cannot_serve():
    xs = jnp.ones((T, B, D))
    for method in (RFLO(0.5), EProp()):
        for cell, what in (
            (Mixing(H), "parameters that each enter the state of one unit"),
            (networks.make_cell("deltanet", H), "one number for each unit"),
        ):
            params = cell.init(KEY, D)
            with pytest.raises(TypeError, match=f"{type(method).__name__} cannot serve .*{what}"):
                online.gradient(method, cell, params, xs, loss)
    cell = LSTM(H)
    with pytest.raises(ValueError, match="UORO draws random signs: give a key"):
        online.gradient(UORO(), cell, cell.init(KEY, D), xs, loss)
    with pytest.raises(ValueError, match="n must be a positive integer, got 0"):
        SnAp(0)
    with pytest.raises(ValueError, match="k must be a positive integer, got 0"):
        Truncated(0)
    with pytest.raises(ValueError, match=r"decay must be from 0 to 1, got 1\.5"):
        RFLO(1.5)


@pytest.mark.usefixtures("without_type_checks")
def test_structures_are_named():
    with pytest.raises(ValueError, match="structure must be auto or dense, got 'sparse'"):
        RTRL("sparse")  # pyright: ignore


@pytest.mark.parametrize("name", ["lstm", "lru"])
def test_the_sparse_derivative_has_the_entries_of_the_dense_one(name, x64):
    cell, params, xs, carry = problem(name)
    example = Example(params, jax.tree.map(lambda c: c[0], carry), xs[0, 0], 0.5)
    step = flat_step(cell, example)
    got = local.spread(cell, example, local.immediate(cell, example, step))
    assert relative_error(got.T, jacobians(step)[0]) < 1e-12


METHODS = "RTRL", "SnAp", "UORO", "RFLO", "EProp", "Truncated"
SERVED = "elman", "lstm", "gru", "rate", "lru"  # by all of them
GIVEN = {"SnAp": (1,), "RFLO": (0.5,), "Truncated": (3,)}


@pytest.mark.slow
@pytest.mark.parametrize("name", networks.NAMED_CELLS)
def test_a_method_serves_a_cell_or_says_what_it_needs(name):
    cell = networks.make_cell(name, H)
    params, xs = cell.init(KEY, D), jnp.ones((T, B, D))
    for kind in METHODS:
        method = getattr(online, kind)(*GIVEN.get(kind, ()))
        try:
            found = jax.eval_shape(
                functools.partial(online.gradient, method, cell, loss=loss, key=KEY), params, xs
            )[0]
        except TypeError as error:
            said = f"{kind} cannot serve {type(cell).__name__}: it needs "
            assert str(error).startswith(said) and "\n" not in str(error)
            assert name not in SERVED and kind in ("RFLO", "EProp")
        else:
            assert jax.tree.map(jnp.shape, found) == jax.tree.map(jnp.shape, params)
