"""Broken promises as errors, and comparisons of whole pytrees that raise them."""

import contextlib
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

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


def on_abstract_values(check: Callable, *arguments: PyTree) -> None:
    """Run a check of shapes and types without computing, or with numbers if it fails so.

    A cell whose methods need numbers, in an `if` say, passes here; `check_purity` refuses it.
    """
    try:
        jax.eval_shape(lambda *arguments: check(*arguments), *arguments)
    except Exception:
        check(*arguments)


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


def weights(tree: PyTree) -> PyTree:
    """Return the gradient g of a real loss that depends on every floating entry, each in its way:

        L(z) = Re sum(g * z),   so that  dL/d(Re z) - i dL/d(Im z) = g

    The real and the imaginary part of a complex entry have different weights. Leaves of integers
    have none, as in JAX: theirs are of type `float0`.
    """

    def own(leaf):
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            return np.zeros(leaf.shape, jax.dtypes.float0)
        places = np.arange(math.prod(leaf.shape)).reshape(leaf.shape)
        weight = np.cos(places + 0.5)
        if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
            weight = weight - 1j * np.sin(places + 0.9)
        return weight.astype(leaf.dtype)

    return jax.tree.map(own, tree)


def weighted_sum(tree: PyTree) -> float:
    """Return L of `weights`, on the host."""
    pairs = zip(jax.tree.leaves(weights(tree)), jax.tree.leaves(tree), strict=True)
    return sum(float(np.sum(g * z).real) for g, z in pairs if g.dtype != jax.dtypes.float0)


def with_gradients(run: Callable) -> Callable:
    """Return a function with the results of `run`, by name, and the gradients of their `weights`.

    `run(params, xs, carry, **flags)` returns `(final_carry, outputs, carries)`; what is returned
    takes `flags` as a dictionary, and does not differentiate it.
    """

    def both(params, xs, carry, flags):
        results, pull = jax.vjp(
            lambda *arguments: named_results(run(*arguments, **flags)), params, xs, carry
        )
        return results | named_gradients(pull(weights(results)))

    return both


def named_results(results: tuple[PyTree, PyTree, PyTree]) -> dict[str, PyTree]:
    """Return `(final_carry, outputs, carries)` by the names that messages use."""
    return dict(zip(("final carry", "outputs", "carries"), results, strict=True))


def named_gradients(gradients: tuple[PyTree, PyTree, PyTree]) -> dict[str, PyTree]:
    """Return the gradients of the parameters, the inputs and the carry by such names."""
    names = ("parameters", "inputs", "carry")
    return {f"gradient of the {n}": g for n, g in zip(names, gradients, strict=True)}
