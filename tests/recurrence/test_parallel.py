"""`unroll_parallel`: a scan over time gives what step by step gives, values and gradients."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import relative_error
from paths import everything
from slow import slow_but_for

import rnnjax
from rnnjax import LSTM, Linear, diagnostics, training
from rnnjax.cells import LRU, MLSTM, RGLRU, S5, LinearAttention, MinGRU, MinLSTM
from rnnjax.recurrence.linear_scan import AT_ONCE, STEP_BY_STEP, linear_scan
from rnnjax.testing import check_cell, python_loop
from rnnjax.testing.problems import wide

D, H, T, B = 3, 4, 7, 2
KEY = jax.random.key(0)


class Carry(NamedTuple):
    z: Any  # complex [*batch, H]
    memory: Any  # [*batch, 2, H, 3], two heads


@dataclasses.dataclass(frozen=True)
class Heads(Linear):
    """A complex diagonal state with constant factors, and matrices with one factor a head."""

    features: int

    def init(self, key, input_size):
        keys = jax.random.split(key, 5)
        widths = self.features, 2, 2 * self.features, 6, self.features
        return [
            jax.random.normal(k, (input_size, n)) / 2 for k, n in zip(keys, widths, strict=True)
        ]

    def prepare(self, params):
        rates = jnp.exp(-jnp.abs(params[0].sum(0)) + 1j * params[4].sum(0))
        return rates, params

    def initial_carry(self, batch_shape):
        shape = (*batch_shape, self.features)
        return Carry(
            jnp.zeros(shape, jnp.complex64), jnp.zeros((*batch_shape, 2, self.features, 3))
        )

    def coefficients(self, ready, x):
        rates, (w, decay, keys, values, u) = ready
        key = (x @ keys).reshape(*x.shape[:-1], 2, self.features, 1)
        value = (x @ values).reshape(*x.shape[:-1], 2, 1, 3)
        a = Carry(rates, jax.nn.sigmoid(x @ decay)[..., None, None])
        return a, Carry(jax.lax.complex(x @ w, x @ u), key * value)

    def output(self, carry):
        flat = carry.memory.reshape(*carry.z.shape[:-1], -1)
        return jnp.concatenate([carry.z.real, carry.z.imag, flat], axis=-1)


CELLS: dict[str, Linear] = {
    "minGRU": MinGRU(H),
    "heads": Heads(H),
    "LRU": LRU(H),
    "S5": S5(H),
    "minLSTM": MinLSTM(H),
    "RG-LRU": RGLRU(H, num_heads=2),
    "linear attention": LinearAttention(H, num_heads=2, key_size=3, decay="vector"),
    "mLSTM": MLSTM(H, num_heads=2, key_size=3),
}
LENGTHS = np.array([5, 0])
RESETS = np.array([[0, 1, 0, 0, 1, 0, 0], [0, 0, 0, 1, 0, 0, 1]], bool).T
MASK = np.array([[0, 1, 1, 0, 0, 1, 1], [1, 0, 1, 1, 1, 0, 1]], bool).T
OPTIONS: dict[str, dict[str, Any]] = {
    "lengths": {"seq_lengths": LENGTHS},
    "reverse": {"reverse": True, "seq_lengths": LENGTHS},
    "mask": {"mask": MASK, "masked_output": "last"},
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
NOT_IN_THE_LOOP = {"checkpoint_every"}


CASES = slow_but_for(  # every option of a cell that has all forms of state, and every cell
    ["minGRU everything"],
    {f"heads {option}": ("heads", option) for option in OPTIONS}
    | {f"{name} everything": (name, "everything") for name in CELLS},
)


@pytest.mark.parametrize("case", CASES)
def test_every_option_is_that_of_a_python_loop(case, x64):
    name, option = case
    cell, params, xs, carry = wide(CELLS[name], D, KEY)
    options = OPTIONS[option]
    loop = {k: v for k, v in options.items() if k not in NOT_IN_THE_LOOP}
    want = everything(functools.partial(python_loop, cell, **loop), params, xs, carry)
    run = functools.partial(rnnjax.unroll_parallel, cell, return_carries=True, **options)
    got = jax.jit(functools.partial(everything, run))(params, xs, carry)
    assert relative_error(got, want) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, OPTIONS["everything"]], ids=["plain", "resets"])
@pytest.mark.parametrize("name", ["heads", "minGRU"])
def test_perturbations_and_probes_are_those_of_unroll(name, options, x64):
    cell, params, xs, carry = wide(CELLS[name], D, KEY)
    moves = jax.tree.map(
        lambda c: 0.1 * jnp.cos(jnp.arange(T * c.size)).reshape(T, *c.shape).astype(c.dtype), carry
    )
    probe = jnp.zeros((T, B))

    def run(unroll, moves, probe, carry):
        found = unroll(cell, params, xs, carry, perturbations=moves, norm_probe=probe, **options)
        return found

    got, want = (
        jax.jit(functools.partial(everything, functools.partial(run, unroll)))(moves, probe, carry)
        for unroll in (rnnjax.unroll_parallel, rnnjax.unroll)
    )
    assert relative_error(got, want) < 1e-10


@pytest.mark.slow
def test_forward_mode_and_second_derivatives(x64):
    cell, params, xs, carry = wide(MinGRU(2), 1, KEY)

    def loss(unroll, params):
        return (unroll(cell, params, xs[:4, :, :1], carry)[1] ** 2).sum()

    direction = jax.tree.map(jnp.cos, params)
    for unroll in (rnnjax.unroll_parallel,):
        found = jax.jvp(functools.partial(loss, unroll), (params,), (direction,))
        want = jax.jvp(functools.partial(loss, rnnjax.unroll), (params,), (direction,))
        assert relative_error(found, want) < 1e-12
        found, want = (
            jax.jit(jax.hessian(functools.partial(loss, run)))(params)
            for run in (unroll, rnnjax.unroll)
        )
        assert relative_error(found, want) < 1e-10


def in_float64(a, b, start, weights):
    """Return s_t of s_t = a_t s_{t-1} + b_t, and the slopes of Re sum(conj(w) s), in NumPy."""
    kind = np.complex128 if np.iscomplexobj(b) else np.float64
    a, b, start, weights = (np.asarray(x, kind) for x in (a, b, start, weights))
    states = np.zeros_like(b)
    for t in range(len(b)):
        states[t] = a[t] * (states[t - 1] if t else start) + b[t]
    by_term = np.zeros_like(b)
    for t in reversed(range(len(b))):
        later = np.conj(a[t + 1]) * by_term[t + 1] if t + 1 < len(b) else 0
        by_term[t] = weights[t] + later
    by_factor = by_term * np.conj(np.concatenate([start[None], states[:-1]]))
    slopes = by_factor, by_term, np.conj(a[0]) * by_term[0]
    return states, [np.conj(slope) for slope in slopes]  # as JAX has them: dL/dx - i dL/dy


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "way"),
    [(name, STEP_BY_STEP) for name in CELLS] + [("minGRU", AT_ONCE), ("LRU", AT_ONCE)],
    ids=[*CELLS, "minGRU at once", "LRU at once"],
)
def test_ten_thousand_steps_in_float32(name, way):
    cell, total = CELLS[name], 10_000
    params, xs = cell.init(KEY, D), jax.random.normal(KEY, (total, 1, D))
    of_state = [jax.tree.leaves(c) for c in cell.coefficients(cell.prepare(params), xs)]
    for a, b in zip(*of_state, strict=True):
        if isinstance(a, float):
            continue  # what has no past
        a = jnp.broadcast_to(a.astype(b.dtype), b.shape)
        start = jax.random.normal(KEY, b.shape[1:], b.dtype)
        weights = jax.random.normal(jax.random.key(1), b.shape, b.dtype)

        def loss(a, b, start, weights=weights):
            s = linear_scan(a, b, start, False, way, own_backward=True)
            return jnp.sum(jnp.conj(weights) * s).real, s

        slopes, states = jax.jit(jax.grad(loss, (0, 1, 2), has_aux=True))(a, b, start)
        want = in_float64(a, b, start, weights)
        for got, expected in zip((states, *slopes), (want[0], *want[1]), strict=True):
            assert abs(np.asarray(got) - expected).max() < 1e-4 * abs(expected).max()


@pytest.mark.parametrize(("platform", "loops"), [("cuda", False), ("cpu", True)])
def test_only_a_cpu_has_a_loop_over_time(platform, loops):
    cell = Heads(H)
    params, xs = cell.init(KEY, D), jnp.ones((64, B, D))
    traced = jax.jit(jax.grad(lambda p: rnnjax.unroll_parallel(cell, p, xs)[1].sum())).trace(params)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert ("while" in text) == loops


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("kind", ["real", "complex", "one factor"])
def test_an_associative_scan_is_a_python_loop(kind, reverse, x64):
    """What accelerators run, and its gradient, which a CPU does not run in other tests."""

    def draw(key, shape):
        parts = jax.random.normal(key, (2, *shape))
        return jax.lax.complex(*parts) if kind == "complex" else parts[0]

    keys = jax.random.split(KEY, 4)
    a, b, w = (draw(k, (T, B, H)) for k in keys[:3])
    a, start = a[:, :1] if kind == "one factor" else a, draw(keys[3], (B, H))

    def loop(a, b, s):
        found, order = [], range(T)
        for t in reversed(order) if reverse else order:
            s = a[t] * s + b[t]
            found.append(s)
        return jnp.stack(found[::-1] if reverse else found)

    def at_once(a, b, s):
        return linear_scan(a, b, s, reverse, AT_ONCE, own_backward=True)

    def both(solve):
        def loss(*args):
            return (solve(*args) * w).sum().real

        return solve(a, b, start), jax.grad(loss, (0, 1, 2))(a, b, start)

    assert relative_error(both(at_once), both(loop)) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("name", ["heads", "minGRU"])
def test_chunks_in_the_cache_are_one_loop(name, reverse, x64):
    """300 steps are two chunks and some more; with `truncate_every=300` there are none."""
    cell, params, _, carry = wide(CELLS[name], D, KEY)
    xs = jax.random.normal(KEY, (300, B, D), jnp.float64)
    options = {"seq_lengths": np.array([300, 140]), "reverse": reverse, "return_carries": True}
    run = functools.partial(rnnjax.unroll, cell, **options)
    got = jax.jit(functools.partial(everything, run))(params, xs, carry)
    plain = functools.partial(run, truncate_every=300)
    want = jax.jit(functools.partial(everything, plain))(params, xs, carry)
    assert relative_error(got, want) < 1e-10


def test_no_steps_and_no_batch():
    cell = MinGRU(H)
    params = cell.init(KEY, D)
    final, ys = rnnjax.unroll_parallel(cell, params, jnp.zeros((0, B, D)))
    assert ys.shape == (0, B, H) and not final.h.any()
    xs = jax.random.normal(KEY, (T, D))
    got, want = (run(cell, params, xs) for run in (rnnjax.unroll_parallel, rnnjax.unroll))
    assert relative_error(got, want) < 1e-6


@pytest.mark.slow
def test_a_split_batch_is_the_whole_one(x64):
    cell, params, _, _ = wide(MinGRU(H), D, KEY)
    xs = jax.random.normal(KEY, (T, 16, D), jnp.float64)
    want = rnnjax.unroll_parallel(cell, params, xs, return_carries=True)
    with jax.set_mesh(training.batch_mesh()):
        got = jax.jit(functools.partial(rnnjax.unroll_parallel, cell, return_carries=True))(
            params, xs
        )
    assert relative_error(jax.device_get(got), jax.device_get(want)) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("name", slow_but_for("heads", [*CELLS]))
def test_adjoints_are_products_of_the_factors(name, x64):
    """d s_T / d s_t = prod a, entry by entry, times the gradient with respect to s_T."""
    cell, params, xs, carry = wide(CELLS[name], D, KEY)

    def loss(ys):
        return (ys[-1] ** 2).sum()

    adjoints = diagnostics.adjoints(cell, params, xs, loss, carry)
    final = rnnjax.unroll(cell, params, xs, carry)[0]
    last = jax.grad(lambda s: loss(cell.output(s)[None]))(final)
    factors = cell.project(cell.prepare(params), xs)[0]
    for got, a, g in zip(*map(jax.tree.leaves, (adjoints, factors, last)), strict=True):
        want = np.cumprod(np.asarray(a)[::-1], axis=0)[::-1] * np.asarray(g)
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["LRU", "minGRU", "minLSTM", "RG-LRU"])
def test_linear_cells_pass_check_cell(name):
    """The others have options that `tests/cells` tries."""
    check_cell(CELLS[name], D)


def test_what_is_refused():
    with pytest.raises(TypeError, match="cell must be an rnnjax.Linear, got LSTM; rnnjax.unroll"):
        rnnjax.unroll_parallel(LSTM(H), LSTM(H).init(KEY, D), jnp.ones((T, B, D)))
    for name in ("project", "step"):
        with pytest.raises(TypeError, match=f"Own must not override {name}.*override coefficients"):
            type("Own", (MinGRU,), {name: lambda self, *a: None})
        mixin = type("Mixin", (), {name: lambda self, *a: None})
        with pytest.raises(TypeError, match=f"Own must not override {name}"):
            type("Own", (mixin, MinGRU), {})
    cell = MinGRU(H)
    params, xs = cell.init(KEY, D), jnp.ones((T, B, D))
    with pytest.raises(ValueError, match="checkpoint_every must be a positive integer, got 0"):
        rnnjax.unroll_parallel(cell, params, xs, checkpoint_every=0)
