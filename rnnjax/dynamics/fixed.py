"""Fixed points, slow points and cycles of any cell under constant input."""

import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax.cells.base import Cell, check_positive, check_size
from rnnjax.diagnostics.linear import precise
from rnnjax.dynamics import maps
from rnnjax.dynamics.search import jacobians_at, minimise, orbits
from rnnjax.dynamics.stability import sort_by_stability, stability

PyTree = Any


class SearchReport(NamedTuple):
    """What became of the K starts."""

    num_converged: int  # q is at most the tolerance
    num_outliers: int  # converged, but far from all starts; dropped
    num_shorter: int  # converged to a cycle of a shorter period; dropped
    q: Any  # [K], where each start ended
    ends: Any  # the carries there, leaves [K, ...]


class FixedPoints(NamedTuple):
    """What `fixed_points` returns: P points, stable ones first, then by how many starts found them.

    Vectors have N entries in the order of the carry's leaves, as in `diagnostics.jacobians`: a
    complex entry counts as two.
    """

    points: Any  # carries, leaves [P, ...]
    q: Any  # [P]
    speed: Any  # [P], sqrt(2 q) = ||F(s) - s||
    jacobians: Any  # [P, N, N]
    eigenvalues: Any  # complex [P, N], descending modulus
    right: Any  # complex [P, N, N], right eigenvectors: right[p, i] has norm one
    left: Any  # complex [P, N, N], left eigenvectors: left[p, i] @ right[p, i] = 1
    stable: Any  # [P], all |eigenvalues| < 1
    num_unstable: Any  # [P], the stability index: how many |eigenvalues| >= 1
    time_constants: Any  # [P, N], -1 / ln |eigenvalues| in steps, negative where they grow
    counts: Any  # [P], how many starts ended there
    report: SearchReport


class Cycles(NamedTuple):
    """What `cycles` returns: P cycles of n points each, otherwise as `FixedPoints`.

    Eigenvalues (Floquet multipliers), eigenvectors and time constants are those of F^n at the first
    point of each cycle: time constants count periods.
    """

    points: Any  # carries, leaves [P, n, ...]
    q: Any
    speed: Any
    jacobians: Any
    eigenvalues: Any
    right: Any
    left: Any
    stable: Any
    num_unstable: Any
    time_constants: Any
    counts: Any
    report: SearchReport


def fixed_points(
    cell: Cell,
    params: PyTree,
    x: PyTree,
    starts: PyTree,
    *,
    tolerance: float | int | None = None,
    stop_at: float | int | None = None,
    min_distance: float | int | None = None,
    outlier_factor: float | int = 10.0,
    max_iterations: int = 200,
) -> FixedPoints:
    """Return the fixed points that minimising q from many starts finds, and their stability.

        q(s) = 1/2 ||F(s, x) - s||^2,    F(s, x) = step(s, x)

    All starts run in one program, a damped Newton method with the exact Jacobian: unstable points
    are found as easily as stable ones. Minima with q at most `tolerance` are fixed points, up to
    rounding. A larger tolerance, such as 1e-6, admits slow points as well, where q has a minimum
    above zero and the state lingers. Points closer than `min_distance` count as one. Where fixed
    points form a line or a plane, each start finds its own: `min_distance` is then their spacing.
    An approximate line attractor holds few fixed points, and Newton's steps run along it to them;
    with `stop_at`, a start ends where it first is slow.

    Noise of a `Stochastic` cell is left out. Integer leaves of the carry stay as they are in
    `starts`. Compute in float64: in float32 q cannot fall below about N eps^2 ||s||^2, so near a
    bifurcation fixed points and slow points look alike.

    Args:
        cell, params: as for `rnnjax.unroll`.
        x: the input of one step, `[D]`, held constant.
        starts: carries with leaves `[K, ...]`, such as states that the network visits, with noise:
            see `visited_states`.
        tolerance: the largest q of a point that is returned. None means 1e-20 in float64 (a speed
            of about 1e-10), and 1e-10 in float32.
        stop_at: a start ends as soon as its q is at most this, even if a step would lower q
            further; at most the tolerance. None means that it goes on to a minimum of q.
        min_distance: None means 1e-6 in float64, and 1e-3 in float32.
        outlier_factor: drop points whose distance from the mean of the starts is larger than this
            many times the root mean square distance of the starts; infinity keeps all.
        max_iterations: of each start.

    Raises:
        ValueError: a shape does not fit, x changes along time, a number is not positive, or
            `stop_at` is above the tolerance.
        FloatingPointError: a start is not finite.

    Warns:
        RuntimeWarning: the carry is float32 or narrower, or the tolerance is below what its type
            can reach.

    Example:
        >>> cell = rnnjax.Elman(2)
        >>> params = cell.init(jax.random.key(0), 1)
        >>> params = params._replace(recurrent_kernel=1.5 * jnp.eye(2))
        >>> starts = rnnjax.cells.ElmanCarry(jax.random.normal(jax.random.key(1), (100, 2)))
        >>> with jax.enable_x64(True):
        ...     params, starts = jax.tree.map(lambda a: a.astype(float), (params, starts))
        ...     found = rnnjax.dynamics.fixed_points(cell, params, jnp.zeros(1), starts)
        >>> found.num_unstable.tolist()
        [0, 0, 0, 0, 1, 1, 1, 1, 2]

    Source: Sussillo, Barak 2013, "Opening the black box: low-dimensional dynamics in
    high-dimensional recurrent neural networks", Neural Computation 25, section 2; Golub, Sussillo
    2018, "FixedPointFinder", Journal of Open Source Software 3, for what is done with duplicates
    and outliers.
    """
    found = _find(
        *(cell, params, x, starts, 1, tolerance, min_distance, outlier_factor, max_iterations),
        stop_at,
    )
    points = jax.tree.map(lambda a: a[:, 0], found.pop("points"))
    return FixedPoints(points, **found)


def cycles(
    cell: Cell,
    params: PyTree,
    x: PyTree,
    starts: PyTree,
    period: int,
    *,
    tolerance: float | int | None = None,
    min_distance: float | int | None = None,
    outlier_factor: float | int = 10.0,
    max_iterations: int = 200,
) -> Cycles:
    """Return the cycles of a period n that minimising q from many starts finds.

        q(s) = 1/2 ||F^n(s, x) - s||^2,    F^n: n steps at the same input

    As `fixed_points`, which has the arguments and the errors. A point that comes back after fewer
    steps belongs to a shorter cycle and is dropped. The points of one cycle are returned together,
    in the order of time.

    Args:
        period: n, at least 2. The Jacobian of F^n is a product of n, so where the dynamics expand,
            long cycles are found with less accuracy, and fewer of them.

    Raises:
        ValueError: `period` is less than 2, or as `fixed_points`.
    """
    check_size("period", period)
    if period < 2:
        raise ValueError(f"period must be at least 2 (take fixed_points for 1), got {period}")
    found = _find(
        *(cell, params, x, starts, period, tolerance, min_distance, outlier_factor, max_iterations)
    )
    return Cycles(**found)


@precise
def _find(
    cell,
    params,
    x,
    starts,
    period,
    tolerance,
    min_distance,
    outlier_factor,
    max_iterations,
    stop_at=None,
) -> dict[str, Any]:
    """Return the fields of `Cycles`."""
    check_size("max_iterations", max_iterations)
    params, x, starts = maps.on_one_device((params, x, starts))
    starts = maps.checked_starts(cell, starts)
    given = maps.make_map(cell, params, x, maps.one_of(starts))
    cell = cell.without_initialisers()
    flat = maps.flat_states(starts).astype(maps.flat_states(given.carry, 0).dtype)
    tolerance, min_distance = _tolerances(flat, tolerance, min_distance)
    check_positive("outlier_factor", outlier_factor)
    if stop_at is not None and not 0 < stop_at <= tolerance:
        raise ValueError(
            f"stop_at must be positive and at most tolerance = {tolerance:g}, got {stop_at!r}"
        )
    least = jnp.asarray(stop_at or 0, flat.dtype)
    ends, q = map(np.asarray, minimise(cell, period, max_iterations, given, flat, least))

    near = q <= tolerance  # false for NaN
    outlying = near & _outliers(ends, np.asarray(flat), outlier_factor)
    kept = np.flatnonzero(near & ~outlying)
    paths = np.asarray(orbits(cell, period, given, jnp.asarray(ends[kept])))  # [K, n, N]
    shorter = _shorter(paths, min_distance)
    kept, paths = kept[~shorter], paths[~shorter]
    chosen, counts = _distinct(paths, q[kept], min_distance)
    jacobians = jacobians_at(cell, period, given, jnp.asarray(ends[kept[chosen]]))
    known = stability(jacobians)
    where = jax.tree.map(np.asarray, maps.as_carry(given, jnp.asarray(ends)))
    report = SearchReport(int(near.sum()), int(outlying.sum()), int(shorter.sum()), q, where)
    q = q[kept[chosen]]
    fields = {
        "points": jax.tree.map(np.asarray, maps.as_carry(given, jnp.asarray(paths[chosen]))),
        "q": q,
        "speed": np.sqrt(2 * q),
        "jacobians": np.asarray(jacobians),
        **known._asdict(),
        "counts": counts,
    }
    return sort_by_stability(fields, known.num_unstable, counts) | {"report": report}


def _tolerances(flat, tolerance, min_distance):
    """Return both, their defaults by type, and warn where the type is too narrow for them."""
    wide = jnp.finfo(flat.dtype).bits >= 64
    for name, value in (("tolerance", tolerance), ("min_distance", min_distance)):
        if value is not None:
            check_positive(name, value)
    scale = float(jnp.mean(jnp.sum(flat**2, axis=-1)))
    floor = float(jnp.finfo(flat.dtype).eps) ** 2 * max(scale, 1.0)
    if tolerance is None:
        tolerance = 1e-20 if wide else 1e-10
    if tolerance < floor:
        _say(
            f"tolerance = {tolerance:g} is below what {flat.dtype} can reach, about {floor:.0e}: "
            "points that are fixed up to rounding will be missed"
        )
    elif not wide:
        _say(
            f"states are {flat.dtype}: q cannot fall below about {floor:.0e}, and fixed points "
            "and slow points look alike; compute in float64 (jax.enable_x64)"
        )
    return tolerance, (1e-6 if wide else 1e-3) if min_distance is None else min_distance


def _say(message):
    warnings.warn(message, RuntimeWarning, stacklevel=6)  # where fixed_points is called


def _outliers(ends, starts, factor):
    """Return which ends `[K, N]` lie far from the starts."""
    centre = starts.mean(0)
    spread = np.sqrt(np.mean(np.sum((starts - centre) ** 2, -1)))
    with np.errstate(over="ignore", invalid="ignore"):
        distance = np.sqrt(np.sum((ends - centre) ** 2, -1))
    return ~(distance <= factor * spread) if spread > 0 else ~np.isfinite(distance)


def _shorter(paths, min_distance):
    """Return which of the cycles `[K, n, N]` come back after a proper divisor of n steps."""
    count, period = paths.shape[:2]
    shorter = np.zeros(count, bool)
    for divisor in range(1, period):
        if period % divisor == 0:
            back = np.linalg.norm(paths[:, divisor] - paths[:, 0], axis=-1)
            shorter |= back < min_distance
    return shorter


def _distinct(paths, q, min_distance):
    """Return indices of different cycles, those of least q, and how many of `paths` each has."""
    chosen, counts = [], []
    left = np.argsort(q, kind="stable")
    while left.size:
        best = left[0]
        apart = np.linalg.norm(paths[left, :1] - paths[best][None], axis=-1).min(-1)
        same = apart < min_distance
        same[0] = True
        chosen.append(best)
        counts.append(int(same.sum()))
        left = left[~same]
    return np.array(chosen, int), np.array(counts, int)
