"""Does the carry keep its types, and does the cell compute in bfloat16?"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax.recurrence.options import settle_dtypes
from rnnjax.recurrence.sequential import unroll
from rnnjax.testing.comparing import CellError, name
from rnnjax.testing.problems import Problem, on_host, with_types

PyTree = Any
TYPES = {  # of parameters and inputs
    "bfloat16 parameters and float32 inputs": (jnp.bfloat16, jnp.float32),
    "float32 parameters and float64 inputs": (jnp.float32, jnp.float64),
}


def check_bfloat16(problem: Problem) -> None:
    """Check that bfloat16 inputs, and `dtype=bfloat16`, keep the carry's types and the outputs.

    Outputs may differ by a tenth of their largest value; those of spikes, of a cell with surrogate
    slopes, by anything.
    """
    cell, spikes = problem.cell, problem.cell.surrogate_gradient
    with jax.enable_x64(False):
        params, xs, carry = problem.narrow
        exact = np.asarray(unroll(cell, params, xs, carry)[1])
        rounded = jax.tree.map(lambda x: jnp.asarray(x.astype(jnp.bfloat16)), on_host(xs))
        trials = {"bfloat16 inputs": (cell, rounded)}
        if dataclasses.is_dataclass(cell) and (low := with_types(cell, dtype=jnp.bfloat16)) != cell:
            trials["dtype=bfloat16"] = (low, xs)
        for trial, (low, inputs) in trials.items():
            final, outputs = unroll(low, params, inputs, carry)
            leaves = jax.tree_util.tree_leaves_with_path(final)
            for (path, got), want in zip(leaves, jax.tree.leaves(carry), strict=True):
                if got.dtype != want.dtype:
                    raise CellError(
                        f"With {trial} and float32 parameters the carry of {name(cell)} becomes "
                        f"{got.dtype} at {jax.tree_util.keystr(path)} instead of {want.dtype}."
                    )
            if spikes:
                continue
            scale = float(np.abs(exact).max())
            error = float(np.abs(np.asarray(outputs).astype(exact.dtype) - exact).max())
            if not error <= 0.1 * scale:
                raise CellError(
                    f"With {trial} the outputs of {name(cell)} are off by {error:.2g}, over 10 % "
                    f"of their largest value {scale:.2g}."
                )


def check_types(problem: Problem) -> None:
    """Check that the carry keeps its types, whatever those of the parameters and the inputs.

    So a `lax.scan` over `step` may carry it, and a layer returns the carry that it takes.
    """
    cell = problem.cell
    for what, (of_params, of_inputs) in TYPES.items():
        typed = with_types(cell, param_dtype=of_params)
        with jax.enable_x64(False):
            draw = functools.partial(_drawn, typed, problem.input_size, of_params)
            params, start = _abstract(draw, problem.key)
        with jax.enable_x64(True):
            xs, alike = (problem.inputs((1,), kind) for kind in (of_inputs, of_params))
            try:
                carry = jax.eval_shape(functools.partial(_settled, typed), params, alike, start)
            except Exception:  # such as a decomposition in `prepare` that knows no bfloat16
                continue
            after = jax.eval_shape(functools.partial(_stepped, typed), params, xs, carry)
            leaves = jax.tree_util.tree_leaves_with_path(after)
            for (path, got), want in zip(leaves, jax.tree.leaves(carry), strict=True):
                where = jax.tree_util.keystr(path)
                if got.dtype != want.dtype:
                    raise CellError(
                        f"{name(cell)}.step must return a carry of the types it received, whatever "
                        f"those of parameters and inputs: with {what} it received {want.dtype} and "
                        f"returned {got.dtype} at {where}, so lax.scan cannot carry it; write "
                        f".astype(carry{where}.dtype)."
                    )


def _drawn(cell, input_size, dtype, key):
    params = jax.tree.map(lambda p: _real_in(p, dtype), cell.init(key, input_size))
    return params, cell.initial_carry(())


def _abstract(draw, key):
    """Return shapes and types alone, unless `init` needs the numbers of its key."""
    try:
        return jax.eval_shape(draw, key)
    except Exception:
        return draw(key)


def _real_in(leaf, dtype):
    return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf


def _settled(cell, params, xs, carry):
    return settle_dtypes(cell, cell.prepare(params), xs, carry)


def _stepped(cell, params, xs, carry):
    ready = cell.prepare(params)
    return cell.step(ready, carry, cell.project(ready, jax.tree.map(lambda x: x[0], xs)))
