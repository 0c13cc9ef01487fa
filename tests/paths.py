"""Every way to run a cell of the tests: the fast path, a plain scan, and a loop in Python."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from own_cells import D

import rnnjax
from rnnjax.cells import Stochastic
from rnnjax.cells.gated import is_gated

KEY = jax.random.key(0)
T, B = 7, 2


def without_fast_path(cell):
    """Return an equal cell that overrides `step`, so that it takes the plain scan."""
    kind = type(cell)
    own = type(f"Plain{kind.__name__}", (kind,), {"step": lambda self, *a: kind.step(self, *a)})
    plain = own(
        **{f.name: getattr(cell, f.name) for f in dataclasses.fields(cell) if f.name != "_"}
    )
    assert is_gated(cell) and not is_gated(plain)
    return plain


def problem(cell, seed=0, dtype=jnp.float64):
    """Return parameters, inputs, noise included, and a carry away from special values."""
    keys = iter(jax.random.split(jax.random.key(seed), 50))

    def noisy(a, scale):
        if not jnp.issubdtype(a.dtype, jnp.inexact):
            return a
        wide = jnp.promote_types(a.dtype, dtype) if dtype == jnp.float64 else a.dtype
        return a.astype(wide) + scale * jax.random.normal(next(keys), a.shape, wide)

    params = jax.tree.map(lambda p: noisy(p, 0.1), cell.init(KEY, D))
    carry = jax.tree.map(lambda c: noisy(c, 0.1), cell.initial_carry((B,)))
    xs: Any = jax.random.normal(next(keys), (T, B, *cell.input_shape(D)), dtype)
    if isinstance(cell, Stochastic):
        xs = cell.with_noise(KEY, xs)
    return params, xs, carry


def python_loop(cell, params, xs, carry):
    ready, outputs, carries = cell.prepare(params), [], []
    for t in range(T):
        u = cell.project(ready, jax.tree.map(lambda x, t=t: x[t], xs))
        carry = cell.step(ready, carry, u)
        outputs.append(cell.output(carry))
        carries.append(carry)
    return carry, jnp.stack(outputs), jax.tree.map(lambda *leaves: jnp.stack(leaves), *carries)


def everything(run, params, xs, carry):
    """Return the values, and the gradients of a loss that weighs every entry of them."""

    def loss(*arguments):
        values = run(*arguments)
        leaves = [a for a in jax.tree.leaves(values) if jnp.issubdtype(a.dtype, jnp.inexact)]
        leaves = [part for a in leaves for part in (jnp.real(a), jnp.imag(a))]
        terms = [jnp.sum(a * jnp.cos(jnp.arange(a.size).reshape(a.shape))) for a in leaves]
        return sum(terms), values

    gradients, values = jax.grad(loss, (0, 1, 2), has_aux=True, allow_int=True)(params, xs, carry)
    leaves = jax.tree.leaves((values, gradients))
    return [a for a in leaves if a.dtype != jax.dtypes.float0]


def unrolled(cell, **options):
    return jax.jit(
        functools.partial(
            everything, functools.partial(rnnjax.unroll, cell, return_carries=True, **options)
        )
    )


def uses_fast_path(cell, *arguments):
    """Return whether gradients are those of gated cells; a linear cell's loop has its own."""

    def loss(params):
        return jnp.sum(jnp.abs(rnnjax.unroll(cell, params, *arguments[1:])[1]) ** 2)

    if isinstance(cell, rnnjax.Linear):
        return False
    return "pull_back" in str(jax.make_jaxpr(jax.grad(loss, allow_int=True))(arguments[0]))
