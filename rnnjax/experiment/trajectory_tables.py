"""Trajectories of a network in a plane, and the flow field of a network of rank two, as tables."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from rnnjax import diagnostics, dynamics
from rnnjax.cells import RateCarry

GRID = 21  # places along each axis of a flow field
MARGIN = 0.3  # around the trajectories, relative to their extent
STARTS = 64  # of the search for fixed points
AXES = "x", "y"


def trajectory_rows(
    paths: Sequence[Float[np.ndarray, "_ N"]], intervals: Any, **columns: Any
) -> list[dict[str, Any]]:
    """Return rows of the table of `figures.trajectories`, in the plane of their first two PCs.

    Args:
        paths: states of K trajectories.
        intervals: a number for each, the column `interval`.
        columns: the same value in all rows, such as `network="rate"`.
    """
    plane = diagnostics.principal_components(np.concatenate(paths), 2)
    mean, axes = np.asarray(plane.mean), np.asarray(plane.axes)
    return [
        columns
        | {"interval": interval, "trajectory": k}
        | dict(zip(AXES, ((path - mean) @ axes).T, strict=True))
        for k, (path, interval) in enumerate(zip(paths, intervals, strict=True))
    ]


@jax.enable_x64(True)
def flow_tables(
    cell: Any, params: Any, paths: Sequence[Float[np.ndarray, "_ N"]], intervals: Any, seed: int
) -> dict[str, list[dict[str, Any]]]:
    """Return the flow field of a rate network of rank two without input, in the plane of m.

    Without input x' = (1 - alpha) x + alpha (m kappa + b): the states b + m kappa form a plane that
    no state leaves, and that others approach as (1 - alpha)^t. Its coordinates are those along an
    orthonormal basis of the columns of m, from b: that of the principal components of the projected
    trajectories.

    Args:
        cell: `Constrained(Rate(..), low_rank=LowRank(2))`.
        params: of it.
        paths: states of K trajectories without input.
        intervals: a number for each. The first and the last trajectory are kept.
        seed: of the starts of the search for fixed points: states of the trajectories, with noise.

    Returns:
        Tables of `figures.flow_field` by name: `flow_field`, as `dynamics.flow_in_plane` returns
        it; `flow_points`, fixed points `x`, `y`, `num_unstable`; and `flow_paths`, two trajectories
        projected onto the plane, with `interval` and `outside`, the distance from the plane.
    """
    params, states = jax.tree.map(lambda a: jnp.asarray(a, float), (params, np.concatenate(paths)))
    origin = np.asarray(params.bias)
    axes, _ = np.linalg.qr(np.asarray(params.recurrent_kernel.m))
    turn = diagnostics.principal_components((states - origin) @ axes, 2).axes
    axes = axes @ np.asarray(turn)
    at = (np.asarray(states) - origin) @ axes
    low, high = at.min(0), at.max(0)
    margin = MARGIN * (high - low).max()
    grid = [np.linspace(a - margin, b + margin, GRID) for a, b in zip(low, high, strict=True)]
    still = jnp.zeros(len(params.input_kernel))
    field = dynamics.flow_in_plane(cell, params, still, origin, axes, *grid)
    carries = RateCarry(states[None])
    noise = float(margin)
    starts = dynamics.visited_states(cell, carries, jax.random.key(seed), STARTS, noise=noise)
    found = dynamics.fixed_points(cell, params, still, starts)
    x, y = ((found.points.x - origin) @ axes).T
    inside = [(values[0] <= a) & (a <= values[-1]) for a, values in zip((x, y), grid, strict=True)]
    shown = inside[0] & inside[1]
    rows = []
    for k in (0, len(paths) - 1):
        away = paths[k] - origin
        along = away @ axes
        outside = np.linalg.norm(away - along @ axes.T, axis=1)
        place = dict(zip(AXES, along.T, strict=True))
        rows.append({"interval": intervals[k], "trajectory": k, **place, "outside": outside})
    points = {"x": x[shown], "y": y[shown], "num_unstable": found.num_unstable[shown]}
    return {"flow_field": [field], "flow_points": [points], "flow_paths": rows}


def draw_trajectories(run: Any) -> None:
    """Draw the tables of `trajectory_rows` and `flow_tables`, of trajectories from Set to Go."""
    from rnnjax import figures

    table, label = run.read_table("trajectories"), "sample interval, ms"
    ends = {"start": "Set", "end": "Go"}
    figure = figures.trajectories(table, "interval", label, panel="network", **ends)
    run.save_figure("trajectories", figure)
    tables = [run.read_table(name) for name in ("flow_field", "flow_points", "flow_paths")]
    names = {value: f"Set to Go, {value:g} ms" for value in tables[2]["interval"].tolist()}
    labels = {"xlabel": "first axis of the plane of m", "ylabel": "second axis of the plane of m"}
    flow = figures.flow_field(*tables, series="interval", names=names, **labels)
    run.save_figure("flow_field", flow)
