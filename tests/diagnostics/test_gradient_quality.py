"""The quality of online gradients: exact methods are exact, others by what they leave out."""

import statistics

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from slow import slow_but_for

from rnnjax import diagnostics, networks, online
from rnnjax.diagnostics import GradientQuality, gradient_quality, mean_share
from rnnjax.diagnostics.gradient_quality import _by_lag
from rnnjax.testing.problems import wide

T, D, H = 6, 2, 3
KEY = jax.random.key(0)


def loss(y):
    return jnp.sum(jnp.sin(y) * jnp.cos(jnp.arange(y.size).reshape(y.shape)))


def problem(name):
    cell, params, xs, carry = wide(networks.make_cell(name, H), D, KEY)
    return cell, params, xs[:T], carry


def exact_parts(cell, params, xs, carry):
    parts = diagnostics.parameter_gradient_by_lag(cell, params, xs, lambda ys: loss(ys[-1]), carry)
    return jax.tree.map(lambda g: np.asarray(g)[::-1], parts)


@pytest.mark.parametrize("name", slow_but_for("elman", ["elman", "lru", "lstm"]))
def test_rtrl_keeps_all_of_it(name, x64):
    cell, params, xs, carry = problem(name)
    found = gradient_quality(online.RTRL(), cell, params, xs, loss, initial_carry=carry)
    parts = dict(zip(params._fields, exact_parts(cell, params, xs, carry), strict=True))
    assert {*found} == {"all", *parts}
    for name, part in parts.items():
        norms = np.linalg.norm(part.reshape(T, -1), axis=1)
        np.testing.assert_allclose(found[name].norm, norms, rtol=1e-9)
    for quality in found.values():
        for values in (quality.share, quality.cosine, quality.norm_ratio):
            np.testing.assert_allclose(values, 1, atol=1e-9)
        for values in (quality.bias, quality.variance, quality.share_error, quality.cosine_error):
            np.testing.assert_allclose(values, 0, atol=1e-7)


@pytest.mark.slow
def test_truncated_back_propagation_keeps_all_and_then_nothing(x64):
    cell, params, xs, carry = problem("lstm")
    found = gradient_quality(online.Truncated(2), cell, params, xs, loss, initial_carry=carry)
    kept = (np.arange(T) < 2).astype(float)
    for quality in found.values():
        for values in (quality.share, quality.cosine, quality.norm_ratio, 1 - quality.bias):
            np.testing.assert_allclose(values, kept, atol=1e-9)


@pytest.mark.slow
def test_the_statistics_are_those_of_the_draws(x64):
    cell, params, xs, carry = problem("elman")
    draws, method = 300, online.UORO()
    found = gradient_quality(method, cell, params, xs, loss, KEY, draws=draws, initial_carry=carry)
    exact = exact_parts(cell, params, xs, carry)
    keys = jax.random.split(KEY, draws)
    parts = jax.vmap(lambda key: _by_lag(method, cell, loss, params, xs, carry, key))(keys)

    def rows(leaves, ndim):
        return np.concatenate([np.reshape(a, (*a.shape[:ndim], -1)) for a in leaves], axis=-1)

    parts, want, quality = rows(parts, 2), rows(exact, 1), found["all"]
    scale = (want**2).sum(-1)
    shares, squares = (parts * want).sum(-1) / scale, (parts**2).sum(-1)
    variance = parts.var(0, ddof=1).sum(-1)
    bias = ((parts.mean(0) - want) ** 2).sum(-1) - variance / draws
    cosines = shares * np.sqrt(scale / squares)
    for got, expected in (
        (quality.share, shares.mean(0)),
        (quality.share_error, shares.std(0, ddof=1) / np.sqrt(draws)),
        (quality.cosine, cosines.mean(0)),
        (quality.cosine_error, cosines.std(0, ddof=1) / np.sqrt(draws)),
        (quality.variance, variance / scale),
        (quality.norm_ratio, np.sqrt(squares.mean(0) / scale)),
        (quality.bias, np.sqrt(np.maximum(bias, 0) / scale)),
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-8)
    assert (np.abs(quality.share - 1) < 5 * quality.share_error).all()  # no bias along g


@pytest.mark.slow
def test_the_parts_add_up_to_the_methods_gradient(x64):
    cell, params, xs, carry = problem("gru")
    for method in (online.UORO(), online.SnAp(1), online.EProp(), online.Truncated(3)):

        def at_the_end(y, t):
            return (t == T - 1) * loss(y)

        own = jax.random.split(KEY, 1)[0]
        whole, _ = online.gradient(method, cell, params, xs, at_the_end, carry, key=own)
        parts = _by_lag(method, cell, loss, params, xs, carry, own)
        for a, b in zip(jax.tree.leaves(whole), parts, strict=True):
            np.testing.assert_allclose(b.sum(0), a, rtol=1e-9, atol=1e-12)


def test_many_networks_in_one_program_are_a_loop_over_them(x64):
    cell, _, xs, _ = problem("elman")
    keys = jax.random.split(KEY, 3)
    params = jax.vmap(lambda key: cell.init(key, D))(keys)
    inputs = jnp.stack([xs, -xs, 2 * xs])

    def quality(key, params, xs):
        return gradient_quality(online.UORO(), cell, params, xs, loss, key, draws=3)

    found = jax.jit(jax.vmap(quality))(keys, params, inputs)
    for i, key in enumerate(keys):
        own = quality(key, jax.tree.map(lambda p, i=i: p[i], params), inputs[i])
        assert found.keys() == own.keys()
        for name, want in own.items():
            for values, expected in zip(found[name], want, strict=True):
                np.testing.assert_allclose(values[i], expected, rtol=1e-9, atol=1e-9)


def quality_of(norm, share, errors):
    rest = [np.zeros(np.shape(norm))] * 5
    return GradientQuality(np.array(norm), np.array(share), np.array(errors), *rest)


def test_the_mean_share_over_networks():
    share = [[1.0, 0.5, 0.2], [0.8, 0.1, np.nan], [0.9, 0.6, 0.4]]
    norm = [[2.0, 1.0, 1.0], [2.0, 1.0, 0.0], [2.0, 1.0, 1e-9]]
    found = mean_share(quality_of(norm, share, np.zeros((3, 3))))
    assert found.count.tolist() == [3, 3, 2]
    np.testing.assert_allclose(found.mean, [0.9, 0.4, 0.3])
    deviations = [statistics.stdev(s) for s in ([1.0, 0.8, 0.9], [0.5, 0.1, 0.6], [0.2, 0.4])]
    np.testing.assert_allclose(found.error, np.array(deviations) / np.sqrt([3, 3, 2]))


def test_networks_whose_gradient_is_rounding_do_not_count():
    share = [[1.0, 0.5, 0.2], [0.8, 0.1, 0.3], [0.9, 0.6, 7.0]]
    norm = [[2.0, 1.0, 1.0], [2.0, 0.0, 1e-9], [2.0, 1.0, 1e-9]]
    found = mean_share(quality_of(norm, share, np.zeros((3, 3))), rounding=1e-8)
    assert found.count.tolist() == [3, 2, 1]
    np.testing.assert_allclose(found.mean, [0.9, 0.55, np.nan])
    assert np.isnan(found.error[2])
    half = mean_share(quality_of([[1.0], [0.0]] * 2, [[1.0], [np.nan]] * 2, np.zeros((4, 1))))
    assert np.isnan(half.mean) and half.count == 2
    alone = mean_share(quality_of([[1.0]], [[1.0]], [[0.0]]))
    assert np.isnan(alone.mean) and alone.count == 1


def test_the_error_of_a_share_over_draws_is_that_of_the_draws():
    """Means over draws of networks that all share one mean, simulated 20,000 times."""
    rng = np.random.default_rng(0)
    deviations = np.array([0.5, 1.0, 3.0])[:, None]
    errors = deviations / np.sqrt([[8, 8]])
    simulated = rng.normal(1.0, errors, (20_000, 3, 2)).mean(1).std(0)
    found = mean_share(quality_of(np.ones((3, 2)), np.ones((3, 2)), errors))
    np.testing.assert_allclose(found.error, simulated, rtol=0.02)


def test_wrong_arguments():
    cell = networks.make_cell("elman", H)
    params, xs = cell.init(KEY, D), jnp.ones((T, 1, D))
    with pytest.raises(ValueError, match="draws must be a positive integer, got 0"):
        gradient_quality(online.RTRL(), cell, params, xs, loss, draws=0)
    with pytest.raises(ValueError, match="3 draws need a key"):
        gradient_quality(online.UORO(), cell, params, xs, loss, draws=3)
    with pytest.raises(ValueError, match="UORO draws random signs: give a key"):
        gradient_quality(online.UORO(), cell, params, xs, loss)
