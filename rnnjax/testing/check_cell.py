"""`check_cell(cell, input_size)`, which the authors of cells call in their own tests."""

from typing import Any

import jax

from rnnjax.testing import derivatives, gated, methods, precision, unrolled, values
from rnnjax.testing.comparing import CellError, name, reason
from rnnjax.testing.problems import Problem

CHECKS = (
    ("is a value", values.check_value),
    ("says the shape of its inputs", values.check_input_shape),
    ("draws its parameters", values.check_init),
    ("takes any batch", methods.check_inputs),
    ("follows the protocol of gated cells", gated.check_gated),
    ("keeps the types of its carry", methods.check_steps),
    ("has pure methods", methods.check_purity),
    ("treats each example and each step by itself", methods.check_batches),
    ("equals a Python loop", unrolled.check_loop),
    ("has the right gradients", derivatives.check_finite_differences),
    ("ignores padding", unrolled.check_padding),
    ("works in bfloat16", precision.check_bfloat16),
    ("carries what it started with", precision.check_types),
    ("compiles once", unrolled.check_compiles_once),
)


def check_cell(cell: Any, input_size: Any, *, seed: int = 0) -> None:
    """Check that a cell keeps every promise that `rnnjax.unroll` and the diagnostics rely on.

    In this order:

    1. It is a hashable value; `input_shape` ends in D; `init` is a function of its key and returns
       floating or complex arrays.
    2. A gated cell's `recurrent_input` fits its `recurrent_kernel` (dense, block-diagonal or
       diagonal).
    3. Every method takes any batch shape. `step` returns a carry of the same structure, shapes and
       types as it received. `output` returns `[*batch, output_size]`, or `[*batch, ...,
       output_size]`.
    4. `prepare`, `project`, `step` and `output` are pure functions, with `jax.jit` and without, and
       mix neither examples nor time steps.
    5. `unroll` equals `python_loop` in values and gradients under every option.
    6. Gradients with respect to every leaf of the parameters, inputs and carry equal float64 finite
       differences, for complex arrays along real and imaginary directions. (Not those of a cell
       with `surrogate_gradient`.)
    7. Padding, NaN included, changes nothing; bfloat16 works with a carry in 32 bits; the carry
       keeps its types with bfloat16 parameters or float64 inputs; a second call with an equal cell
       does not compile again.

    Takes seconds. Carries and parameters may hold complex arrays, carries also integers.

    Args:
        cell: the cell, a `rnnjax.Cell`; keep it small (5 features, say).
        input_size: D of the random inputs, which have the cell's `input_shape(D)`; for a cell whose
            inputs are a pytree, the pytree of their sizes, such as `{"value": 3, "mask": 3}`.
        seed: of the random parameters and inputs.

    Raises:
        CellError: (an AssertionError) the first broken promise, in one sentence.
    """
    problem = Problem(cell, input_size, jax.random.key(seed))
    for what, check in CHECKS:
        try:
            check(problem)
        except CellError:
            raise
        except Exception as error:
            raise CellError(
                f"{name(cell)} fails the check that it {what}: {reason(error)}"
            ) from error
