"""What a method that goes forward in time keeps of the gradient, lag by lag."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from rnnjax.cells.base import Cell, check_size
from rnnjax.diagnostics.linear import precise
from rnnjax.diagnostics.parameter_gradients import parameter_gradient_by_lag
from rnnjax.online.base import Method
from rnnjax.recurrence.carries import flatten, partition
from rnnjax.recurrence.inputs import batch_shape
from rnnjax.recurrence.options import settle_dtypes, start_carry

PyTree = Any


class GradientQuality(NamedTuple):
    """How a method's gradients g^_k compare with the exact g_k at the lags k = 1 .. T, `[T]`.

    Relative to |g_k|, so NaN where that is zero. Expectations are over draws.
    """

    norm: Any  # |g_k|
    share: Any  # E (g^_k . g_k) / |g_k|^2, one for the whole gradient
    share_error: Any  # its standard error
    bias: Any  # |E g^_k - g_k| / |g_k|, without what the finite number of draws adds on average
    variance: Any  # E |g^_k - E g^_k|^2 / |g_k|^2
    cosine: Any  # E of the cosine between g^_k and g_k; zero where g^_k is zero
    cosine_error: Any  # its standard error
    norm_ratio: Any  # (E |g^_k|^2)^(1/2) / |g_k|


class MeanShare(NamedTuple):
    """The share of a gradient that a method keeps, over networks, by lag; NaN where few count."""

    mean: Any  # [T]
    error: Any  # its standard error, [T]
    count: Any  # networks that count, [T]


def mean_share(quality: GradientQuality, rounding: float = 0.0) -> MeanShare:
    """Return the mean over networks of the share that a method keeps, and its standard error.

        mean = sum over i of share_i / n,   error^2 = sum over i of (share_i - mean)^2 / (n (n - 1))

    or, where each network's share is a mean over draws, sum over i of error_i^2 / n^2: the error
    that comes from draws alone. It is the one by which a method without bias may be off.

    Args:
        quality: of S networks, entries `[S, T]`, such as "all" of a vmapped `gradient_quality`.
        rounding: a network does not count at lags where |g_k| is at most this share of its largest
            |g_k|, since what a method has of such a gradient is rounding.

    Returns:
        A `MeanShare`, NaN at lags where not more than half of the networks count, or only one.
    """
    norm, share, errors = (np.asarray(quality[i]) for i in range(3))
    above = norm > rounding * norm.max(1, keepdims=True)
    count = above.sum(0)
    n = np.where((2 * count > len(above)) & (count > 1), count, np.nan)
    share, errors = (np.where(above, a, 0) for a in (share, errors))
    mean = share.sum(0) / n
    if errors.any():
        return MeanShare(mean, np.sqrt((errors**2).sum(0)) / n, count)
    squares = np.where(above, share - mean, 0) ** 2
    return MeanShare(mean, np.sqrt(squares.sum(0) / (n * (n - 1))), count)


@precise
def gradient_quality(
    method: Method,
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    loss: Callable[[Array], Array],
    key: Array | None = None,
    *,
    draws: int = 1,
    initial_carry: PyTree = None,
) -> dict[str, GradientQuality]:
    """Return how good a method's gradient of a loss at the last step is, by lag and parameter.

        dL/dtheta = sum over lags k of g_k,   g_k = (d s_{t+1} / d theta)^T dL/ds_{t+1},   t = T - k

    with the first factor at fixed s_t: the last step has lag 1. g^_k is the part of the method's
    gradient that comes from step T - k, its derivative with respect to the weight of that step in
    ds/dtheta. The parts add up to the method's gradient.

    Args:
        method: such as `online.UORO()`.
        cell, params, xs, initial_carry: as for `rnnjax.unroll`, xs `[T, *batch, D]`. Gradients are
            summed over the batch.
        loss: a function of the last outputs `[*batch, H]` to a scalar.
        key: for methods that draw numbers.
        draws: M, how often the method draws them anew. Others need one.

    Returns:
        A `GradientQuality` for "all" parameters together, and for each by its path, such as
        "recurrent_kernel". Takes T passes forward for each draw, side by side.

    It can be transformed: `jax.jit(jax.vmap(...))` over parameters, inputs and keys measures many
    networks in one program.

    Raises:
        ValueError: a shape does not fit, as for `unroll`, or `draws` is not a positive integer, or
            needs a key.
        TypeError: the method cannot serve the cell; what it needs.

    Source: Marschall, Cho, Savin 2020, "A unified framework of online learning algorithms for
    training recurrent neural networks", JMLR 21, compares whole gradients in this way.
    """
    check_size("draws", draws)
    if key is None and draws > 1:
        raise ValueError(f"{draws} draws need a key: key=jax.random.key(0)")
    exact = parameter_gradient_by_lag(cell, params, xs, lambda ys: loss(ys[-1]), initial_carry)
    exact = jax.tree.map(lambda g: g[::-1], partition(exact, like=params)[0])
    paths = [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        if jnp.issubdtype(leaf.dtype, jnp.inexact)
    ]
    keys = None if key is None else jax.random.split(key, draws)
    carry = start_carry(cell, initial_carry, batch_shape(cell, xs), "initial_carry")
    found = _over_draws(method, cell, loss, params, xs, carry, keys, exact)
    return dict(zip(("all", *paths), found, strict=True))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _over_draws(method, cell, loss, params, xs, carry, keys, exact):
    """Return the `GradientQuality` of all leaves together, and of each."""

    def one(sums, own):
        found = _by_lag(method, cell, loss, params, xs, carry, own)
        return [a + b for a, b in zip(sums, found, strict=True)], _products(found, exact)

    zeros = [jnp.zeros_like(g) for g in exact]
    sums, products = lax.scan(one, zeros, keys, length=1 if keys is None else len(keys))
    return _compared(exact, sums, products)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _by_lag(method, cell, loss, params, xs, carry, key):
    """Return the parts of the method's gradient, leaves `[T, ...]`, lag 1 first."""
    total = jax.tree.leaves(xs)[0].shape[0]
    carry = settle_dtypes(cell, cell.prepare(params), xs, carry)
    last = jax.tree.map(lambda x: x[-1], xs)
    traces = method.init(cell, params, carry, last, key)

    def run(weights):
        def one(state, now):
            x, weight = now
            return method.step(cell, params, *state, x, weight), None

        final, kept = lax.scan(one, (carry, traces), (xs, weights))[0]
        slope = jax.grad(lambda s: loss(cell.output(s)), allow_int=True)(final)
        found = method.gradient(cell, params, final, kept, last, slope)
        return partition(found, like=params)[0]

    type_ = jnp.result_type(*partition(params)[0])
    ones = jnp.ones(total, jnp.finfo(type_).dtype)
    moved = jnp.eye(total, dtype=ones.dtype)[::-1]
    return jax.vmap(lambda way: jax.jvp(run, (ones,), (way,))[1])(moved)


def _products(found, exact):
    """Return g^ . g and |g^|^2 of every leaf, `[leaves, T]`."""
    return _dots(found, exact), _dots(found, found)


def _dots(some, others):
    """Return the product of each pair of leaves at each lag, `[leaves, T]`."""
    pairs = [[flatten([x], 1) for x in pair] for pair in zip(some, others, strict=True)]
    return jnp.stack([jnp.sum(a * b, axis=-1) for a, b in pairs])


def _compared(exact, sums, products):
    """Return the `GradientQuality` of all leaves together, and of each."""
    dots, squares = products  # [M, leaves, T]
    means = [s / len(dots) for s in sums]
    away = [a - b for a, b in zip(means, exact, strict=True)]
    parts = dots, squares, _dots(exact, exact), _dots(away, away), _dots(means, means)
    leaves = [[a[..., i, :] for a in parts] for i in range(len(exact))]
    return [_quality(*(a.sum(-2) for a in parts)), *(_quality(*own) for own in leaves)]


def _quality(dots, squares, exact, away, mean):
    count = len(dots)
    shares = dots / exact
    cosines = jnp.where(squares > 0, dots / jnp.sqrt(squares * exact), 0)
    cosines = jnp.where(exact > 0, cosines, jnp.nan)
    variance = jnp.maximum(squares.mean(0) - mean, 0) * count / max(count - 1, 1)
    bias = jnp.sqrt(jnp.maximum(away - variance / count, 0) / exact)
    return GradientQuality(
        norm=jnp.sqrt(exact),
        share=shares.mean(0),
        share_error=_error(shares),
        bias=bias,
        variance=variance / exact,
        cosine=cosines.mean(0),
        cosine_error=_error(cosines),
        norm_ratio=jnp.sqrt(squares.mean(0) / exact),
    )


def _error(draws):
    return draws.std(0, ddof=min(1, len(draws) - 1)) / len(draws) ** 0.5
