"""Scheduled sampling against a model's own chain, and its random streams."""

import functools

import architectures
import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from architectures import CELLS, H, V
from by_hand import (
    CONTEXT,
    KEY,
    PREVIOUS,
    TARGETS,
    TOKENS,
    XS,
    B,
    N,
    check_equal,
    close,
    params_of,
    random_values,
    translator,
)
from jax import lax

from rnnjax import Elman, cells, decoding, layers, models
from rnnjax.layers import RNN


def streams(seed):
    return dict(zip(("sampling", "choice"), jax.random.split(jax.random.key(seed)), strict=True))


@pytest.mark.slow
def test_a_sampling_rate_of_zero_is_teacher_forcing():
    model = models.OneToMany(
        RNN(Elman(H)), layers.SoftmaxHead(V), architectures.embed(), layers.AdditiveAttention(3)
    )
    params = params_of(model, CONTEXT, PREVIOUS, memory=XS)
    valid = jnp.arange(4) < TARGETS[:, None]

    def run(previous, options, params, context, memory):
        options |= {"memory": memory, "memory_lengths": N, "seq_lengths": TARGETS}
        return model.apply({"params": params}, context, previous, **options)

    forced = functools.partial(run, PREVIOUS, {})
    options = {"sampling_rate": 0.0, "rngs": streams(0)}
    garbage = jnp.where(valid, PREVIOUS, V + 9)  # behind the end
    scheduled = functools.partial(run, garbage, options)
    check_equal(scheduled, [forced], params, CONTEXT, XS)


@pytest.mark.slow
def test_a_sampling_rate_of_one_is_the_models_own_chain():
    model = translator(layers.AdditiveAttention(3), Elman)
    params = params_of(model, TOKENS, PREVIOUS)
    head = params["decoder"]["head"]["dense"]
    head["kernel"] = head["kernel"] * 1e6  # nothing is left to chance

    @jax.jit
    def everything(params, rate):
        variables = {"params": params}
        options = {"seq_lengths": N, "sampling_rate": rate, "rngs": streams(1)}
        free = model.apply(variables, TOKENS, PREVIOUS, **options)
        state = model.apply(variables, TOKENS, seq_lengths=N, method="start")
        step = functools.partial(model.apply, variables, method="step")
        said, _ = decoding.greedy(step, state, PREVIOUS[:, 0], length=4)
        chain = jnp.concatenate([PREVIOUS[:, :1], said[:, :-1]], 1)
        return free, said, model.apply(variables, TOKENS, chain, seq_lengths=N)

    free, said, chained = everything(params, 1.0)
    assert np.array_equal(free.argmax(-1), said)
    assert not np.array_equal(said[:, :-1], PREVIOUS[:, 1:])
    close(free, chained)


@pytest.fixture(scope="module")
def telltale():
    """A model that says one more than what it was fed: what it says tells what that was."""
    size = 32
    cell = Elman(size, activation_fn=cells.identity)
    params = cells.GatedParams(jnp.eye(size), jnp.zeros((size, size)), jnp.zeros(size))
    embed = layers.Embed(size, size)
    model = models.OneToMany(RNN(cell), layers.SoftmaxHead(size), embed)
    start = {"kernel": jnp.zeros((2, size)), "bias": jnp.zeros(size)}
    variables = {
        "embed": {"embedding": jnp.eye(size)},
        "layer": {"cell": params._asdict()},
        "head": {"dense": {"kernel": 1e4 * jnp.roll(jnp.eye(size), 1, 1), "bias": jnp.zeros(size)}},
        "start_0": start,
    }
    batch, total = 400, size - 1

    @jax.jit
    def fed(rate, rngs):
        inputs = jnp.zeros((batch, 2)), jnp.zeros((batch, total), jnp.int32)
        logits = model.apply({"params": variables}, *inputs, sampling_rate=rate, rngs=rngs)
        return logits.argmax(-1) - 1

    return fed


@pytest.mark.slow
def test_what_is_fed_is_replaced_at_the_given_rate(telltale):
    for rate in (0.5, 0.2, 0.0, 1.0):
        fed = np.asarray(telltale(rate, streams(3)))
        assert not fed[:, 0].any()
        own, then = fed[:, 1:] != 0, fed[:, :-1]
        # A replaced token is what the model said a step earlier, one more than it was then fed.
        assert np.array_equal(fed[:, 1:], np.where(own, then + 1, 0))
        spread = (rate * (1 - rate) / own.size) ** 0.5
        assert abs(own.mean() - rate) <= 4 * spread
        if rate not in (0.0, 1.0):  # independently of each other, over time and over examples
            for apart in (own[:, 1:] & own[:, :-1], own[1:] & own[:-1]):
                assert abs(apart.mean() - rate**2) < 0.02
            columns, rows = own.mean(0), own.mean(1)
            assert np.ptp(columns) < 0.25 and 0.05 < rows.std() < 0.15
    assert telltale._cache_size() == 1  # a traced rate


def test_the_streams_decide_and_nothing_else(telltale):
    first, second = telltale(0.5, streams(3)), telltale(0.5, streams(4))
    assert np.array_equal(first, telltale(0.5, streams(3)))
    assert not np.array_equal(first, second)
    mixed = telltale(0.5, {"sampling": streams(3)["sampling"], "choice": streams(4)["choice"]})
    assert np.array_equal(first, mixed)  # nothing was left to choose


def test_what_is_drawn_is_drawn_from_the_head():
    """At rate one the second output is a function of the first draw: compare with its law."""
    size, many = 3, 4000
    cell = Elman(size, activation_fn=cells.identity)
    model = models.OneToMany(RNN(cell), layers.SoftmaxHead(size), layers.Embed(size, size))
    law = np.log(np.array([[0.2, 0.5, 0.3], [0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]))
    params = {
        "embed": {"embedding": np.eye(size)},
        "layer": {
            "cell": {
                "input_kernel": np.eye(size),
                "recurrent_kernel": np.zeros((size, size)),
                "bias": np.zeros(size),
            }
        },
        "head": {"dense": {"kernel": law, "bias": np.zeros(size)}},
        "start_0": {"kernel": np.zeros((1, size)), "bias": np.zeros(size)},
    }
    inputs = jnp.zeros((many, 1)), np.zeros((many, 3), np.int32)
    options = {"sampling_rate": 1.0, "rngs": streams(5)}
    logits = jax.jit(lambda p: model.apply({"params": p}, *inputs, **options))(params)
    close(logits[:, 0], np.tile(law[0], (many, 1)))
    fed = np.abs(np.asarray(logits)[:, :, None] - np.asarray(law)).sum(-1).argmin(-1)
    assert not fed[:, 0].any()
    chain = np.exp(law)
    np.testing.assert_allclose(np.bincount(fed[:, 1]) / many, chain[0], atol=0.03)
    np.testing.assert_allclose(np.bincount(fed[:, 2]) / many, chain[0] @ chain, atol=0.03)


@pytest.mark.slow
def test_no_gradient_passes_through_what_was_drawn():
    model = models.OneToMany(RNN(CELLS["leaky"]), layers.LinearHead(2))
    previous = random_values(B, 4, 2)
    params = params_of(model, CONTEXT, previous)
    valid = (jnp.arange(4) < TARGETS[:, None])[..., None]

    def scheduled(params, context):
        padded = jnp.where(valid, previous, jnp.nan)
        options = {"seq_lengths": TARGETS, "sampling_rate": 1.0, "rngs": streams(0)}
        return model.apply({"params": params}, context, padded, **options)

    def stopped(params, context):
        def step(loop, _):
            state, outputs = model.apply({"params": params}, *loop, method="step")
            return (state, lax.stop_gradient(outputs)), outputs

        start = model.apply({"params": params}, context, method="start")
        _, outputs = lax.scan(step, (start, previous[:, 0]), None, 4)
        return jnp.where(valid, jnp.swapaxes(outputs, 0, 1), 0)

    check_equal(scheduled, [stopped], params, CONTEXT)


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["sampling", "choice"])
def test_a_missing_stream_is_named(missing):
    model = translator()
    variables = {"params": params_of(model, TOKENS, PREVIOUS)}
    rngs = {name: key for name, key in streams(0).items() if name != missing}
    run = functools.partial(model.apply, sampling_rate=0.5, rngs=rngs)
    with pytest.raises(flax.errors.InvalidRngError, match=f'needs PRNG for "{missing}"'):
        jax.eval_shape(lambda v: run(v, TOKENS, PREVIOUS), variables)


def test_initialisation_needs_no_streams_and_no_step_no_draw():
    model = translator(layers.AdditiveAttention(3))
    inputs = KEY, TOKENS, PREVIOUS
    scheduled = functools.partial(model.init, sampling_rate=0.5)
    variables = jax.eval_shape(scheduled, *inputs)
    assert jax.tree.structure(variables) == jax.tree.structure(jax.eval_shape(model.init, *inputs))
    for options in ({}, {"sampling_rate": 0.5, "rngs": streams(0)}):
        run = functools.partial(model.apply, **options)
        nothing = jax.eval_shape(lambda v, run=run: run(v, TOKENS, PREVIOUS[:, :0]), variables)
        assert nothing.shape == (B, 0, V)
