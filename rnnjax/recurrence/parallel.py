"""Run a linear cell over all time steps at once: `unroll_parallel`."""

from typing import Any, Literal

from rnnjax.cells.base import Cell
from rnnjax.cells.linear import Linear
from rnnjax.recurrence.running import checked_and_run

PyTree = Any


def unroll_parallel(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    initial_carry: PyTree = None,
    *,
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
) -> tuple[PyTree, ...]:
    """Run a `Linear` cell over the leading axis of `xs`, by an associative scan over time:

        (a_t, b_t) = coefficients(ready, x_t),   s_{t+1} = a_t s_t + b_t,   y_t = output(s_{t+1})

    Values and gradients are those of `unroll`, whose arguments these are. T steps take O(log T)
    operations one after the other, where `unroll` takes T; there are about twice as many in all. It
    pays on accelerators, and for long sequences. The gradient is such a scan as well. On a CPU,
    whose few cores would take many times as long for it, both are a loop over the steps.

    Args:
        cell: a `Linear` cell.
        checkpoint_every: run k steps at once, chunk after chunk, and keep only the carry between
            two chunks for the backward pass, which computes each chunk again. Without it, a and b
            of all T steps are in memory together.
        others: as in `unroll`. There is no `clip_adjoints`: clipping makes the backward recurrence
            one that is not linear.

    Returns:
        As `unroll`.

    Raises:
        TypeError: the cell is not `Linear`; others as in `unroll`.
        ValueError: as in `unroll`.

    Sources: Blelloch 1990, "Prefix sums and their applications"; Martin, Cundy 2018, "Parallelizing
    linear recurrent neural nets over sequence length", arXiv:1709.04057.
    """
    if isinstance(cell, Cell) and not isinstance(cell, Linear):
        raise TypeError(
            f"cell must be an rnnjax.Linear, got {type(cell).__name__}; rnnjax.unroll runs any cell"
        )
    return checked_and_run(
        cell,
        params,
        xs,
        initial_carry,
        parallel=True,
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
