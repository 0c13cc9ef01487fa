"""Gradients of kernels: one large product for all steps of a chunk."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import jaxpr_as_fun, primitives
from jaxtyping import Array

from rnnjax.cells.kernels import TIMES_KERNEL, matmul, transposed
from rnnjax.recurrence.jaxprs import evaluated


def kernel_gradient(a: Array, dv: Array, kernel: Array, gates: int, dtype: Any) -> Array:
    """Return the gradient of a kernel, summed over time and batch.

    Args:
        a: what was multiplied, `[T, *batch, K]`.
        dv: cotangents of the product, the G gates side by side, `[T, *batch, G*H]`.
        kernel: dense, block-diagonal or diagonal, as in `rnnjax.cells.kernels`.
        gates: G.
        dtype: in which the product was computed.
    """
    if kernel.ndim == 2:
        return outer(a, dv, dtype)
    blocks = dv.reshape(*dv.shape[:-1], gates, -1)
    over = tuple(range(a.ndim - 1))
    if kernel.ndim == 1:
        return (a[..., None, :] * blocks).sum(over).reshape(-1)
    heads = kernel.shape[0]
    a = a.reshape(*a.shape[:-1], heads, -1)
    blocks = blocks.reshape(*blocks.shape[:-1], heads, -1)
    kind = None if dtype is None else dv.dtype
    if dtype is not None:
        a, blocks = a.astype(dtype), blocks.astype(dtype)
    found = jnp.einsum("...nk,...gnm->nkgm", a, blocks, preferred_element_type=kind)
    return found.reshape(kernel.shape)


def outer(rows: Array, cotangents: Array, dtype: Any) -> Array:
    """Return the gradient of W in `rows W`, summed over time and batch.

    The rows are transposed beforehand: then it is the same kernel as the other matmuls, and up to
    four times faster.
    """
    kind = None if dtype is None else cotangents.dtype
    if dtype is not None:
        rows, cotangents = rows.astype(dtype), cotangents.astype(dtype)
    rows = lax.optimization_barrier(jnp.moveaxis(rows, -1, 0))
    return jnp.tensordot(rows, cotangents, rows.ndim - 1, preferred_element_type=kind)


def with_outer(function: Callable) -> Callable:
    """Return `function`, whose calls of `rnnjax.cells.kernels.matmul` have `outer` as gradient."""

    def handle(equation, inputs):
        if equation.primitive is not primitives.jit_p:
            return None
        if equation.params["name"] != TIMES_KERNEL:
            return None
        closed = equation.params["jaxpr"]
        (dot,) = (e for e in closed.jaxpr.eqns if e.primitive is primitives.dot_general_p)
        dtype = dot.invars[0].aval.dtype
        dtype = None if dtype == jnp.result_type(*inputs) else dtype
        return [_product(jaxpr_as_fun(closed), dtype, *inputs)]

    return evaluated(function, handle)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _product(run, dtype, x, kernel):
    del dtype
    return run(x, kernel)[0]


def _product_forward(run, dtype, x, kernel):
    return _product(run, dtype, x, kernel), (x, kernel)


def _product_backward(run, dtype, saved, cotangent):
    del run
    x, kernel = saved
    dx = matmul(cotangent, transposed(kernel), dtype)
    return dx.astype(x.dtype), outer(x, cotangent, dtype).astype(kernel.dtype)


_product.defvjp(_product_forward, _product_backward)
