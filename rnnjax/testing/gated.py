"""Does a gated cell follow the protocol that the fast backward and the diagnostics rely on?"""

import jax
import jax.numpy as jnp

from rnnjax.cells.gated import GatedStep, is_gated
from rnnjax.cells.kernels import width
from rnnjax.testing.comparing import CellError, name, on_abstract_values, promise
from rnnjax.testing.problems import BATCH, Problem, at

FORMS = "dense [K, G*H], block-diagonal [N, K/N, G*H/N] or diagonal [G*H]"


def check_gated(problem: Problem) -> None:
    """Check gate names, the form of the recurrent kernel, and the width of what it multiplies."""
    cell = problem.cell
    if not (isinstance(cell, GatedStep) and is_gated(cell)):
        return
    names = cell.gate_names
    distinct = isinstance(names, tuple) and len(set(names)) == len(names) > 0
    if not distinct or not all(isinstance(gate, str) for gate in names):
        raise CellError(
            f"{name(cell)}.gate_names must be a tuple of distinct names, got {names!r}."
        )

    def check(params, xs, carry):
        ready = cell.prepare(params)
        u = cell.project(ready, at(xs, 0))
        with promise(f"{name(cell)}.recurrent_kernel must return U, {FORMS}"):
            kernel = cell.recurrent_kernel(ready)
        shape, gates = tuple(kernel.shape), len(names)
        if kernel.ndim not in (1, 2, 3) or shape[-1] % gates:
            raise CellError(
                f"{name(cell)}.recurrent_kernel must return U, {FORMS}, with G = {gates} gates; "
                f"got shape {shape}."
            )
        with promise(f"{name(cell)}.recurrent_input must return [*batch, K]"):
            a = cell.recurrent_input(carry, u)
        wanted = BATCH, width(kernel, gates)
        if a.shape != wanted:
            raise CellError(
                f"{name(cell)}.recurrent_input must return [*batch, K] = {wanted} for the "
                f"recurrent kernel of shape {shape}, got shape {a.shape}."
            )
        with promise(f"{name(cell)}.gates must take what elementwise, project and recur return"):
            after = cell.gates(cell.elementwise(ready), carry, u, cell.recur(ready, carry, u))
        _check_width(cell, carry, after)

    with jax.enable_x64(False):
        on_abstract_values(check, *problem.narrow)


def _check_width(cell, carry, after):
    """Check that no gate rounds the carry: `step` gives it its type back, not its digits."""
    if jax.tree.structure(carry) != jax.tree.structure(after):
        return  # what `step` returns is checked later
    pairs = zip(jax.tree_util.tree_leaves_with_path(carry), jax.tree.leaves(after), strict=True)
    for (path, a), b in pairs:
        floating = jnp.issubdtype(a.dtype, jnp.floating) and jnp.issubdtype(b.dtype, jnp.floating)
        if floating and jnp.finfo(b.dtype).bits < jnp.finfo(a.dtype).bits:
            raise CellError(
                f"{name(cell)}.gates must return a carry of the same types it received: at "
                f"{jax.tree_util.keystr(path)} it received {a.dtype} and returned {b.dtype}."
            )
