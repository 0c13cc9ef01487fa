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
    keys = [None] if key is None else jax.random.split(key, draws)
    carry = start_carry(cell, initial_carry, batch_shape(cell, xs), "initial_carry")
    run = functools.partial(_by_lag, method, cell, loss)
    sums, products = [jnp.zeros_like(g) for g in exact], []
    for own in keys:
        found = run(params, xs, carry, own)
        sums = [a + b for a, b in zip(sums, found, strict=True)]
        products.append(_products(found, exact))
    return _compared(dict(zip(paths, zip(exact, sums, strict=True), strict=True)), products)


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


@jax.jit
def _products(found, exact):
    """Return g^ . g and |g^|^2 of every leaf, `[T]`."""
    pairs = zip(found, exact, strict=True)
    return [(_dot(a, b), _dot(a, a)) for a, b in pairs]


def _dot(a, b):
    a, b = (flatten([x], 1) for x in (a, b))
    return jnp.sum(a * b, axis=-1)


def _compared(blocks, products):
    """Return the `GradientQuality` of all leaves together and of each."""
    count = len(products)
    dots = np.array([[np.asarray(d) for d, _ in p] for p in products])
    squares = np.array([[np.asarray(s) for _, s in p] for p in products])  # [M, leaves, T]
    exact = np.array([np.asarray(_dot(g, g)) for g, _ in blocks.values()])
    away = np.array([np.asarray(_dot(s / count - g, s / count - g)) for g, s in blocks.values()])
    mean = np.array([np.asarray(_dot(s / count, s / count)) for _, s in blocks.values()])
    parts = dots, squares, exact, away, mean
    found = {"all": _quality(count, *(a.sum(-2) for a in parts))}
    for i, name in enumerate(blocks):
        found[name] = _quality(count, *(a[..., i, :] for a in parts))
    return found


def _quality(count, dots, squares, exact, away, mean):
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = dots / exact
        cosines = np.where(squares > 0, dots / np.sqrt(squares * exact), 0)
        cosines = np.where(exact > 0, cosines, np.nan)
        variance = np.maximum(squares.mean(0) - mean, 0) * count / max(count - 1, 1)
        bias = np.sqrt(np.maximum(away - variance / count, 0) / exact)
        return GradientQuality(
            norm=np.sqrt(exact),
            share=shares.mean(0),
            share_error=_error(shares),
            bias=bias,
            variance=variance / exact,
            cosine=cosines.mean(0),
            cosine_error=_error(cosines),
            norm_ratio=np.sqrt(squares.mean(0) / exact),
        )


def _error(draws):
    return draws.std(0, ddof=min(1, len(draws) - 1)) / np.sqrt(len(draws))
