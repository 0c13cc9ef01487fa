"""Networks that time intervals, and the flow field of one of rank two: tables and figures."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Num

from rnnjax import diagnostics, dynamics
from rnnjax.cells import RateCarry
from rnnjax.experiment.drawing import draw_curves

IDENTITY, LAW = "produced = sample", "1 / interval"
GRID = 21  # places along each axis of a flow field
MARGIN = 0.3  # around the trajectories, relative to their extent
STARTS = 64  # of the search for fixed points


def timing_tables(
    intervals: Num[np.ndarray, " K"], networks: Sequence[tuple[str, Any, Any, Any]]
) -> dict[str, list[dict[str, Any]]]:
    """Return the tables `produced`, `speed` and `trajectories` of networks that time intervals.

    Args:
        intervals: the K sample intervals.
        networks: of each its name; the trajectories of one seed, K of them; the produced intervals
            of all seeds `[S, K]`; and the mean speeds of their trajectories `[S, K]`.

    Returns:
        `produced` and `speed`, relative to that at the first interval, are medians and quartiles
        over seeds, with rows for the identity and for the law of temporal scaling. `trajectories`
        are in the plane of the first two principal components of each network's states.
    """
    tables: dict[str, list[dict[str, Any]]] = {"produced": [], "speed": [], "trajectories": []}

    def add(table, name, values):
        band = diagnostics.quartiles(np.asarray(values, float).T)
        tables[table].append({"network": name, "interval": intervals, **band})

    for name, paths, produced, speeds in networks:
        add("produced", name, produced)
        add("speed", name, speeds / speeds[:, :1])
        plane = diagnostics.principal_components(np.concatenate(paths), 2)
        mean, axes = np.asarray(plane.mean), np.asarray(plane.axes)
        for k, (path, interval) in enumerate(zip(paths, intervals, strict=True)):
            columns = {"network": name, "interval": interval, "trajectory": k}
            tables["trajectories"].append(columns | _places((path - mean) @ axes))
    add("produced", IDENTITY, intervals[None])
    add("speed", LAW, (intervals[0] / intervals)[None])
    return tables


@jax.enable_x64(True)
def flow_tables(
    cell: Any, params: Any, paths: Sequence[Float[np.ndarray, "_ N"]], intervals: Any
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
    key, noise = jax.random.key(0), float(margin)
    starts = dynamics.visited_states(cell, carries, key, STARTS, noise=noise)
    found = dynamics.fixed_points(cell, params, still, starts)
    x, y = ((found.points.x - origin) @ axes).T
    inside = [(values[0] <= a) & (a <= values[-1]) for a, values in zip((x, y), grid, strict=True)]
    shown = inside[0] & inside[1]
    rows = []
    for k in (0, len(paths) - 1):
        away = paths[k] - origin
        along = away @ axes
        outside = np.linalg.norm(away - along @ axes.T, axis=1)
        columns = {"interval": intervals[k], "trajectory": k, "outside": outside}
        rows.append(columns | _places(along))
    points = {"x": x[shown], "y": y[shown], "num_unstable": found.num_unstable[shown]}
    return {"flow_field": [field], "flow_points": [points], "flow_paths": rows}


def _places(states):
    return {"x": states[:, 0], "y": states[:, 1]}


def draw_timing(run: Any) -> None:
    """Draw the tables of `timing_tables` and `flow_tables`, in ms: a figure for each of the four.

    Figures: `produced`, `speed`, `trajectories` and `flow_field`.
    """
    from rnnjax import figures

    label = "sample interval, ms"
    options: dict[str, Any] = {"xlabel": label, "ylabel": "produced interval, ms"}
    draw_curves(run, "produced", "interval", "network", reference=IDENTITY, **options)
    options["ylabel"] = "mean speed from Set to Go,\nrelative to the shortest interval"
    draw_curves(run, "speed", "interval", "network", reference=LAW, **options)
    ends: dict[str, Any] = {"start": "Set", "end": "Go"}
    table = run.read_table("trajectories")
    figure = figures.trajectories(table, "interval", label, panel="network", **ends)
    run.save_figure("trajectories", figure)
    tables = [run.read_table(name) for name in ("flow_field", "flow_points", "flow_paths")]
    names = {value: f"Set to Go, {value:g} ms" for value in tables[2]["interval"].tolist()}
    labels = {"xlabel": "first axis of the plane of m", "ylabel": "second axis of the plane of m"}
    figure = figures.flow_field(*tables, series="interval", names=names, **labels)
    run.save_figure("flow_field", figure)
