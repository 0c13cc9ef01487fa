"""Linear recurrences s' = a s + b whose coefficients are known for all time steps.

Step by step they are a loop of one multiply-add. At once they are an associative scan,

    (a_2, b_2) after (a_1, b_1)  =  (a_2 a_1, a_2 b_1 + b_2),

in which T pairs take O(log T) operations one after the other. Complex numbers are pairs of reals.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from rnnjax.cells.linear import Linear
from rnnjax.recurrence.carries import probe_norm
from rnnjax.recurrence.custom_derivatives import with_backward
from rnnjax.recurrence.steps import Now

PyTree = Any


def scan_linear(
    cell: Linear,
    ready: PyTree,
    carry: PyTree,
    xs: PyTree,
    now: Now,
    shared: tuple[PyTree, Any],
    *,
    batch_ndim: int,
    reverse: bool,
    way: "Way",
    own_backward: bool,
) -> tuple[PyTree, PyTree]:
    """Return the final carry and the carries after each step, leaves `[T, *batch, ...]`.

    The options keep the recurrence linear. A step begins at s plus its perturbation; at a cut at
    the same number, without its gradient; at a reset at the reset carry. A step that is not taken
    ends where it begins. `way` and `own_backward` are as in `linear_scan`.
    """
    total = jax.tree.leaves(xs)[0].shape[0]
    starts, structure = jax.tree.flatten(carry)
    if not total:
        return carry, structure.unflatten([jnp.zeros((0, *s.shape), s.dtype) for s in starts])
    columns = [starts, *map(structure.flatten_up_to, cell.coefficients(ready, xs))]
    pairs = [_over_time(s, a, b, total) for s, a, b in zip(*columns, strict=True)]
    # A state that keeps nothing is b itself, at every step that is taken.
    anew_each_step = [now.valid is None and isinstance(a, float) and a == 0 for a in columns[1]]
    if now.valid is not None:
        pairs = [(_where(now.valid, a, 1, b), _where(now.valid, b, 0, b)) for a, b in pairs]
    added = _added(now, structure, pairs, batch_ndim)
    resets = None if now.reset is None else structure.flatten_up_to(shared[0])
    last = 0 if reverse else -1

    def states(starts, pairs, added, resets, at_cuts):
        found = []
        for i, (s, (a, b)) in enumerate(zip(starts, pairs, strict=True)):
            if anew_each_step[i]:
                found.append(b)
                continue
            begins = None if added is None else added[i]  # s_in = begins, or s + begins
            anew = None  # where s is not part of it
            if at_cuts is not None:
                begins, anew = _where(now.cut, at_cuts[i], begins, b), now.cut
            if resets is not None:
                begins = _where(now.reset, resets[i], begins, b)
                anew = now.reset if anew is None else anew | now.reset
            if begins is not None:
                b = b + a * begins
            if anew is not None:
                a = _where(anew, 0, a, b)
            found.append(linear_scan(a, b, s, reverse, way, own_backward=own_backward))
        return found

    given, at_cuts = (starts, pairs, added, resets), None
    if now.cut is not None:
        values = states(*lax.stop_gradient(given), None)
        at_cuts = [_shifted(v, s, reverse) for v, s in zip(values, starts, strict=True)]
        if added is not None:
            at_cuts = [s + p for s, p in zip(at_cuts, added, strict=True)]
        at_cuts = lax.stop_gradient(at_cuts)
    found = states(*given, at_cuts)
    return structure.unflatten([s[last] for s in found]), structure.unflatten(found)


def _over_time(s, a, b, total):
    """Return a and b with a leading T, in the type of the state; a may have axes of one."""
    a, shape = jnp.asarray(a, s.dtype), (total, *s.shape)
    a = a.reshape((1,) * (len(shape) - a.ndim) + a.shape)
    b = jnp.broadcast_to(jnp.asarray(b, s.dtype), shape)
    return jnp.broadcast_to(a, (total, *a.shape[1:])), b


def _where(flags, new, old, like):
    """Choose by flags `[T, *batch]` between what broadcasts to `like`; None is zero."""
    flags = flags.reshape(flags.shape + (1,) * (like.ndim - flags.ndim))
    return jnp.where(flags, new, 0 if old is None else old).astype(like.dtype)


def _added(now, structure, pairs, batch_ndim):
    """Return what perturbations and probe add to the states that enter, or None for nothing."""
    terms = [b for _, b in pairs]
    added = None
    if now.perturbation is not None:
        leaves = structure.flatten_up_to(now.perturbation)
        added = [p.astype(b.dtype) for p, b in zip(leaves, terms, strict=True)]
    if now.probe is not None:
        nothing = probe_norm([jnp.zeros_like(b) for b in terms], now.probe, batch_ndim + 1)
        added = nothing if added is None else [p + q for p, q in zip(added, nothing, strict=True)]
    return added


def _shifted(values, start, reverse):
    """Return the states that enter each step, of those after each and the first."""
    parts = [values[1:], start[None]] if reverse else [start[None], values[:-1]]
    return jnp.concatenate(parts)


class Way(NamedTuple):
    """One way to solve a recurrence, and its adjoint, which runs from the other end.

    Arguments are as in `linear_scan`, as lists of real parts.
    """

    solve: Callable  # (a, b, start, reverse) -> s with s_t = a_t s_{t-1} + b_t
    pull: Callable  # (a, g, reverse) -> d with d_t = g_t + a_{t+1} d_{t+1}, a conjugate


def linear_scan(
    a: Array, b: Array, start: Array, reverse: bool, way: Way, *, own_backward: bool
) -> Array:
    """Return s with s_t = a_t s_{t-1} + b_t along the leading axis.

    The gradient is the same recurrence from the other end, with g = dL/ds and conjugate factors:
    db_t = g_t + a_{t+1} db_{t+1} and da_t = db_t s_{t-1}.

    Args:
        a: `[T, ...]`, broadcasts to `b`.
        b: `[T, ...]`.
        start: `[...]`, the s before the first step.
        reverse: from the last step to the first.
        way: `STEP_BY_STEP`, `AT_ONCE` or `BY_PLATFORM`.
        own_backward: False for the gradient that JAX derives.
    """
    count = len(_parts(b))

    def split(floats):
        return floats[:count], floats[count : 2 * count], floats[2 * count :]

    def values(floats, others):
        del others
        return way.solve(*split(floats), reverse)

    def forward(floats, others, keep):
        del keep
        return values(floats, others), []

    def backward(floats, others, found, kept, cotangents):
        del others, kept
        a, _, start = split(floats)
        pairs = zip(found, cotangents, strict=True)
        by_terms = way.pull(a, [jnp.zeros_like(s) if g is None else g for s, g in pairs], reverse)
        entering = [_shifted(s, first, reverse) for s, first in zip(found, start, strict=True)]
        by_factors = map(_summed_like, _times(_conjugate(entering), by_terms), a)
        by_start = _times(_conjugate(_first(a, reverse)), _first(by_terms, reverse))
        return [*by_factors, *by_terms, *by_start]

    run = with_backward(values, values, forward, backward) if own_backward else values
    found = run([*_parts(a), *_parts(b), *_parts(start)], [])
    return found[0] if count == 1 else lax.complex(*found)


def _first(parts, reverse):
    return [x[-1 if reverse else 0] for x in parts]


def _steps(a, b, start, reverse):
    def step(s, now):
        a, b = now
        s = _plus(_times(a, s), b)
        return s, s

    return lax.scan(step, start, (a, b), reverse=reverse)[1]


def _steps_back(a, g, reverse):
    def step(passed, now):
        a, g = now
        adjoint = _plus(passed, g)
        return _times(_conjugate(a), adjoint), adjoint

    return lax.scan(step, [jnp.zeros_like(x[0]) for x in g], (a, g), reverse=not reverse)[1]


def _at_once(a, b, start, reverse):
    def after(first, second):
        (a, b), (c, d) = first, second
        return _times(c, a), _plus(_times(c, b), d)

    begin = _times(_first(a, reverse), start)
    b = [x.at[-1 if reverse else 0].add(y) for x, y in zip(b, begin, strict=True)]
    return lax.associative_scan(after, (a, b), reverse=reverse)[1]


def _at_once_back(a, g, reverse):
    ahead = [_shifted(x, jnp.zeros_like(x[0]), not reverse) for x in _conjugate(a)]
    return _at_once(ahead, g, [jnp.zeros_like(x[0]) for x in g], not reverse)


def _by_platform(cpu, default, *arguments):
    *arrays, reverse = arguments
    ways = {"cpu": cpu, "default": default}
    ways = {name: functools.partial(_last, way, reverse) for name, way in ways.items()}
    return lax.platform_dependent(*arrays, **ways)


def _last(function, last, *arguments):
    return function(*arguments, last)


STEP_BY_STEP = Way(_steps, _steps_back)
AT_ONCE = Way(_at_once, _at_once_back)
# A CPU has few cores: there a loop of multiply-adds takes a tenth of the time and compiles faster.
BY_PLATFORM = Way(*map(functools.partial, [_by_platform] * 2, STEP_BY_STEP, AT_ONCE))


def _parts(x):
    return [x.real, x.imag] if jnp.iscomplexobj(x) else [x]


def _conjugate(x):
    return [x[0], -x[1]] if len(x) == 2 else x


def _times(x, y):
    if len(x) == 1:
        return [x[0] * y[0]]
    return [x[0] * y[0] - x[1] * y[1], x[0] * y[1] + x[1] * y[0]]


def _plus(x, y):
    return [p + q for p, q in zip(x, y, strict=True)]


def _summed_like(x, like):
    """Return x, summed over the axes in which `like` was broadcast."""
    axes = [i for i, (n, m) in enumerate(zip(x.shape, like.shape, strict=True)) if n != m]
    return x.sum(axes, keepdims=True) if axes else x
