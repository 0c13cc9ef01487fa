"""`unroll_newton`: Newton's method gives what step by step gives, and says where it does not."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import own_cells
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import relative_error
from paths import everything
from process_memory import bound_memory
from slow import slow_but_for

import rnnjax
from rnnjax import GRU, LSTM, Elman, initializers, training
from rnnjax.cells import LayerNorm, MinGRU, Zoneout
from rnnjax.recurrence import block_scan
from rnnjax.recurrence.blocks import exact_blocks
from rnnjax.testing import python_loop
from rnnjax.testing.problems import wide

D, H, T, B = 3, 4, 7, 2
KEY = jax.random.key(0)
CELLS: dict[str, Any] = {
    "elman": Elman(H),
    "lstm": LSTM(H),
    "gru": GRU(H),
    "IndRNN": own_cells.CELLS["IndRNN"],
    "coRNN": own_cells.CELLS["coRNN"],
    "LRU": own_cells.CELLS["LRU"],
    "minGRU": MinGRU(H),
    "wrapped": Zoneout(LayerNorm(Elman(H)), 0.3),
}
RESETS = np.array([[0, 1, 0, 0, 1, 0, 0], [0, 0, 0, 1, 0, 0, 1]], bool).T
MASK = np.array([[0, 1, 1, 0, 0, 1, 1], [1, 0, 1, 1, 1, 0, 1]], bool).T
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "diagonal": {"jacobian": "diagonal"},
    "reverse": {"reverse": True, "seq_lengths": np.array([5, 0])},
    "chunks": {"checkpoint_every": 3},
    "everything": {
        "seq_lengths": np.array([7, 4]),
        "mask": MASK,
        "masked_output": 0.5,
        "resets": RESETS,
        "reverse": True,
        "truncate_every": 2,
        "checkpoint_every": "sqrt",
    },
}
NOT_IN_THE_LOOP = {"checkpoint_every", "jacobian"}
PAIRS = slow_but_for(
    ["elman plain"],
    {f"elman {option}": ("elman", option) for option in OPTIONS}
    | {f"{name} everything": (name, "everything") for name in CELLS}
    | {f"{name} diagonal": (name, "diagonal") for name in ("lstm", "IndRNN", "coRNN", "LRU")},
)


@pytest.mark.parametrize("pair", PAIRS)
def test_every_option_is_that_of_a_python_loop(pair, x64):
    name, option = pair
    cell, params, xs, carry = wide(CELLS[name], D, KEY)
    options = OPTIONS[option]
    loop = {k: v for k, v in options.items() if k not in NOT_IN_THE_LOOP}
    want = everything(functools.partial(python_loop, cell, **loop), params, xs, carry)

    def run(*arguments):
        marks = {"return_carries": True, "tolerance": 1e-12}
        return rnnjax.unroll_newton(cell, *arguments, **marks, **options)[:-1]

    got = jax.jit(functools.partial(everything, run))(params, xs, carry)
    assert relative_error(got, want) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("name", ["elman", "lstm", "LRU"])
def test_perturbations_and_probes_are_those_of_unroll(name, x64):
    cell, params, xs, carry = wide(CELLS[name], D, KEY)
    moves = jax.tree.map(
        lambda c: 0.1 * jnp.cos(jnp.arange(T * c.size)).reshape(T, *c.shape).astype(c.dtype), carry
    )

    def run(unroll, moves, probe, carry):
        marks = {"perturbations": moves, "norm_probe": probe, "resets": RESETS}
        return unroll(cell, params, xs, carry, **marks)[:2]

    newton = functools.partial(rnnjax.unroll_newton, tolerance=1e-13)
    got, want = (
        jax.jit(functools.partial(everything, functools.partial(run, unroll)))(
            moves, jnp.zeros((T, B)), carry
        )
        for unroll in (newton, rnnjax.unroll)
    )
    assert relative_error(got, want) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("jacobian", ["dense", "diagonal"])
def test_forward_mode_and_second_derivatives(jacobian, x64):
    cell, params, xs, carry = wide(Elman(2), 1, KEY)
    newton = functools.partial(rnnjax.unroll_newton, tolerance=1e-13, jacobian=jacobian)

    def loss(unroll, params):
        return (unroll(cell, params, xs[:4, :, :1], carry)[1] ** 2).sum()

    direction = jax.tree.map(jnp.cos, params)
    found = jax.jvp(functools.partial(loss, newton), (params,), (direction,))
    want = jax.jvp(functools.partial(loss, rnnjax.unroll), (params,), (direction,))
    assert relative_error(found, want) < 1e-10
    found, want = (
        jax.jit(jax.hessian(functools.partial(loss, run)))(params)
        for run in (newton, rnnjax.unroll)
    )
    assert relative_error(found, want) < 1e-9


def network(gain, total, size=8, batch=2):
    cell = Elman(size, recurrent_kernel_init=initializers.Orthogonal(gain))
    params = jax.tree.map(lambda p: p.astype(jnp.result_type(float)), cell.init(KEY, 1))
    xs = jnp.sin(0.3 * jnp.arange(total)[:, None, None] + jnp.arange(batch)[:, None])
    return cell, params, 0.3 * xs


@pytest.mark.parametrize("gain", slow_but_for("1.5", {"0.5": 0.5, "1.5": 1.5, "3": 3.0}))
def test_exact_newton_needs_at_most_as_many_iterations_as_steps(gain, x64):
    """Also where the network is chaotic, and each iteration leaves its guess far away."""
    cell, params, xs = network(gain, 40)
    _, ys, report = rnnjax.unroll_newton(cell, params, xs, tolerance=1e-13, max_iterations=40)
    assert report.converged.all() and (report.iterations <= 40).all()
    np.testing.assert_allclose(ys, rnnjax.unroll(cell, params, xs)[1], atol=1e-8)
    if gain == 0.5:
        assert (report.iterations <= 6).all()


@pytest.mark.slow
@settings(max_examples=8)
@given(
    gain=st.sampled_from([0.3, 1.2, 2.5, 6.0]),
    jacobian=st.sampled_from(["dense", "diagonal"]),
    damping=st.sampled_from([0.0, 0.5]),
    most=st.sampled_from([1, 4, 30]),
    seed=st.integers(0, 9),
)
def test_what_it_calls_converged_is_right(gain, jacobian, damping, most, seed):
    """The report's residual is that of what is returned; a small one means the right states."""
    with jax.enable_x64(True):
        cell, params, xs = network(gain, 24)
        xs = xs + jax.random.normal(jax.random.key(seed), xs.shape)
        options = {"jacobian": jacobian, "damping": damping, "max_iterations": most}
        _, ys, states, report = rnnjax.unroll_newton(
            cell, params, xs, tolerance=1e-9, return_carries=True, **options
        )
        assert np.isfinite(ys).all()
        entering = np.concatenate([np.zeros_like(states.h[:1]), states.h[:-1]])
        pre = entering @ params.recurrent_kernel + xs @ params.input_kernel + params.bias
        after = np.tanh(pre)
        residual = np.abs(after - states.h).max((0, 2)) / np.abs(after).max((0, 2))
        np.testing.assert_allclose(report.residual, residual, rtol=1e-6, atol=1e-15)
        np.testing.assert_array_equal(report.converged, residual <= 1e-9)
        assert (report.iterations <= most).all()
        if report.converged.all() and gain < 1:
            np.testing.assert_allclose(ys, rnnjax.unroll(cell, params, xs)[1], atol=1e-7)
        bound_memory()


@pytest.mark.slow
def test_float32_products_that_overflow_do_not_hide_the_solution():
    """At gain 6 products of Jacobians pass 1e38; the first k states stay right after k steps."""
    cell, params, xs = network(6.0, 200)
    _, ys, report = rnnjax.unroll_newton(cell, params, xs, max_iterations=30)
    assert not report.converged.any() and np.isfinite(ys).all() and (report.residual > 1e-6).all()
    want = rnnjax.unroll(cell, params, xs)[1]
    np.testing.assert_allclose(ys[:10], want[:10], atol=1e-4)


@pytest.mark.slow
def test_a_warm_start_needs_fewer_iterations(x64):
    cell, params, xs = network(1.2, 50)
    run = functools.partial(rnnjax.unroll_newton, cell, tolerance=1e-10, return_carries=True)
    _, _, states, cold = run(params, xs)
    assert (run(params, xs, guess=states)[-1].iterations == 0).all()
    near = jax.tree.map(lambda p: p + 1e-4 * jnp.cos(p), params)
    warm = run(near, xs, guess=states)[-1]
    assert warm.converged.all() and (warm.iterations < cold.iterations).all()


@pytest.mark.slow
def test_an_example_does_not_depend_on_the_others(x64):
    cell, params, xs = network(1.2, 30, batch=3)
    together = rnnjax.unroll_newton(cell, params, xs)
    for i in range(3):
        alone = rnnjax.unroll_newton(cell, params, xs[:, i])
        assert int(alone[-1].iterations) == int(together[-1].iterations[i])
        np.testing.assert_allclose(alone[1], together[1][:, i], atol=1e-12)


def kind(cell):
    params, xs = cell.init(KEY, D), jnp.ones((T, B, D))
    ready, carry = cell.prepare(params), cell.initial_carry((T, B))
    us = cell.project(ready, xs)

    def step(leaves):
        carry = jax.tree.structure(cell.initial_carry(())).unflatten(leaves)
        return jax.tree.leaves(cell.step(ready, carry, us))

    return exact_blocks(step, jax.tree.leaves(carry), 2).kind


@pytest.mark.slow
def test_cells_of_single_units_have_small_blocks():
    for name in ("IndRNN", "minGRU", "LRU"):
        assert kind(CELLS[name]) == "units"
    for name in ("elman", "lstm", "gru", "wrapped", "coRNN"):
        assert kind(CELLS[name]) == "dense"
    assert kind(LayerNorm(CELLS["IndRNN"])) == "dense"


def recurrence(k, total=12):
    first, second = jax.random.split(KEY)
    a = 0.9 * jax.random.normal(first, (total, B, 3, k, k), jnp.float64)
    return a, jax.random.normal(second, (total, B, 3, k), jnp.float64)


@pytest.mark.parametrize("k", [1, 2])
def test_block_recurrences_are_loops(k, x64):
    a, b = map(np.asarray, recurrence(k))
    x, want = np.zeros_like(b[0]), []
    for a_t, b_t in zip(a, b, strict=True):
        x = np.einsum("...ij,...j->...i", a_t, x) + b_t
        want.append(x)
    np.testing.assert_allclose(jax.jit(block_scan.solve)(a, b), want, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("damping", [1e-3, 2.0])
@pytest.mark.parametrize("k", [1, 2])
def test_damped_recurrences_are_least_squares(k, damping, x64):
    a, b = map(np.asarray, recurrence(k))
    got = np.asarray(jax.jit(block_scan.solve_damped)(a, b, damping))
    total = len(a)
    for example in np.ndindex(B, 3):
        system = np.eye(total * k)
        for t in range(1, total):
            rows, columns = slice(t * k, t * k + k), slice(t * k - k, t * k)
            system[rows, columns] = -a[(t, *example)]
        full = np.concatenate([system, np.sqrt(damping) * np.eye(total * k)])
        right = np.concatenate([b[(slice(None), *example)].ravel(), np.zeros(total * k)])
        want = np.linalg.lstsq(full, right, rcond=None)[0].reshape(total, k)
        np.testing.assert_allclose(got[(slice(None), *example)], want, rtol=1e-8, atol=1e-10)


@pytest.mark.slow
def test_damped_changes_stay_bounded_where_products_overflow():
    a, b = jnp.full((60, 1, 1, 1), 8.0), jnp.ones((60, 1, 1))  # 8^60 > 1e38
    assert not jnp.isfinite(jax.jit(block_scan.solve)(a, b)).all()
    x = jax.jit(block_scan.solve_damped)(a, b, 0.5)
    assert float(jnp.linalg.norm(x)) <= float(jnp.linalg.norm(b)) / np.sqrt(0.5)


@pytest.mark.slow
def test_the_only_loop_is_that_of_the_iterations():
    for cell, jacobian in ((Elman(H), "dense"), (CELLS["IndRNN"], "diagonal")):
        params, xs = cell.init(KEY, D), jnp.ones((64, B, D))

        def loss(params, cell=cell, xs=xs, jacobian=jacobian):
            return rnnjax.unroll_newton(cell, params, xs, jacobian=jacobian)[1].sum()

        text = jax.jit(jax.grad(loss)).lower(params).as_text()
        assert text.count("stablehlo.while") == 1


@pytest.mark.slow
def test_no_steps_and_no_batch():
    cell = GRU(H)
    params = cell.init(KEY, D)
    final, ys, report = rnnjax.unroll_newton(cell, params, jnp.zeros((0, B, D)))
    assert ys.shape == (0, B, H) and not final.h.any()
    assert report.converged.all() and report.iterations.shape == (B,)
    xs = jax.random.normal(KEY, (T, D))
    _, ys, report = rnnjax.unroll_newton(cell, params, xs)
    assert report.converged.shape == ()
    assert relative_error(ys, rnnjax.unroll(cell, params, xs)[1]) < 1e-5


@pytest.mark.slow
def test_a_split_batch_is_the_whole_one(x64):
    cell, params, _, _ = wide(GRU(H), D, KEY)
    xs = jax.random.normal(KEY, (T, 16, D), jnp.float64)
    run = functools.partial(rnnjax.unroll_newton, cell, return_carries=True)
    want = run(params, xs)
    with jax.set_mesh(training.batch_mesh()):
        got = jax.jit(run)(params, xs)
    assert relative_error(jax.device_get(got[:3]), jax.device_get(want[:3])) < 1e-12
    np.testing.assert_array_equal(got[3].iterations, want[3].iterations)


def test_what_is_refused(without_type_checks):
    cell = Elman(H)
    params, xs = cell.init(KEY, D), jnp.ones((T, B, D))
    for options, message in (
        ({"tolerance": 0}, "tolerance must be a positive number, got 0"),
        ({"damping": -1.0}, "damping must be a number, at least 0, got -1.0"),
        ({"jacobian": "full"}, 'jacobian must be "dense" or "diagonal", got \'full\''),
        ({"max_iterations": 0}, "max_iterations must be a positive integer, got 0"),
        ({"guess": cell.initial_carry((B,))}, "guess"),
    ):
        with pytest.raises(ValueError, match=message):
            rnnjax.unroll_newton(cell, params, xs, **options)
    cell = own_cells.CELLS["counting"]
    with pytest.raises(TypeError, match="needs a carry of floating or complex leaves.*int32"):
        rnnjax.unroll_newton(cell, cell.init(KEY, D), xs)
