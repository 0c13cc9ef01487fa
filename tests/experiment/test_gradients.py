"""Gradients by layer and lag: which lag is which, shares that add up, the reach."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax
from rnnjax import experiment
from rnnjax.layers import RNN, Embed, SoftmaxHead
from rnnjax.models import EncoderDecoder, ManyToMany, ManyToOne, OneToMany


@pytest.mark.slow
def test_shares_are_of_each_sequences_own_end_and_add_up_to_one():
    rng = np.random.default_rng(0)
    logs, ends = rng.normal(size=(2, 6, 3)), np.array([6, 4, 5])
    (part,) = experiment.gradient_table({"layer": logs}, ends)
    assert part["layer"] == "layer" and part["lag"].tolist() == [1, 2, 3, 4]
    shares = []
    for member in range(2):
        for example, end in enumerate(ends):
            norms = np.exp([logs[member, end - lag, example] for lag in range(1, 5)])
            shares.append(np.log(norms / np.linalg.norm(norms)))
    np.testing.assert_allclose(part["median"], np.median(shares, axis=0), rtol=1e-5)
    both = experiment.gradient_table({"a": logs, "b": logs}, {"b": ends})
    assert [len(part["lag"]) for part in both] == [6, 4]


def test_recorded_shares_say_where_no_gradient_arrives():
    inputs = np.array([np.log(0.8), np.log(0.6), -np.inf])[:, None] + np.zeros((2, 3, 4))
    inputs[0, 1, 0] = -np.inf  # of one example only
    parts = [{"network": "gru"}]
    found = experiment.record_shares(parts, "tcn", "before", {"carry": inputs, "inputs": inputs})
    assert found == {"reach": -np.inf, "zero_lags": [3]}
    assert [(row["network"], row["layer"]) for row in parts[1:]] == [
        ("tcn", "carry"), ("tcn", "inputs")]  # fmt: skip
    assert parts[1]["phase"] == "before" and parts[1]["lag"].tolist() == [1, 2, 3]
    np.testing.assert_allclose(parts[1]["median"][:2], np.log([0.8, 0.6]))


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("inputs", "inputs"),
        ("layer/carry", "layer 1"),
        ("layer/block_2", "layer 3"),
        ("layer/layers_1/backward_rnn/carry", "layer 2 backward"),
        ("layer/forward_rnn/carry", "layer 1 forward"),
    ],
)
def test_a_layer_has_a_label_of_its_own(path, label):
    assert experiment.layer_label(path) == label


def test_members_may_have_sequences_of_their_own():
    rng = np.random.default_rng(0)
    logs, ends = rng.normal(size=(2, 5, 3)), np.array([[5, 4, 3], [3, 3, 5]])
    (part,) = experiment.gradient_table({"layer": logs}, ends)
    shares = []
    for member, example in np.ndindex(2, 3):
        end = ends[member, example]
        norms = np.exp(logs[member, end - 3 : end, example])[::-1]
        shares.append(np.log(norms / np.linalg.norm(norms)))
    np.testing.assert_allclose(part["median"], np.median(shares, axis=0), rtol=1e-5)


@pytest.mark.slow
def test_lag_k_is_about_the_carry_that_enters_step_t_minus_k():
    """s_t enters step t and has lag T - t: the layer is cut open at every step."""
    layer, length = RNN(rnnjax.GRU(5)), 7
    xs = jax.random.normal(jax.random.key(0), (3, length, 4))
    params = layer.init(jax.random.key(1), xs)["params"]
    apply = functools.partial(layer.apply, {"params": params})

    def loss(ys):
        return jnp.sum(ys[:, -1] ** 2)

    several = jax.tree.map(lambda p: p[None], params)
    profiles = experiment.log_gradients(layer, several, loss, xs)
    assert list(profiles) == ["inputs", "carry"]
    parts = {part["layer"]: part for part in experiment.gradient_table(profiles)}
    norms = []
    for lag in range(1, length + 1):
        t = length - lag
        carry, _ = apply(xs[:, :t], return_carry=True)
        gradient = jax.grad(lambda carry, t=t: loss(apply(xs[:, t:], initial_carry=carry)))(carry)
        norms.append(jnp.linalg.norm(gradient.h, axis=-1))
    shares = np.array(norms) / np.linalg.norm(norms, axis=0)
    assert parts["carry"]["lag"].tolist() == [1, 2, 3, 4, 5, 6, 7]
    np.testing.assert_allclose(np.exp(parts["carry"]["median"]), np.median(shares, 1), rtol=1e-4)
    by_input = jnp.linalg.norm(jax.grad(lambda xs: loss(apply(xs)))(xs), axis=-1).T[::-1]
    shares = np.array(by_input) / np.linalg.norm(by_input, axis=0)
    np.testing.assert_allclose(np.exp(parts["inputs"]["median"]), np.median(shares, 1), rtol=1e-4)


def test_reach_compares_the_earliest_tenth_of_lags_with_the_latest():
    decay = {"median": -np.arange(20.0) * np.log(10)}
    assert experiment.reach(decay) == pytest.approx(-18)
    assert experiment.reach({"median": np.zeros(5)}) == 0
    field = {"median": np.where(np.arange(20) < 10, 0.0, -np.inf)}
    assert experiment.reach(field) == -np.inf


@pytest.mark.slow
def test_embedded_tokens_are_shown_like_inputs():
    model = ManyToOne(RNN(rnnjax.GRU(3)), SoftmaxHead(2), embed=Embed(5, 2))
    tokens = jnp.array([[1, 2, 3, 4], [4, 3, 0, 0]])
    lengths = jnp.array([4, 2])
    params = jax.vmap(lambda key: model.init(key, tokens)["params"])(
        jax.random.split(jax.random.key(0), 2)
    )
    found = experiment.log_gradients(model, params, jnp.sum, tokens, seq_lengths=lengths)
    assert list(found) == ["embed/output", "layer/carry"]

    def loss(vectors, params):
        ys = ManyToOne(model.layer, model.head).apply(
            {"params": {n: params[n] for n in ("layer", "head")}}, vectors, seq_lengths=lengths
        )
        return ys.sum()

    for member in range(2):
        one = jax.tree.map(lambda p, m=member: p[m], params)
        vectors = one["embed"]["embedding"][tokens]
        norms = jnp.linalg.norm(jax.grad(loss)(vectors, one), axis=-1).T
        np.testing.assert_allclose(np.exp(found["embed/output"][member]), norms, rtol=1e-5)


def test_the_longest_sequences_of_equal_ones_are_the_first():
    assert experiment.longest(np.array([3, 5, 1, 5, 3]), 4).tolist() == [1, 3, 0, 4]
    assert experiment.longest(np.arange(100)).tolist() == list(range(99, 67, -1))


def several(model, *inputs, **options):
    return jax.vmap(lambda key: model.init(key, *inputs, **options)["params"])(
        jax.random.split(jax.random.key(0), 2)
    )


@pytest.mark.slow
@pytest.mark.parametrize("steps", [-1, (1, 3, 2)])
def test_the_loss_of_one_step_has_lags_that_count_back_from_it(steps):
    model = ManyToMany(RNN(rnnjax.GRU(3)), SoftmaxHead(4))
    xs = np.random.default_rng(0).normal(size=(3, 5, 2)).astype(np.float32)
    targets = np.array([1, 3, 0])
    params = several(model, xs)
    places = np.full(3, 4) if steps == -1 else np.array(steps)
    given = -1 if steps == -1 else places
    found = experiment.loss_gradients(model, params, targets, xs, steps=given)
    expected = experiment.gradient_table(
        experiment.log_gradients(
            model,
            params,
            lambda ys: sum(-jax.nn.log_softmax(ys[b, t])[targets[b]] for b, t in enumerate(places)),
            xs,
        ),
        places + 1,
    )
    for part, other in zip(found, expected, strict=True):
        assert part["layer"] == other["layer"] and len(part["lag"]) == places.min() + 1
        np.testing.assert_allclose(part["median"], other["median"], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_loss_of_a_whole_sequence_has_lags_that_count_back_from_its_end():
    model = ManyToOne(RNN(rnnjax.GRU(3)), SoftmaxHead(4))
    xs, targets = jnp.ones((2, 5, 2)), np.array([1, 3])
    lengths = np.array([5, 3])
    params = several(model, xs)

    def loss(ys):
        return model.head.loss(ys, jnp.asarray(targets)).sum()

    for options, ends in (({}, None), ({"seq_lengths": lengths}, lengths)):
        found = experiment.loss_gradients(model, params, targets, xs, **options)
        profiles = experiment.log_gradients(model, params, loss, xs, **options)
        for part, other in zip(found, experiment.gradient_table(profiles, ends), strict=True):
            np.testing.assert_allclose(part["median"], other["median"], rtol=1e-5)


@pytest.mark.slow
def test_an_encoder_has_ends_of_its_own():
    vectors = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    decoder = OneToMany(RNN(rnnjax.GRU(3)), SoftmaxHead(4), Embed(4, 2))
    model = EncoderDecoder(RNN(rnnjax.GRU(3)), decoder)
    previous, steps = np.ones((2, 6), np.int32), np.array([5, 4])
    lengths = np.array([4, 2])
    params = several(model, vectors, previous, seq_lengths=lengths)
    options = {"steps": steps, "ends": {"encoder": lengths, "inputs": lengths}}
    found = experiment.loss_gradients(
        model, params, np.array([1, 2]), vectors, previous, seq_lengths=lengths, **options
    )
    lags = {part["layer"]: len(part["lag"]) for part in found}
    assert {n for name, n in lags.items() if name.split("/")[0] in ("encoder", "inputs")} == {2}
    assert {n for name, n in lags.items() if name.split("/")[0] == "decoder"} == {5}
