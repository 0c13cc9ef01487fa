"""Broken promises as errors, and comparisons of whole pytrees that raise them."""

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

PyTree = Any


class CellError(AssertionError):
    """The promise that a cell broke, in one sentence."""


def name(cell: Any) -> str:
    """Return the name of the cell's class."""
    return type(cell).__name__


def reason(error: BaseException) -> str:
    """Return an exception as its type and the first line of its message."""
    lines = str(error).strip().split("\n")
    return f"{type(error).__name__}: {lines[0]}".removesuffix(": ")


@contextlib.contextmanager
def promise(sentence: str):
    """Raise a CellError `sentence (Type: message)` where the body raises another exception."""
    try:
        yield
    except CellError:
        raise
    except Exception as error:
        raise CellError(f"{sentence} ({reason(error)}).") from error


def same(got: PyTree, want: PyTree, tolerance: float | int, problem: str) -> None:
    """Raise a CellError with the place and size of the first difference beyond `tolerance`.

    max |a - b| <= tolerance * max(1, max |b|)   for each leaf
    """
    if jax.tree.structure(got) != jax.tree.structure(want):
        raise CellError(f"{problem} (the structures differ).")
    leaves = jax.tree_util.tree_leaves_with_path(got)
    for (path, a), b in zip(leaves, jax.tree.leaves(want), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        if a.dtype == jax.dtypes.float0:
            continue
        where = f" at {jax.tree_util.keystr(path)}" if path else ""
        if a.shape != b.shape:
            raise CellError(f"{problem}{where} (shapes {a.shape} and {b.shape}).")
        a, b = a.astype(np.complex128), b.astype(np.complex128)
        error = np.max(np.abs(a - b), initial=0)
        if not error <= tolerance * max(1.0, np.max(np.abs(b), initial=0)):
            raise CellError(f"{problem}{where} (by {error:.2g}).")


def weighted_sum(tree: PyTree) -> Array:
    """Return a real scalar that depends on every floating entry, each with its own weight.

    The real and the imaginary part of a complex entry have different weights.
    """
    total = jnp.zeros(())
    for leaf in jax.tree.leaves(tree):
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            continue
        places = np.arange(leaf.size).reshape(leaf.shape)
        total += jnp.sum(leaf.real * np.cos(places + 0.5))
        if jnp.iscomplexobj(leaf):
            total += jnp.sum(leaf.imag * np.sin(places + 0.9))
    return total


def with_gradients(run: Callable) -> Callable:
    """Return a function with the results of `run`, by name, and the gradients of a sum of them.

    `run(params, xs, carry)` returns `(final_carry, outputs, carries)`.
    """

    def loss(params, xs, carry):
        final, outputs, carries = run(params, xs, carry)
        results = {"final carry": final, "outputs": outputs, "carries": carries}
        return weighted_sum(results), results

    def both(params, xs, carry):
        (_, results), gradients = jax.value_and_grad(loss, (0, 1, 2), has_aux=True, allow_int=True)(
            params, xs, carry
        )
        names = "gradient of the parameters", "gradient of the inputs", "gradient of the carry"
        return results | dict(zip(names, gradients, strict=True))

    return both
