"""Every public member of a cell's class, overridden, counts in every path, or is refused.

The members are found by reflection: one that is added needs an entry here.
"""

import dataclasses
import functools
import inspect
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from own_cells import D, RedundantRate
from paths import (
    B,
    T,
    everything,
    problem,
    python_loop,
    unrolled,
    uses_fast_path,
    without_fast_path,
)

import rnnjax
from rnnjax import GRU, LSTM, Elman, cells, diagnostics, layers
from rnnjax.cells import (
    Cell,
    LayerNorm,
    Linear,
    MinGRU,
    VariationalDropout,
    Zoneout,
)
from rnnjax.cells.gated import is_gated
from rnnjax.recurrence.carries import flatten, unflatten

pytestmark = pytest.mark.usefixtures("small_chunks")

H = 4
KINDS = {
    name: kind
    for name, kind in vars(cells).items()
    if isinstance(kind, type) and issubclass(kind, Cell)
}


def bent(tree):
    """Return a tree with other numbers: x + cos(x) / 10 for each floating or complex x."""

    def bend(x):
        return x + 0.1 * jnp.cos(x) if jnp.issubdtype(x.dtype, jnp.inexact) else x

    return jax.tree.map(bend, tree)


def then_bent(kind, name):
    return lambda self, *arguments: bent(getattr(kind, name)(self, *arguments))


NAMES = (  # each changes what every path computes
    *("prepare", "project", "recurrent_input", "recurrent_kernel", "elementwise", "gates", "step"),
    *("output", "initial_carry", "init", "init_blocks", "coefficients"),
)
OVERRIDES = dict.fromkeys(NAMES, then_bent)
OVERRIDES["with_noise"] = lambda kind, name: (
    lambda self, key, xs: kind.with_noise(self, jax.random.fold_in(key, 1), xs)
)
REFUSED = {"recur", "split", "next_carry"}
SAYS = {  # these say something of the cell; each has a test below
    *("gate_names", "dtype", "gated", "output_size", "without_initialisers"),
    *("surrogate_gradient", "init_only", "input_shape", "time_constants"),
}


def members(kind):
    """Return the public names that a class defines, the fields of its instances aside."""
    fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
    names = {*vars(kind), *inspect.get_annotations(kind)}
    return {name for name in names if not name.startswith("_")} - {f.name for f in fields}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_member_has_an_entry(kind):
    assert members(kind) <= {*OVERRIDES, *REFUSED, *SAYS}


# Every method once on each cell that has another path for it. A concrete cell is one more set of
# `gates`, `init` and `output`, which are tried on GRU, MinGRU and RedundantRate.
MADE: dict[Any, Any] = {
    GRU: lambda kind: kind(H),
    LayerNorm: lambda kind: kind(GRU(H)),
    Zoneout: lambda kind: kind(GRU(H), 0.3),
    VariationalDropout: lambda kind: kind(GRU(H), 0.4),
    MinGRU: lambda kind: kind(H),
    RedundantRate: lambda kind: kind(H),
}
ON = {
    cells.Cell: [RedundantRate],
    cells.Stochastic: [Zoneout],
    cells.GatedStep: [GRU, Zoneout],
    cells.Gated: [GRU],
    cells.Wrapper: [Zoneout],
    cells.Linear: [MinGRU],
    GRU: [GRU],
    Zoneout: [Zoneout],
    VariationalDropout: [VariationalDropout],
    MinGRU: [MinGRU],
}
ALONE = {"LayerNorm.recurrent_kernel": (LayerNorm, "recurrent_kernel")}


def cases():
    """Each class with what it defines; `init` and `initial_carry` only give arguments: of two."""
    found = {**ALONE}
    for kind, instances in ON.items():
        for on in instances:
            for name in sorted(members(kind) & {*OVERRIDES}):
                refused = issubclass(kind, Linear) and name in ("project", "step")
                given = name in ("init", "initial_carry") and on not in (RedundantRate, Zoneout)
                if not refused and not given:
                    found[f"{on.__name__}.{name}"] = on, name
    return found


def test_every_method_has_a_case():
    methods = set().union(*(members(kind) for kind in KINDS.values())) & {*OVERRIDES}
    assert {name for _, name in CASES.values()} == methods


CASES = cases()
ON_WRAPPERS = {"Zoneout.gates", "LayerNorm.recurrent_kernel", "VariationalDropout.recurrent_input"}


def some(quick):
    marks = {name: () if name == quick else pytest.mark.slow for name in CASES}
    return [pytest.param(*case, id=name, marks=marks[name]) for name, case in CASES.items()]


def overridden(kind, name):
    own = type("Own", (kind,), {name: OVERRIDES[name](kind, name)})
    return MADE[kind](own)


def arguments_for(cell):
    """Return parameters, inputs and the cell's own initial carry, all in float64."""
    params, xs, _ = problem(cell)
    types = {jnp.float32: jnp.float64, jnp.complex64: jnp.complex128}
    types = {jnp.dtype(narrow): wide for narrow, wide in types.items()}
    given = params, xs, cell.initial_carry((B,))
    return jax.tree.map(lambda a: a.astype(types.get(a.dtype, a.dtype)), given)


@pytest.mark.parametrize(("kind", "name"), some("Zoneout.recurrent_kernel"))
def test_every_path_honours_it(kind, name, x64):
    """Fast path, plain scan and Python loop; the gradient along a direction by differences."""
    cell = overridden(kind, name)
    arguments = arguments_for(cell)
    fast_before = is_gated(MADE[kind](kind)) and name != "step"
    assert uses_fast_path(cell, *arguments) == fast_before
    loop = jax.jit(functools.partial(everything, functools.partial(python_loop, cell)))
    want = loop(*arguments)
    others = [cell, without_fast_path(cell)] if fast_before else [cell]
    for other in others:
        assert oracles.relative_error(unrolled(other)(*arguments), want) < 1e-10
    if isinstance(cell, Linear):
        at_once = functools.partial(rnnjax.unroll_parallel, cell, return_carries=True)
        found = jax.jit(functools.partial(everything, at_once))(*arguments)
        assert oracles.relative_error(found, want) < 1e-10
    plain = MADE[kind](kind)
    before = unrolled(plain)(*arguments_for(plain))
    assert oracles.relative_error(before[:1], want[:1]) > 1e-4 or name == "output"

    def score(params):
        outputs = rnnjax.unroll(cell, params, *arguments[1:])[1]
        return jnp.sum(outputs * jnp.cos(jnp.arange(outputs.size)).reshape(outputs.shape))

    score, slopes = jax.jit(score), jax.jit(jax.grad(score))(arguments[0])
    direction = jax.tree.map(jnp.sin, arguments[0])
    ahead, behind = (
        score(jax.tree.map(lambda p, d, h=h: p + h * d, arguments[0], direction))
        for h in (1e-5, -1e-5)
    )
    products = jax.tree.map(lambda g, d: jnp.sum(g * d), slopes, direction)
    got = float(sum(jax.tree.leaves(products)))
    assert got == pytest.approx(float((ahead - behind) / 2e-5), rel=1e-6, abs=1e-8)


LINEARISED = {  # diagnostics linearise the step itself, and of a gated cell its parts
    name: case
    for name, case in CASES.items()
    if case[0] in (RedundantRate, GRU, MinGRU) or name in ON_WRAPPERS
}


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), LINEARISED.values(), ids=LINEARISED)
def test_diagnostics_and_layers_honour_it(kind, name, x64):
    """Jacobians by finite differences of `step`; all else from the Jacobians, and from `unroll`."""
    cell = overridden(kind, name)
    params, xs, carry = arguments_for(cell)
    found = np.asarray(diagnostics.jacobians(cell, params, xs, carry))
    ready, (final, _, carries) = cell.prepare(params), python_loop(cell, params, xs, carry)
    entering = jax.tree.map(lambda s, ss: jnp.concatenate([s[None], ss[:-1]]), carry, carries)
    us = jax.tree.map(lambda *u: jnp.stack(u), *(cell.project(ready, at(xs, t)) for t in range(T)))

    @jax.jit
    def advance(flat):
        parts = unflatten(flat, jax.tree.leaves(entering), 2)
        return flattened(cell.step(ready, jax.tree.structure(carry).unflatten(parts), us), 2)

    flat = flattened(entering, 2)  # [T, B, N]
    for entry, moved in enumerate(np.eye(flat.shape[-1])):
        two, one = (
            (advance(flat + h * moved) - advance(flat - h * moved)) / (2 * h) for h in (2e-6, 1e-6)
        )
        slope = (4 * one - two) / 3  # near h = 0, LayerNorm bends within its epsilon
        np.testing.assert_allclose(found[..., entry], slope, atol=1e-7)

    def loss(ys):
        return (ys[-1] ** 2).sum()

    profile = diagnostics.gradient_profile(cell, params, xs, loss, carry)
    last = jax.grad(lambda s: (cell.output(s) ** 2).sum())(final)
    vector = flattened(jax.tree.map(jnp.conj, last), 1)  # JAX's gradient is dL/dx - i dL/dy
    for lag in range(1, T + 1):
        vector = np.einsum("bij,bi->bj", found[T - lag], vector)
        want = np.log(np.linalg.norm(vector, axis=-1))
        np.testing.assert_allclose(profile.log_norms[lag - 1], want, rtol=1e-8)
    if kind is not RedundantRate:  # whose Jacobians are singular
        exponents = diagnostics.lyapunov_spectrum(cell, params, xs, initial_carry=carry).exponents
        volume = np.linalg.slogdet(found)[1].mean(0)
        np.testing.assert_allclose(exponents.sum(-1), volume, rtol=1e-8)

    layer = layers.RNN(cell, time_major=True)
    inputs = xs.x if isinstance(xs, cells.Noisy) else xs
    variables = layer.init(jax.random.key(0), inputs)
    own = layer.cell_params(variables["params"])
    want = rnnjax.unroll(cell, own, inputs)[1]
    np.testing.assert_allclose(layer.apply(variables, inputs), want, rtol=1e-12)


def flattened(tree, leading):
    """Return the leaves side by side, real `[..., N]`, of arrays with so many leading axes."""
    return flatten(jax.tree.leaves(tree), leading)


def at(tree, t):
    return jax.tree.map(lambda a: a[t], tree)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_no_path_would_call_is_refused_of_a_mixin_too(name):
    body = {name: lambda self, *a: None}
    for bases in ((LSTM,), (Zoneout,), (type("Mixin", (), body), GRU)):
        with pytest.raises(TypeError, match=f"must not override {name}.*override "):
            type("Own", bases, body if len(bases) == 1 else {})


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_field_set_without_an_annotation_is_refused(kind):
    for field in dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ():
        for value in (3, property(lambda self: 3)):
            with pytest.raises(TypeError, match=f"sets the field {field.name}.*with an annotation"):
                type("Own", (kind,), {field.name: value})


def test_a_field_set_in_a_class_that_is_no_dataclass_is_refused_where_it_runs():
    class Own(LSTM):
        forget_bias: Any = 3.0

    @dataclasses.dataclass(frozen=True, slots=True)
    class Right(LSTM):
        forget_bias: Any = 3.0

    xs = jnp.ones((T, B, D))
    for kind in (Own, type("Derived", (Own,), {})):
        params = kind(H).init(jax.random.key(0), D)
        with pytest.raises(TypeError, match="Own sets the field forget_bias"):
            rnnjax.unroll(kind(H), params, xs)
        with pytest.raises(AssertionError, match="Own sets the field forget_bias"):
            rnnjax.testing.check_cell(kind(H), D)
    params = Right(H).init(jax.random.key(0), D)
    assert (Right(H).split(params.bias)[1] == 3).all()
    rnnjax.unroll(Right(H), params, xs)


class Twice(GRU):
    """Two gates instead of three, by other names."""

    gate_names = ("keep", "new")

    def init(self, key, input_size):
        return cells.GatedParams(*self.init_blocks(key, input_size))

    def elementwise(self, ready):
        return None

    def gates(self, params, carry, u, v):
        keep = jax.nn.sigmoid(u[0] + v[0])
        return cells.GRUCarry(keep * carry.h + (1 - keep) * jnp.tanh(u[1] + v[1]))


@pytest.mark.slow
def test_other_gate_names(x64):
    cell = Twice(H)
    arguments = arguments_for(cell)
    want = everything(functools.partial(python_loop, cell), *arguments)
    assert oracles.relative_error(unrolled(cell)(*arguments), want) < 1e-10
    for around in (cell, Zoneout(cell, 0.3), VariationalDropout(cell, 0.3)):
        assert around.gate_names == ("keep", "new")
        assert [*diagnostics.by_gate(around, arguments[0])["bias"]] == ["keep", "new"]
        assert [*diagnostics.block_spectra(around, arguments[0])] == ["keep", "new"]


@pytest.mark.slow
def test_another_type_of_products():
    """A wrapper that computes in bfloat16 around a cell that does not."""
    own = type("Own", (VariationalDropout,), {"dtype": jnp.bfloat16})
    low, cell = own(GRU(H), 0.4), VariationalDropout(GRU(H), 0.4)
    params, xs, carry = problem(cell, dtype=jnp.float32)
    got, want, exact = (unrolled(c)(params, xs, carry) for c in (low, without_fast_path(low), cell))
    assert oracles.relative_error(got, want) < 0.01 < 10 * oracles.relative_error(got, exact)


@pytest.mark.slow
def test_a_cell_that_says_that_it_is_not_gated_takes_the_plain_path(x64):
    own = type("Own", (LSTM,), {"gated": False})(H)
    arguments = arguments_for(own)
    assert uses_fast_path(LSTM(H), *arguments) and not uses_fast_path(own, *arguments)
    assert not is_gated(Zoneout(own, 0.2))
    assert oracles.relative_error(unrolled(own)(*arguments), unrolled(LSTM(H))(*arguments)) < 1e-10
    profiles = (
        diagnostics.gradient_profile(cell, *arguments[:2], lambda ys: ys[-1].sum()).log_norms
        for cell in (own, LSTM(H))
    )
    np.testing.assert_allclose(*profiles, rtol=1e-10)


@pytest.mark.slow
def test_the_cell_without_initialisers_is_the_one_that_runs():
    class Own(Elman):
        def without_initialisers(self):
            return Elman(self.features, activation_fn=jnp.sin)

    params, xs, carry = problem(Own(H), dtype=jnp.float32)
    want = rnnjax.unroll(Elman(H, activation_fn=jnp.sin), params, xs, carry)[1]
    for cell in (Own(H), VariationalDropout(Own(H), 0.3)):
        np.testing.assert_array_equal(rnnjax.unroll(cell, params, xs, carry)[1], want)


def test_what_only_init_uses():
    @dataclasses.dataclass(frozen=True)
    class Own(LSTM):
        init_only = ("forget_bias",)

    cell = Own(H, forget_bias=3.0, kernel_init=jax.nn.initializers.ones)
    without: Any = cell.without_initialisers()
    assert without.forget_bias == 1.0 and without.kernel_init is jax.nn.initializers.ones


def test_the_number_of_outputs_is_that_of_output():
    class Own(LSTM):
        def output(self, carry):
            return jnp.concatenate([carry.h, carry.c], axis=-1)

        @property
        def output_size(self):
            return 2 * self.features

    params, xs, _ = problem(Own(H), dtype=jnp.float32)
    for cell in (Own(H), Zoneout(Own(H), 0.2)):
        assert cell.output_size == rnnjax.unroll(cell, params, xs)[1].shape[-1] == 2 * H


def test_surrogate_slopes_are_said_of_a_wrapper_too():
    own = type("Own", (LSTM,), {"surrogate_gradient": True})
    assert own(H).surrogate_gradient and not LSTM(H).surrogate_gradient
    assert VariationalDropout(Zoneout(LayerNorm(own(H)), 0.1), 0.1).surrogate_gradient
