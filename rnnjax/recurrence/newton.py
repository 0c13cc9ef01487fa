"""Run any cell over all time steps at once, by Newton's method: `unroll_newton`."""

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp

from rnnjax.cells.base import Cell, check_size
from rnnjax.recurrence.inputs import batch_shape
from rnnjax.recurrence.newton_solve import Newton, NewtonReport
from rnnjax.recurrence.running import checked_and_run

__all__ = ["NewtonReport", "unroll_newton"]

PyTree = Any


def unroll_newton(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    initial_carry: PyTree = None,
    *,
    tolerance: float | int = 1e-6,
    max_iterations: int = 100,
    jacobian: Literal["dense", "diagonal"] = "dense",
    damping: float | int = 0.0,
    guess: PyTree = None,
    seq_lengths: Any = None,
    mask: Any = None,
    masked_output: Any = None,
    resets: Any = None,
    reset_carry: PyTree = None,
    reverse: bool = False,
    checkpoint_every: int | Literal["sqrt"] | None = None,
    truncate_every: int | None = None,
    perturbations: PyTree = None,
    norm_probe: Any = None,
    return_carries: bool = False,
) -> tuple[Any, ...]:
    """Run any cell over the leading axis of `xs`, all time steps at once, by Newton's method:

        f_t(s) = step(ready, s, project(ready, x_t)),   A_t = df_t/ds at s*_{t-1}
        s_t = f_t(s*_{t-1}) + A_t (s_{t-1} - s*_{t-1})   for all t,   then s* = s, until
        max_t |f_t(s_{t-1}) - s_t| <= tolerance max_t |s_t|

    Each iteration linearises all steps around a guess of the states and solves the linear
    recurrence by an associative scan over time. Where it converges, values and gradients are those
    of `unroll`, whose arguments these are. How many iterations it takes is governed by the largest
    Lyapunov exponent: few while it is negative, up to T beyond
    (`rnnjax.diagnostics.newton_forecast`). It pays on accelerators, for long sequences, if at all.

    An iteration with dense Jacobians costs O(T N^3) work and O(T N^2) memory for a carry of N
    numbers, and O(log T) operations one after the other. Cells in which each unit sees only itself
    (`IndRNN`, `ParaGRU`, `ParaLSTM`) have exact Jacobians in blocks of one number for each leaf,
    which are found and solved elementwise. With `jacobian="diagonal"` other cells are solved with
    approximate ones: of a gated cell, those of the diagonal of its recurrent kernel; of any other,
    the diagonal. They are cheap to solve with and take more iterations.

    The gradient is that of the solution, whatever found it: one linear recurrence with the exact
    Jacobians, by the same scan. With `jacobian="diagonal"` it is solved step by step, unless the
    exact Jacobians are those of single units. Where the method has not converged, neither values
    nor gradients are those of `unroll`: look at the report.

    Args:
        tolerance: the largest residual that counts as converged, in units of the state's scale.
        max_iterations: of each chunk. Exact Newton needs at most T, in exact arithmetic.
        jacobian: "dense" for exact Newton, "diagonal" for the approximation.
        damping: 0 for Newton's step; a positive number for that of Levenberg and Marquardt, which
            minimises |d_t - A_t d_{t-1} - r_t|^2 + damping |d_t|^2 over the changes d of all
            states, with residuals r: its changes are bounded by those of the residuals over
            sqrt(damping), so they cannot blow up where products of A do, and it takes more
            iterations elsewhere.
        guess: the states after each step to start from, leaves `[T, *batch, ...]` as the carries of
            `unroll`, such as those of the last training step; None means s_0 at every step.
        checkpoint_every: solve k steps at once, chunk after chunk, so that memory is that of k
            steps; the backward pass solves each chunk again.
        others: as in `unroll`. There is no `clip_adjoints`: clipping makes the backward recurrence
            one that is not linear.

    Returns:
        `(final, outputs, report)`, or `(final, outputs, carries, report)` with `return_carries`;
        the first three as `unroll` returns them. `report.iterations`, `report.residual` and
        `report.converged` are arrays `[*batch]`.

    Raises:
        TypeError: the carry has integer leaves, which have no derivative; or as in `unroll`.
        ValueError: an argument is out of range, or as in `unroll`.

    Sources: Lim et al. 2024, "Parallelizing non-linear sequential models over the sequence length",
    arXiv:2309.12252; Gonzalez et al. 2024, "Towards scalable and stable parallelization of
    nonlinear RNNs", arXiv:2407.19115 (diagonal and damped); Danieli et al. 2025, "ParaRNN",
    arXiv:2510.21450 (blocks of units).
    """
    for name, value, lowest in (("tolerance", tolerance, "positive"), ("damping", damping, "")):
        number = isinstance(value, (int, float)) and math.isfinite(value) and value >= 0
        if not number or (lowest and not value):
            allowed = "a positive number" if lowest else "a number, at least 0"
            raise ValueError(f"{name} must be {allowed}, got {value!r}")
    if jacobian not in ("dense", "diagonal"):
        raise ValueError(f'jacobian must be "dense" or "diagonal", got {jacobian!r}')
    check_size("max_iterations", max_iterations)
    if isinstance(cell, Cell):
        start = jax.eval_shape(lambda: cell.initial_carry(batch_shape(cell, xs)))
        for leaf in jax.tree.leaves(start):
            if not jnp.issubdtype(leaf.dtype, jnp.inexact):
                raise TypeError(
                    f"unroll_newton needs a carry of floating or complex leaves; that of "
                    f"{type(cell).__name__} has one of {leaf.dtype}; rnnjax.unroll runs any cell"
                )
    (final, report), *found = checked_and_run(
        cell,
        params,
        xs,
        initial_carry,
        parallel=False,
        newton=Newton(jacobian, float(tolerance), float(damping), int(max_iterations)),
        guess=guess,
        seq_lengths=seq_lengths,
        mask=mask,
        masked_output=masked_output,
        resets=resets,
        reset_carry=reset_carry,
        reverse=reverse,
        unroll=1,
        checkpoint_every=checkpoint_every,
        truncate_every=truncate_every,
        clip_adjoints=None,
        perturbations=perturbations,
        norm_probe=norm_probe,
        return_carries=return_carries,
    )
    return final, *found, report
