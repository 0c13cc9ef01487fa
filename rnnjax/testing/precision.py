"""Does the cell compute in bfloat16 with a carry in 32 bits?"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from rnnjax.recurrence.sequential import unroll
from rnnjax.testing.comparing import CellError, name
from rnnjax.testing.problems import narrow, with_types


def check_bfloat16(cell: Any, input_size: int, key: Array) -> None:
    """Check that bfloat16 inputs, and `dtype=bfloat16`, keep the carry's types and the outputs.

    Outputs may differ by a tenth of their largest value.
    """
    with jax.enable_x64(False):
        params, xs, carry = narrow(cell, input_size, key)
        exact = unroll(cell, params, xs, carry)[1]
        trials = {"bfloat16 inputs": (cell, xs.astype(jnp.bfloat16))}
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
            scale = float(jnp.abs(exact).max())
            error = float(jnp.abs(outputs.astype(exact.dtype) - exact).max())
            if not error <= 0.1 * scale:
                raise CellError(
                    f"With {trial} the outputs of {name(cell)} are off by {error:.2g}, over 10 % "
                    f"of their largest value {scale:.2g}."
                )
