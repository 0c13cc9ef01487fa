"""The bifurcations of one recurrent unit, in closed form and by simulation.

    x_t = w s(x_{t-1}) + b,   s the logistic function

For w > 4 there is a range of biases with two stable states; it ends at a saddle-node on either
side. A start x_0 changes its basin of attraction where it is the unstable fixed point between them.

Source: Pascanu, Mikolov, Bengio 2013, "On the difficulty of training recurrent neural networks",
section 2.2.1.

What is measured is found by running the unit, in the precision that JAX has: use
`jax.enable_x64(True)`.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from rnnjax.cells.base import Cell, in_types_of
from rnnjax.diagnostics.searches import bisect
from rnnjax.recurrence.sequential import unroll

NAMES = (
    "saddle-node, lower b",
    "saddle-node, upper b",
    "basin boundary, intercept",
    "basin boundary, slope",
    "boundary repels above w",
)
STATES = {"low": "stable, low", "high": "stable, high", "parting": "unstable, between basins"}
LONG = 10_000  # steps after which a state has arrived
LOW, HIGH = -10.0, 10.0  # starts on either side of all fixed points


class Params(NamedTuple):
    """The weight and the bias."""

    w: Any
    b: Any


class State(NamedTuple):
    """The state of the unit."""

    x: Any  # [*batch]


@dataclasses.dataclass(frozen=True)
class Unit(Cell):
    """x_t = w s(x_{t-1}) + b + u_t, read out as s(x_t); u is the sum of the inputs.

    Args:
        start: x_0.
    """

    start: float = 0.5

    def init(self, key: Array, input_size: int) -> Params:
        """Draw both from N(0, 1)."""
        del input_size
        return Params(*jax.random.normal(key, (2,)))

    def initial_carry(self, batch_shape: Sequence[int]) -> State:
        """Return x_0."""
        return State(jnp.full(batch_shape, self.start))

    def project(self, ready: Params, x: Array) -> Array:
        """Return b + u."""
        return x.sum(-1) + ready.b

    def step(self, ready: Params, carry: State, u: Array) -> State:
        """Return w s(x) + b + u."""
        return in_types_of(carry, State(ready.w * jax.nn.sigmoid(carry.x) + u))

    def output(self, carry: State) -> Array:
        """Return s(x) as the only feature."""
        return jax.nn.sigmoid(carry.x)[..., None]


def final(params: Params, start: Any, steps: int) -> Array:
    """Return x_T from x_0 = `start`, T = `steps`, without inputs."""
    inputs = jnp.zeros((steps, 1))
    carry, _ = unroll(Unit(), params, inputs, State(jnp.asarray(start, inputs.dtype)))
    return carry.x


def answer(params: Params, start: Any, steps: int) -> Array:
    """Return s(x_T), as `final`."""
    return jax.nn.sigmoid(final(params, start, steps))


class SaddleNode(NamedTuple):
    """Where a stable and an unstable fixed point meet."""

    bias: float
    state: float


class Line(NamedTuple):
    """b = intercept + slope w."""

    intercept: float
    slope: float

    def at(self, w: Any) -> Any:
        """Return b."""
        return self.intercept + self.slope * w


def logistic(x: float) -> float:
    """Return s(x) = 1 / (1 + exp(-x))."""
    return 1 / (1 + math.exp(-x))


def saddle_nodes(w: float) -> tuple[SaddleNode, SaddleNode]:
    """Return the lower and the upper saddle-node in closed form: w s'(x) = 1 and x = w s(x) + b.

    The stable state that ends at the lower bias is the high one.

    Raises:
        ValueError: w is at most 4, where there is one fixed point only.
    """
    if not w > 4:
        raise ValueError(f"w must be above 4, got {w}")
    high, low = ((1 + sign * math.sqrt(1 - 4 / w)) / 2 for sign in (1, -1))  # s(x)
    return _saddle_node(w, high), _saddle_node(w, low)


def _saddle_node(w, s):
    x = math.log(s / (1 - s))
    return SaddleNode(x - w * s, x)


def basin_boundary(start: float) -> Line:
    """Return, in closed form, the line (w, b) on which x_0 is a fixed point: x_0 = w s(x_0) + b.

    Where the point repels, x_0 changes its basin there: see `repelling_weight`.
    """
    return Line(start, -logistic(start))


def repelling_weight(start: float) -> float:
    """Return the weight above which the fixed point x_0 repels: w s'(x_0) = 1."""
    s = logistic(start)
    return 1 / (s * (1 - s))


def closed_forms(w: float, start: float) -> dict[str, float]:
    """Return the values that `measure` measures, in closed form and under the same names."""
    lower, upper = saddle_nodes(w)
    boundary = basin_boundary(start)
    values = lower.bias, upper.bias, *boundary, repelling_weight(start)
    return dict(zip(NAMES, values, strict=True))


def measure(w: float, start: float, steps: int) -> dict[str, float]:
    """Return saddle-nodes at a weight, the basin boundary of x_0 = `start`, and where it repels.

    Args:
        w: above 4 and at most 15.
        steps: after which a state that is near `start` has begun to leave it.
    """
    boundary = find_basin_boundary(start, steps, np.linspace(4.5, 6, 7))
    values = *find_saddle_nodes(w), *boundary, find_repelling_weight(start, steps, boundary)
    return dict(zip(NAMES, values, strict=True))


@functools.partial(jax.jit, static_argnames="steps")
def _finals(w, b, x, steps):
    """Return x_T for arrays."""
    ends = jnp.vectorize(lambda w, b, x: final(Params(w, b), x, steps))
    return ends(*map(jnp.asarray, (w, b, x)))


@functools.partial(jax.jit, static_argnames="steps")
def _growth(w, boundary, x, steps):
    """Return dx_T / dx_0 at a place on a line."""
    params = Params(w, boundary.at(w))
    return jax.grad(lambda x: final(params, x, steps))(x)


def find_saddle_nodes(w: float) -> tuple[float, float]:
    """Return the biases between which the unit is found to have two stable states.

    Below the lower one even a state that starts high ends low; above the upper one even a state
    that starts low ends high. What remains of a state that is just gone holds the unit up for
    about pi / sqrt(c |b - b*|) steps, c = 0.22 at w = 5, where this bounds the error by 5e-7.

    Raises:
        ValueError: w is not between 4 and 15, for which the search is made.
    """
    if not 4 < w <= 15:
        raise ValueError(f"w must be above 4 and at most 15, got {w}")
    middle, reach = -w / 2, 0.3 * w  # the system is symmetric around this bias
    lower = bisect(middle - reach, middle, lambda b: _finals(w, b, HIGH, LONG) > 0)
    upper = bisect(middle, middle + reach, lambda b: _finals(w, b, LOW, LONG) > 0)
    return float(lower), float(upper)


def find_basin_boundary(
    start: float, steps: int, weights: Any, biases: tuple[float, float] = (-5.0, 0.0)
) -> Line:
    """Return the line through the biases at which x_0 = `start` is found to change its basin.

    At each of the weights: where x_T, T = `steps`, is no longer below but above x_0.

    Args:
        biases: below and above all that are found.
    """
    found = bisect(*biases, lambda b: _finals(weights, b, start, steps) > start, rounds=60)
    slope, intercept = np.polyfit(weights, found, 1)
    return Line(float(intercept), float(slope))


def find_repelling_weight(
    start: float, steps: int, boundary: Line, weights: tuple[float, float] = (4.0, 5.0)
) -> float:
    """Return the weight on the basin boundary from which on neighbours of x_0 leave it.

    There dx_T / dx_0, T = `steps`, exceeds 1.

    Args:
        weights: below and above the one that is found.
    """
    return float(bisect(*weights, lambda w: _growth(w, boundary, start, steps) > 1))


def find_states(
    w: float, nodes: tuple[float, float], steps: int, biases: Any
) -> list[dict[str, Any]]:
    """Return the fixed points by bias, as parts of a table: columns `state`, `b` and `median`.

    States `low` and `high` are where starts below and above all fixed points end. `parting` is the
    start between them from which x_T, T = `steps`, is no longer below but above it.

    Args:
        nodes: between these biases there are two stable states, as from `find_saddle_nodes`.
        biases: where to measure; more are added near the nodes, on the inner sides.
    """
    lower, upper = nodes
    near = np.geomspace(1e-5, 0.1, 30)
    biases = np.sort([*biases, *lower + near, *upper - near])
    low, high = (np.asarray(_finals(w, biases, x, LONG)) for x in (LOW, HIGH))
    two = (biases > lower) & (biases < upper)
    ends = low[two], high[two]
    parting = bisect(*ends, lambda x: _finals(w, biases[two], x, steps) > x, rounds=50)
    parts = {"low": (low, biases < upper), "high": (high, biases > lower)}
    rows = [{"state": n, "b": biases[where], "median": x[where]} for n, (x, where) in parts.items()]
    return [*rows, {"state": "parting", "b": biases[two], "median": parting}]
