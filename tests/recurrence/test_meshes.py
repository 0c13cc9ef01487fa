"""Batches that the caller has sharded: explicit axes, and `jax.shard_map` with its checks."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from slow import slow_but_for

import rnnjax
from rnnjax import GRU, LSTM, Elman, layers

T, B, D, H = 6, 4, 3, 5
KEY = jax.random.key(0)
XS = jax.random.normal(KEY, (T, B, D))
W = jax.random.normal(jax.random.key(1), (T, B, H))
CELLS = {"elman": Elman(H), "lstm": LSTM(H), "gru": GRU(H)}
LENGTHS = jnp.array([6, 2, 0, 4])
RESETS = jax.random.bernoulli(KEY, 0.3, (T, B))
OPTIONS = {
    "plain": {},
    "lengths": {"seq_lengths": LENGTHS},
    "resets": {"resets": RESETS},
    "mask": {"mask": ~RESETS, "masked_output": W, "truncate_every": 2},
    "reverse": {"reverse": True, "seq_lengths": LENGTHS},
    "checkpoints": {"checkpoint_every": 2},
    "carries": {"checkpoint_every": 1, "return_carries": True},
    "truncated": {"truncate_every": 2},
    "clipped": {"clip_adjoints": 0.1},
    "probe": {"norm_probe": jnp.zeros((T, B))},
}
AXES = dict.fromkeys(("resets", "mask", "masked_output", "norm_probe"), P(None, "x"))
AXES |= {"seq_lengths": P("x")}


@pytest.fixture
def mesh():
    return jax.make_mesh((2,), ("x",), axis_types=(AxisType.Explicit,))


def gradient(cell, static, params, xs, w, arrays):
    """Return the gradients of a loss by parameters and inputs, and what `unroll` returns."""

    def loss(params, xs):
        found = rnnjax.unroll(cell, params, xs, **static, **arrays)
        return (found[1] * w).sum(), found

    return jax.grad(loss, (0, 1), has_aux=True)(params, xs)


def split(options):
    arrays = {name: value for name, value in options.items() if name in AXES}
    return {name: value for name, value in options.items() if name not in AXES}, arrays


def close(found, want):
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(jax.device_get(one), other, rtol=1e-5, atol=1e-6)


# Each option with one cell in turn.
CASES = {
    f"{name}-{cell}": (name, cell)
    for name, cell in zip(OPTIONS, itertools.cycle(["lstm", "elman", "gru"]), strict=False)
}
QUICK = "plain-lstm", "lengths-elman"


@pytest.mark.slow
@pytest.mark.parametrize("case", slow_but_for(QUICK, CASES))
@pytest.mark.parametrize("scope", [True, False], ids=["set_mesh", "no scope"])
def test_an_explicitly_sharded_batch(case, scope, mesh):
    name, cell = case[0], CELLS[case[1]]
    static, arrays = split(OPTIONS[name])
    params = cell.init(KEY, D)
    run = jax.jit(functools.partial(gradient, cell, static))
    want = run(params, XS, W, arrays)

    def put(value, spec):
        return jax.device_put(value, NamedSharding(mesh, spec))

    sharded = {key: put(value, AXES[key]) for key, value in arrays.items()}
    over_time = P(None, "x", None)
    with jax.set_mesh(mesh) if scope else jax.default_device(None):
        found = run(put(params, P()), put(XS, over_time), put(W, over_time), sharded)
    close(found, want)
    (_, by_inputs), (final, outputs, *_) = found
    for array in (by_inputs, outputs):
        assert array.sharding.spec[1] == "x"
    assert {leaf.sharding.spec[0] for leaf in jax.tree.leaves(final)} == {"x"}


@pytest.mark.slow
@pytest.mark.parametrize("case", slow_but_for(QUICK, CASES))
def test_within_shard_map_with_its_checks(case, mesh):
    name, cell = case[0], CELLS[case[1]]
    static, arrays = split(OPTIONS[name])
    params = cell.init(KEY, D)
    run = functools.partial(gradient, cell, static)
    want = run(params, XS, W, arrays)
    once, each = P("x"), P(None, "x")
    out = (P(), each), (once, each, *[each] * static.get("return_carries", False))
    specs = P(), each, each, {name: AXES[name] for name in arrays}
    auto = jax.make_mesh((2,), ("x",), axis_types=(AxisType.Auto,))
    mapped = jax.shard_map(run, mesh=auto, in_specs=specs, out_specs=out)
    close(jax.jit(mapped)(params, XS, W, arrays), want)


@pytest.mark.slow
def test_the_final_carry_is_split_like_the_batch(mesh):
    layer = layers.deep(LSTM(H), 2, bidirectional=True)
    xs = XS.swapaxes(0, 1)
    variables = layer.init(KEY, xs)
    want = layer.apply(variables, xs, return_carry=True)
    with jax.set_mesh(mesh):
        xs = jax.device_put(xs, NamedSharding(mesh, P("x")))
        variables = jax.device_put(variables, NamedSharding(mesh, P()))
        found = jax.jit(lambda v, x: layer.apply(v, x, return_carry=True))(variables, xs)
    close(found, want)
