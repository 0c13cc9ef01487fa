"""Layers against compositions of `unroll` written by hand, and Flax's own."""

import dataclasses
import functools

import architectures
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracles
import pytest
from architectures import CELLS, D, H, V, recurrent, weighted_sum
from flax import nnx, serialization
from layer_parts import KEY, LENGTHS, XS, B, T
from slow import slow_but_for

import rnnjax
from rnnjax import GRU, LSTM, Elman, cells, training
from rnnjax.layers import RNN, TCN, Bidirectional, Stack, Transformer
from rnnjax.recurrence import running

FEW = "lstm rnn", "lstm deep_bidirectional", "layer_norm", "tcn", "transformer"


def by_hand(cell, params, xs, carry=None, **options):
    """Return `unroll` of batch-major arrays."""
    final, ys = rnnjax.unroll(cell, params, jnp.moveaxis(xs, -2, 0), carry, **options)
    return final, jnp.moveaxis(ys, 0, -2)


def compositions(cell):
    """Return by name how `architectures.recurrent` layers are put together, without Flax."""

    def own(params):
        return RNN(cell).cell_params(params)

    def both(params, xs, n):
        ahead, behind = (own(params[f"{which}_rnn"]) for which in ("forward", "backward"))
        forward = by_hand(cell, ahead, xs, seq_lengths=n)
        backward = by_hand(cell, behind, xs, seq_lengths=n, reverse=True)
        return (forward[0], backward[0]), forward[1], backward[1]

    def added(params, xs, n):
        carry, ahead, behind = both(params, xs, n)
        return carry, ahead + behind

    def deep(params, xs, n):
        carry, ys = by_hand(cell, own(params["layers_0"]), xs, seq_lengths=n)
        then, zs = by_hand(cell, own(params["layers_1"]), ys, seq_lengths=n)
        return (carry, then), ys + zs

    def deep_bidirectional(params, xs, n):
        first, ahead, behind = both(params["layers_0"], xs, n)
        ys = jnp.concatenate([ahead, behind], -1)
        then, ahead, behind = both(params["layers_1"], ys, n)
        return (first, then), jnp.concatenate([ahead, behind], -1)

    def learned(params, xs, n):
        start = cell.initial_carry(xs.shape[:-2])
        named = params["initial_carry"]
        drawn = {k: jnp.broadcast_to(s, getattr(start, k).shape) for k, s in named.items()}
        start = start._replace(**drawn)
        return by_hand(cell, own(params), xs, start, seq_lengths=n)

    return {
        "rnn": lambda params, xs, n: by_hand(cell, own(params), xs, seq_lengths=n),
        "learned_carry": learned,
        "bidirectional": added,
        "deep": deep,
        "deep_bidirectional": deep_bidirectional,
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lstm", "leaky"])
def test_layers_are_compositions_of_unroll(name):
    cell = CELLS[name]
    hands = compositions(cell)

    def everything(run, params):
        def loss(params, xs):
            values = run(params, xs)
            return weighted_sum(values), values

        gradients, values = jax.grad(loss, (0, 1), has_aux=True)(params, XS)
        return jax.tree.leaves((values, gradients))

    def applied(layer, params, xs):
        return layer.apply({"params": params}, xs, seq_lengths=LENGTHS, return_carry=True)

    @jax.jit
    def compare(variables):
        pairs = {}
        for which, layer in recurrent(cell).items():
            if which in hands:
                params = variables[which]["params"]
                pairs[which] = (
                    everything(functools.partial(applied, layer), params),
                    everything(lambda p, x, h=hands[which]: h(p, x, LENGTHS), params),
                )
        return pairs

    variables = {which: recurrent(cell)[which].init(KEY, XS) for which in hands}
    for which, (got, want) in compare(variables).items():
        assert len(got) == len(want) > 4, which
        assert oracles.relative_error(got, want) < 1e-5, which


@pytest.mark.slow
@pytest.mark.parametrize("name", slow_but_for("elman", ["elman", "lstm", "gru"]))
def test_reverse_and_keep_order_are_those_of_flax(name):
    cell = CELLS[name]
    params = cell.init(KEY, D)
    flax_cell = oracles.flax_cell(name, H, jnp.float32)
    weights = {"params": {"cell": oracles.to_flax(name, params)["params"]}}
    for reverse, keep_order, time_major in [
        (False, False, True),
        (True, False, False),
        (True, True, True),
    ]:
        options = {"reverse": reverse, "keep_order": keep_order, "time_major": time_major}
        n = jnp.maximum(LENGTHS, 1)  # Flax's carry after no step is that after all
        xs = jnp.swapaxes(XS, 0, 1) if time_major else XS
        got = RNN(cell, **options).apply({"params": {"cell": params._asdict()}}, xs, seq_lengths=n)
        want = nn.RNN(flax_cell, **options).apply(weights, xs, seq_lengths=n)
        valid = jnp.arange(T) < n[:, None]
        valid = valid.T if time_major else valid
        assert oracles.relative_error(got, jnp.where(valid[..., None], want, 0)) < 1e-5


STREAMS = {
    "lstm": RNN(LSTM(H), initial_carry_init=jax.nn.initializers.normal()),
    "gru": RNN(GRU(H)),
    "leaky": RNN(CELLS["leaky"]),
    "stack": Stack([RNN(LSTM(H)), RNN(Elman(H)), TCN(H, num_blocks=1)], residual=True),
    "tcn": TCN(H, num_blocks=2),
    "transformer": Transformer(H, num_heads=2, num_layers=1, window=3),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", STREAMS)
def test_step_by_step_equals_the_whole_sequence(name):
    """Values and gradients; and a stream goes on where a shorter sequence ended."""
    layer = STREAMS[name]
    variables = layer.init(KEY, XS)

    def whole(params, xs):
        ys = layer.apply({"params": params}, xs)
        return weighted_sum(ys), ys

    def streamed(params, xs):
        run = functools.partial(layer.apply, {"params": params}, return_carry=True)
        carry, first = run(xs[:, :1])

        def step(carry, x):
            carry, y = run(x[:, None], initial_carry=carry)
            return carry, y[:, 0]

        _, ys = jax.lax.scan(step, carry, jnp.moveaxis(xs[:, 1:], 1, 0))
        ys = jnp.concatenate([first, jnp.moveaxis(ys, 0, 1)], 1)
        return weighted_sum(ys), ys

    def resumed(params, xs):
        run = functools.partial(layer.apply, {"params": params}, return_carry=True)
        carry, _ = run(xs[:, :3], seq_lengths=jnp.array([3, 2, 1, 0]))
        return run(xs[:, 3:], initial_carry=carry)[1]

    def both(params, xs):
        found = [jax.grad(run, (0, 1), has_aux=True)(params, xs) for run in (whole, streamed)]
        return *found, resumed(params, xs)

    got, want, later = jax.jit(both)(variables["params"], XS)
    assert oracles.relative_error(got, want) < 1e-5
    for b, cut in enumerate((3, 2, 1, 0)):
        one = jnp.concatenate([XS[b, :cut], XS[b, 3:]])[None]
        expected = jax.jit(whole)(variables["params"], one)[1][0, cut:]
        assert oracles.relative_error(later[b], expected) < 1e-5


@pytest.mark.slow
def test_parameters_are_the_cells_own():
    cell = LSTM(features=H)
    variables = RNN(cell).init(KEY, XS)
    params = RNN(cell).cell_params(variables["params"])
    assert type(params) is cells.GatedParams
    named = variables["params"]["cell"]
    assert {k: id(v) for k, v in params._asdict().items()} == {k: id(v) for k, v in named.items()}
    with pytest.raises(ValueError, match="parameters must be .*, recurrent_bias; got input_kernel"):
        RNN(GRU(H)).cell_params(variables["params"])
    assert set(variables) == {"params"}  # no perturbations that fit this T alone
    xs = jnp.swapaxes(XS, 0, 1)
    final, ys = rnnjax.unroll(cell, params, xs)
    carry, outputs = RNN(cell, return_carry=True).apply(variables, XS)
    assert oracles.relative_error((carry, outputs), (final, jnp.swapaxes(ys, 0, 1))) < 1e-6
    profile = rnnjax.diagnostics.log_gradient_profile(cell, params, xs, final)
    assert profile.shape == (T, B)
    restored = serialization.from_bytes(variables, serialization.to_bytes(variables))
    assert jax.tree.structure(restored) == jax.tree.structure(variables)


@pytest.mark.slow
def test_any_number_of_batch_axes():
    layer = RNN(GRU(H))
    variables = layer.init(KEY, XS)
    n = LENGTHS.reshape(2, 2)
    got = layer.apply(variables, XS.reshape(2, 2, T, D), seq_lengths=n)
    want = layer.apply(variables, XS, seq_lengths=LENGTHS)
    assert oracles.relative_error(got.reshape(want.shape), want) < 1e-6
    assert oracles.relative_error(layer.apply(variables, XS[0]), want[0]) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("name", FEW)
def test_an_empty_batch_and_no_steps(name):
    layer = architectures.LAYERS[name]
    variables = jax.jit(layer.init)(KEY, XS)
    width = layer.apply(variables, XS).shape[-1]
    assert layer.apply(variables, XS[:0], seq_lengths=LENGTHS[:0]).shape == (0, T, width)
    carry, ys = layer.apply(variables, XS[:, :0], return_carry=True)
    assert ys.shape == (B, 0, width)
    if "bidirectional" not in name and "reversed" not in name:
        _, then = layer.apply(variables, XS, initial_carry=carry, return_carry=True)
        assert oracles.relative_error(then, layer.apply(variables, XS)) < 1e-5


@pytest.fixture
def fast_calls(monkeypatch):
    module = running
    calls = []
    original = module.fast_scan
    monkeypatch.setattr(
        module, "fast_scan", lambda cell, *a, **o: calls.append(cell) or original(cell, *a, **o)
    )
    module._unroll.clear_cache()
    yield calls
    module._unroll.clear_cache()


def test_every_layer_takes_the_fast_path_where_its_cell_does(fast_calls):
    for name, count in {"rnn": 1, "learned_carry": 1, "bidirectional": 2, "deep": 2}.items():
        fast_calls.clear()
        layer = recurrent(GRU(5))[name]
        variables = jax.eval_shape(layer.init, KEY, XS)
        running._unroll.clear_cache()
        fast_calls.clear()
        jax.eval_shape(lambda v, m=layer: m.apply(v, XS, seq_lengths=LENGTHS), variables)
        # Layers of the same shape share one trace.
        assert 1 <= len(fast_calls) <= count and set(fast_calls) == {GRU(5)}, name


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["lstm rnn", "lstm deep_bidirectional", "layer_norm", "tcn", "transformer"]
)
def test_a_batch_can_be_split_over_devices(name):
    layer = architectures.LAYERS[name]
    xs = jax.random.normal(KEY, (16, T, D))
    n = jnp.arange(16) % (T + 1)
    variables = layer.init(KEY, xs)

    @jax.jit
    def gradient(variables, xs, n):
        return jax.value_and_grad(
            lambda v: weighted_sum(layer.apply(v, xs, seq_lengths=n)), allow_int=True
        )(variables)

    want = gradient(variables, xs, n)
    mesh = training.batch_mesh()
    assert mesh.size == 2
    spec = jax.sharding.PartitionSpec("batch")
    with jax.set_mesh(mesh):
        split = jax.device_put((xs, n), jax.NamedSharding(mesh, spec))
        got = gradient(variables, *split)
    assert oracles.relative_error(got, want) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", FEW)
def test_bfloat16_with_float32_carries(name):
    layer = in_bfloat16(architectures.LAYERS[name])
    variables = layer.init(KEY, XS)
    assert {a.dtype for a in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    want = architectures.LAYERS[name].apply(variables, XS, seq_lengths=LENGTHS)
    for xs in (XS, XS.astype(jnp.bfloat16)):
        carry, ys = layer.apply(variables, xs, seq_lengths=LENGTHS, return_carry=True)
        valid = (jnp.arange(T) < LENGTHS[:, None])[..., None]
        assert oracles.relative_error(jnp.where(valid, ys, 0).astype(jnp.float32), want) < 0.05
        if name not in ("tcn", "transformer"):
            floats = [a.dtype for a in jax.tree.leaves(carry)]
            assert set(floats) == {jnp.dtype("float32")}


def in_bfloat16(module):
    """Return a layer whose matmuls are in bfloat16."""
    if isinstance(module, RNN):
        return module.clone(cell=low(module.cell))
    if isinstance(module, Bidirectional):
        ends = (in_bfloat16(m) for m in (module.forward_rnn, module.backward_rnn))
        return module.clone(**dict(zip(("forward_rnn", "backward_rnn"), ends, strict=True)))
    if isinstance(module, Stack):
        return module.clone(layers=[in_bfloat16(m) for m in module.layers])
    return module.clone(dtype=jnp.bfloat16)


def low(cell):
    if hasattr(cell, "cell"):
        return dataclasses.replace(cell, cell=low(cell.cell))
    return dataclasses.replace(cell, dtype=jnp.bfloat16)


@pytest.mark.slow
def test_a_users_cell_works_in_every_layer_and_model():
    cell = CELLS["leaky"]
    tokens = jax.random.randint(KEY, (B, T), 0, V)
    apart = "reversed", "learned_carry", "zoneout", "deep", "deep_bidirectional"
    trials = {name: (recurrent(cell)[name], (XS,)) for name in apart}
    trials |= {n: (m, (tokens,)) for n, m in architectures.sequence_models(cell).items()}
    trials |= {n: (m, (tokens, tokens)) for n, m in architectures.translators(cell).items()}
    for name, (module, inputs) in trials.items():

        @jax.jit
        def largest(key, module=module, inputs=inputs):
            def loss(params):
                ys = module.apply({"params": params}, *inputs, seq_lengths=LENGTHS)
                return weighted_sum(ys)

            gradient = jax.grad(loss)(module.init(key, *inputs)["params"])
            return jnp.stack([jnp.abs(g).max() for g in jax.tree.leaves(gradient)])

        norms = largest(KEY)
        assert np.isfinite(norms).all() and norms.min() > 0, name


@pytest.mark.slow
def test_nnx_users_can_wrap_a_layer():
    layer = Stack([Bidirectional(RNN(GRU(H)), RNN(GRU(H))), RNN(LSTM(H))], dropout_rate=0.2)
    model = nnx.bridge.lazy_init(nnx.bridge.ToNNX(layer, rngs=nnx.Rngs(0)), XS)
    want = layer.init(KEY, XS)
    shapes = sorted(p.shape for p in jax.tree.leaves(nnx.state(model, nnx.Param)))
    assert shapes == sorted(p.shape for p in jax.tree.leaves(want))

    @nnx.jit
    def train_step(model, optimizer):
        def loss(model):
            return (model(XS, seq_lengths=LENGTHS, deterministic=True) ** 2).mean()

        value, gradient = nnx.value_and_grad(loss)(model)
        optimizer.update(model, gradient)
        return value

    optimizer = nnx.Optimizer(model, optax.adam(0.1), wrt=nnx.Param)
    losses = [float(train_step(model, optimizer)) for _ in range(5)]
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.5 * losses[0]


@pytest.mark.slow
@pytest.mark.parametrize("make", [Elman, LSTM, GRU])
def test_a_layer_made_anew_with_a_fresh_initialiser_is_not_compiled_again(make):
    xs = jnp.ones((2, 5, 3))

    def run(scale):
        cell = make(4, kernel_init=lambda key, shape, dtype: jnp.full(shape, scale, dtype))
        layer = RNN(cells.Zoneout(cell, rate=0.1))
        variables = layer.init(jax.random.key(0), xs)
        return layer.apply(variables, xs)

    first, programs = run(0.5), running._unroll._cache_size()
    others = [run(0.5 + i) for i in range(3)]
    assert running._unroll._cache_size() == programs
    np.testing.assert_array_equal(others[0], first)
    assert not np.allclose(others[1], first)  # init uses what apply leaves out


def test_an_authors_cell_keeps_what_its_gates_use():
    @dataclasses.dataclass(frozen=True)
    class EveryStep(LSTM):
        def gates(self, params, carry, u, v):
            return super().gates(params, carry, (u[0], u[1] + self.forget_bias, *u[2:]), v)

    both = [EveryStep(4, forget_bias=bias) for bias in (0.0, 5.0)]
    params, xs = LSTM(4).init(jax.random.key(0), 3), jnp.ones((5, 2, 3))
    first, second = (rnnjax.unroll(cell, params, xs)[1] for cell in both)
    assert not np.allclose(first, second)


def test_an_authors_init_may_name_its_arguments_as_it_likes():
    @dataclasses.dataclass(frozen=True)
    class Own(Elman):
        def init(self, rng, n):
            return super().init(rng, n)

    variables = RNN(Own(4)).init(jax.random.key(0), jnp.ones((2, 5, 3)))
    assert variables["params"]["cell"]["input_kernel"].shape == (3, 4)
