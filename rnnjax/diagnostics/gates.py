"""Gates: their values over time, mean, saturation, and the half-life of the state they keep."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rnnjax.cells.base import Cell
from rnnjax.cells.gated import is_gated
from rnnjax.diagnostics.linear import precise, run
from rnnjax.diagnostics.tracing import named_values

PyTree = Any
LOW, HIGH = 0.1, 0.9


class GateStatistics(NamedTuple):
    """What `gate_statistics` returns, over all steps and examples."""

    mean: Any  # [H]
    low: Any  # [H], fraction of the time below 0.1
    high: Any  # [H], fraction of the time above 0.9
    half_life: Any  # [H], ln 0.5 / ln mean, in steps; meaningful for a gate that keeps the state
    counts: Any  # [bins], over all units
    edges: Any  # [bins + 1], from 0 to 1


@precise
def gates(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    initial_carry: PyTree = None,
    *,
    names: Sequence[str] | None = None,
) -> dict[str, Float[Array, "T *batch H"]]:
    """Return the values that the cell names, at every step: an LSTM's i, f, o, a GRU's r, z.

    A cell of your own names a gate where it computes it, by
    `jax.ad_checkpoint.checkpoint_name(sigmoid(a), "f")`.

    Args:
        cell, params, xs, initial_carry: as for `rnnjax.unroll`, xs `[T, *batch, D]`.
        names: the gates to return; None means all.

    Raises:
        ValueError: the cell has no gate of that name, or a shape does not fit, as for `unroll`.
        FloatingPointError: a carry is not finite.
    """
    trajectory = run(cell, params, xs, initial_carry)
    return gates_along(cell, trajectory.ready, xs, trajectory.steps, names)


def gates_along(
    cell: Any, ready: PyTree, xs: PyTree, steps: Any, names: Sequence[str] | None = None
) -> dict[str, Array]:
    """Return `gates` at given steps `(carry, u, v)`, with inputs `xs`, all at once."""
    found = _gates(cell, ready, xs, steps)
    if unknown := [name for name in names or () if name not in found]:
        known = f"its gates are {', '.join(found)}" if found else "it names none"
        raise ValueError(f"{type(cell).__name__} has no gate {unknown[0]!r}; {known}")
    return {name: found[name] for name in names or found}


@functools.partial(jax.jit, static_argnames="cell")
def _gates(cell, ready, xs, steps):
    carry, u, v = steps  # time is one more batch axis
    if is_gated(cell):
        return named_values(cell.gates)(cell.elementwise(ready), carry, u, v)
    # Gates that need no carry are computed in `project`: all those of a linear cell.
    return named_values(cell.project)(ready, xs) | named_values(cell.step)(ready, carry, u)


@functools.partial(jax.jit, static_argnames="bins")
def gate_statistics(
    values: Float[Array, "T *batch H"], *, seq_lengths: Any = None, bins: int = 50
) -> GateStatistics:
    """Return mean, saturated fractions, half-life and histogram of a gate's values in 0..1.

    Args:
        values: one gate's values, from `gates`; of a cell with images every place counts.
        seq_lengths: valid steps of each sequence, `[*batch]`; padding does not count.
        bins: the number of bins of the histogram.

    Source: Karpathy, Johnson, Fei-Fei 2016, "Visualizing and understanding recurrent networks",
    section 4.2 (saturation below 0.1 and above 0.9). The half-life ln 0.5 / ln f is the number of
    steps in which a state that is multiplied by f at every step halves.
    """
    valid = jnp.ones(values.shape[:-1], bool)
    if seq_lengths is not None:
        lengths = jnp.asarray(seq_lengths)
        counted = jnp.arange(values.shape[0]).reshape(-1, *(1 for _ in lengths.shape)) < lengths
        valid &= counted.reshape(counted.shape + (1,) * (valid.ndim - counted.ndim))
    flat, weight = values.reshape(-1, values.shape[-1]), valid.reshape(-1, 1)
    total = jnp.maximum(weight.sum(), 1)

    def share(of):
        return jnp.sum(jnp.where(weight, of, 0), axis=0) / total

    mean = share(flat)
    edges = jnp.linspace(0, 1, bins + 1)
    place = jnp.clip((flat * bins).astype(int), 0, bins - 1)
    counts = jnp.zeros(bins, int).at[place].add(jnp.broadcast_to(weight, place.shape).astype(int))
    return GateStatistics(
        mean, share(flat < LOW), share(flat > HIGH), _half_life(mean), counts, edges
    )


def _half_life(mean):
    """Return ln 0.5 / ln `mean`, infinite at 1."""
    rate = -jnp.log(mean)
    return jnp.where(rate > 0, jnp.log(2.0) / jnp.where(rate > 0, rate, 1), jnp.inf)
