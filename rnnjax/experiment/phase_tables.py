"""Fixed points in the plane in which a network moves, as arrays and as tables for figures."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax import diagnostics, dynamics

PyTree = Any
HALF_LINE = 0.06  # half an unstable direction as drawn, relative to the extent of the paths


def in_plane(found: Any, carries: PyTree, num_paths: int) -> dict[str, Any]:
    """Return fixed points in the plane of the first two principal components of visited states.

    Args:
        found: what `dynamics.fixed_points` returned, or several of these, side by side.
        carries: states that the network visits, leaves `[T, B, ...]`.
        num_paths: how many of the B sequences are kept, to be drawn.

    Returns:
        Arrays by name, as `Run.cached` takes them: of P points `num_unstable`, `q`, `eigenvalues`
        `[P, N]`, `points [P, 2]` and right eigenvectors `directions [P, N, 2]`; of the sequences
        `paths [T, num_paths, 2]`; `share [2]`, the plane's of the variance; and the
        `participation_ratio` of the states.
    """
    states = dynamics.flat_states(carries, 2)
    plane = diagnostics.principal_components(states, 2)
    points = dynamics.flat_states(jax.tree.map(jnp.asarray, found.points))
    return {
        "num_unstable": found.num_unstable,
        "q": found.q,
        "eigenvalues": found.eigenvalues,
        "points": (points - plane.mean) @ plane.axes,
        "directions": found.right @ plane.axes,
        "paths": plane.projections[:, :num_paths],
        "share": plane.share,
        "participation_ratio": diagnostics.participation_ratio(states),
    }


def phase_tables(
    found: Any, of_paths: Mapping[str, Any] | None = None, **columns: Any
) -> dict[str, list[Any]]:
    """Return rows of the tables `points`, `directions`, `trajectories` and `eigenvalues`.

    They are those of `figures.phase_plane` and `figures.eigenvalues`. Directions are those of real
    eigenvalues of modulus 1 and above.

    Args:
        found: arrays as `in_plane` returns them.
        of_paths: further columns of `trajectories`, one value for each path.
        columns: the same value in all rows, such as `cell="gru"`.
    """
    (x, y), unstable, values = found["points"].T, found["num_unstable"], found["eigenvalues"]
    grows = (np.abs(values) >= 1) & (values.imag == 0)
    which, _ = np.nonzero(grows)
    along, paths = found["directions"].real[grows], np.moveaxis(found["paths"], 1, 0)
    extent = np.ptp(paths, axis=(0, 1)).max()
    length = np.maximum(np.linalg.norm(along, axis=-1, keepdims=True), np.finfo(float).tiny)
    dx, dy = (HALF_LINE * extent * along / length).T
    points = {"x": x, "y": y, "num_unstable": unstable, "q": found["q"]}
    spectrum = {"num_unstable": np.repeat(unstable, values.shape[1])}
    spectrum |= {"real": values.real.ravel(), "imag": values.imag.ravel()}
    return {
        "points": [columns | points],
        "directions": [columns | {"x": x[which], "y": y[which], "dx": dx, "dy": dy}],
        "trajectories": [
            columns
            | {name: values[i] for name, values in (of_paths or {}).items()}
            | {"trajectory": i, "x": path[:, 0], "y": path[:, 1]}
            for i, path in enumerate(paths)
        ],
        "eigenvalues": [columns | spectrum],
    }


def draw_phase_planes(run: Any, panel: str, **options: Any) -> None:
    """Draw the tables of `phase_tables`: figures `fixed_points` and `eigenvalues`.

    Nothing is drawn if there are no points.

    Args:
        options: of `figures.phase_plane`.
    """
    from rnnjax import figures

    tables = [run.read_table(name) for name in ("points", "trajectories", "directions")]
    if not len(tables[0]["x"]):
        return
    run.save_figure("fixed_points", figures.phase_plane(*tables, panel=panel, **options))
    spectrum = figures.eigenvalues(
        run.read_table("eigenvalues"),
        panel=panel,
        colour="num_unstable",
        colour_label="unstable directions of the fixed point",
    )
    run.save_figure("eigenvalues", spectrum)
