"""The cliff in the error surface of one recurrent unit, and what clipping the gradient does there.

Claim: over 50 steps the error of a single unit x_t = w s(x_{t-1}) + b has walls where its gradient
explodes. They are where a state of the unit changes its basin of attraction. Gradient descent
that meets a wall is thrown far away; with the norm of the gradient clipped it stays and continues
to descend (Pascanu, Mikolov, Bengio 2013, "On the difficulty of training recurrent neural
networks", figure 6; bifurcations: section 2.2.1).

Everything is in float64. Each meeting with a wall multiplies what rounding changes, so that from
some starts machines differ in how far a path is thrown; the shares over many starts do not.

The file is longer than 200 lines because each of its seven closed forms is measured by a search of
its own.

    python experiments/error_cliff.py
    python experiments/error_cliff.py --start 5.5 -2.6 --clip 0.2
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax
from rnnjax import experiment
from rnnjax.command_line import ArgumentError, at_least, option, positive
from rnnjax.diagnostics.surfaces import entry_direction, surface
from rnnjax.experiment import RunOptions, Verdict

START, TARGET, STEPS = 0.5, 0.7, 50  # x_0, what s(x_50) should be, and when
LONG = 10_000  # steps after which a state has arrived
W = 5.0  # where the closed forms are stated
ENDS, BLIND = (-6.0, 0.0), 200_001  # biases to search, and how many points of them miss a cliff
SIGMOID = 1 / (1 + math.exp(-START))


@dataclasses.dataclass(frozen=True)
class Config(RunOptions):
    """Draw the error surface of one recurrent unit, and descend on it with and without clipping.

    Prints a table and writes figures (PNG, SVG), the numbers behind them (CSV) and summary.json.
    Takes under a minute on two CPU cores.
    """

    w_min: float = 4.0
    """Left edge of the surface; w is the recurrent weight."""
    w_max: float = 6.0
    """Right edge."""
    b_min: float = -3.6
    """Lower edge of the surface; b is the bias."""
    b_max: float = -1.6
    """Upper edge."""
    points: int = 201
    """Points of the surface along each axis."""
    learning_rate: float = 0.05
    """Of gradient descent."""
    clip: float = 1.0
    """Largest norm of the gradient on the clipped path."""
    steps: int = 400
    """Updates of gradient descent."""
    start: tuple[float, float] = (5.2, -2.2)
    """Weight and bias that both paths start from."""
    starts: int = 10
    """The paths from STARTS x STARTS other points, in the middle of the surface, are counted."""

    def __post_init__(self):
        super().__post_init__()
        at_least(2, self, "points")
        at_least(1, self, "steps", "starts")
        positive(self, "learning_rate", "clip")
        for low, high in (("w_min", "w_max"), ("b_min", "b_max")):
            ends = getattr(self, low), getattr(self, high)
            if not -math.inf < ends[0] < ends[1] < math.inf:
                names = f"{option(low)} and {option(high)}"
                raise ArgumentError(f"{names} must be finite and rise, got {ends[0]} and {ends[1]}")
        if not self.shows(*self.start):
            raise ArgumentError(
                f"--start must lie on the surface, w in {self.w_min}..{self.w_max} and "
                f"b in {self.b_min}..{self.b_max}; got {self.start[0]} {self.start[1]}"
            )

    def shows(self, w, b):
        """Return whether points lie on the surface."""
        return (w >= self.w_min) & (w <= self.w_max) & (b >= self.b_min) & (b <= self.b_max)


class Params(NamedTuple):
    """The weight and the bias."""

    w: Any
    b: Any


class State(NamedTuple):
    """The unit's state."""

    x: Any  # [*batch]


@dataclasses.dataclass(frozen=True)
class Unit(rnnjax.Cell):
    """x_t = w s(x_{t-1}) + b + u_t, read out as s(x_t); s is the logistic function."""

    def init(self, key, input_size):
        return Params(*jax.random.normal(key, (2,)))

    def initial_carry(self, batch_shape: Sequence[int]):
        return State(jnp.full(batch_shape, START))

    def project(self, ready, x):
        return x.sum(-1) + ready.b

    def step(self, ready, carry, u):
        return State(ready.w * jax.nn.sigmoid(carry.x) + u)

    def output(self, carry):
        return jax.nn.sigmoid(carry.x)[..., None]


def final(params, x=START, steps=STEPS):
    """Return x_T, from x_0 = x and without inputs."""
    inputs = jnp.zeros((steps, 1))
    carry, _ = rnnjax.unroll(Unit(), params, inputs, State(jnp.asarray(x, inputs.dtype)))
    return carry.x


def loss(params):
    return (jax.nn.sigmoid(final(params)) - TARGET) ** 2


@functools.partial(jax.jit, static_argnames="steps")
def descend(start, learning_rate, clip, steps):
    """Return the points `[steps + 1]` of gradient descent, with the losses and gradient norms."""

    def train_step(params, _):
        value, gradient = jax.value_and_grad(loss)(params)
        norm = jnp.hypot(*gradient)  # before clipping
        size = learning_rate * jnp.minimum(1, clip / norm)
        new = jax.tree.map(lambda p, g: p - size * g, params, gradient)
        return new, {"w": params.w, "b": params.b, "loss": value, "grad_norm": norm}

    return jax.lax.scan(train_step, start, None, steps + 1)[1]


def bisect(low, high, condition, rounds=45):
    """Return where a condition, false at `low` and true at `high`, changes; elementwise."""
    low, high = np.broadcast_arrays(np.float64(low), np.float64(high))
    for _ in range(rounds):
        middle = (low + high) / 2
        true = condition(middle)
        low, high = np.where(true, low, middle), np.where(true, middle, high)
    return (low + high) / 2


@functools.partial(jax.jit, static_argnames="steps")
def finals(w, b, x, steps):
    """Return x_T for arrays of weights, biases and x_0."""
    ends = jnp.vectorize(lambda w, b, x: final(Params(w, b), x, steps))
    return ends(*map(jnp.asarray, (w, b, x)))


def saddle_nodes():
    """Return the biases at w = 5 between which the unit has two stable states.

    Below the lower one even a state that starts high ends low; above the upper one even a state
    that starts low ends high. What remains of a state that is just gone holds the unit up for
    about pi / sqrt(0.22 |b - b*|) steps, which bounds the error by 5e-7.
    """
    lower = bisect(-4, -2.5, lambda b: finals(W, b, 10.0, LONG) > 0)
    upper = bisect(-2.5, -1, lambda b: finals(W, b, -10.0, LONG) > 0)
    return float(lower), float(upper)


def basin_boundary():
    """Return the intercept and the slope of the line (w, b) on which x_0 changes its basin."""
    w = np.linspace(4.5, 6, 7)
    b = bisect(-5, 0, lambda b: finals(w, b, START, STEPS) > START, rounds=60)
    slope, intercept = np.polyfit(w, b, 1)
    return float(intercept), float(slope)


def repelling(intercept, slope):
    """Return the weight on the boundary from which on neighbours of x_0 leave it."""

    @jax.jit
    def growth(w):
        return jax.grad(lambda x: final(Params(w, intercept + slope * w), x))(START)

    return float(bisect(4, 5, lambda w: growth(w) > 1))


@jax.jit
def along(w, b):
    """Return s(x_50), the loss and ln ||grad E|| at biases `[N]`."""

    def at(b):
        value, gradient = jax.value_and_grad(loss)(Params(w, b))
        norm = jnp.log(jnp.hypot(*gradient))
        answer = jax.nn.sigmoid(final(Params(w, b)))
        return {"answer": answer, "loss": value, "log_gradient_norm": norm}

    return jax.vmap(at)(b)


def refined(w, low, high, rise=0.01, batch=128):
    """Return biases so dense that s(x_50) rises by less than `rise` from one to the next.

    s(x_50) rises with b all the way (w > 0), from 0 to 1 at most, so that in every round at most
    1 / rise gaps are too wide: however narrow a cliff is, it is found and costs as little.
    """

    def answers(biases):
        padded = np.resize(biases, batch)
        return np.asarray(along(w, padded)["answer"])[: len(biases)]

    start = np.linspace(low, high, batch)
    known = dict(zip(start, answers(start), strict=True))
    while True:
        biases = np.array(sorted(known))
        wide = np.diff([known[b] for b in biases]) >= rise
        middles = np.setdiff1d((biases[1:] + biases[:-1])[wide] / 2, biases)
        if not middles.size:
            return biases
        known |= zip(middles, answers(middles), strict=True)


def steepest(w, biases, batch=128):
    """Return the bias with the largest gradient, and that gradient's norm, from refined biases."""
    norms = np.asarray(along(w, biases)["log_gradient_norm"])
    for _ in range(5):
        at = int(np.argmax(norms))
        biases = np.linspace(biases[max(0, at - 1)], biases[min(at + 1, len(norms) - 1)], batch)
        norms = np.asarray(along(w, biases)["log_gradient_norm"])
    at = int(np.argmax(norms))
    return float(biases[at]), math.exp(norms[at])


def states(lower, upper):
    """Return the stable states at w = 5, and between them the one that parts their basins."""
    near = np.geomspace(1e-5, 0.1, 30)
    b = np.sort([*np.linspace(-3.2, -1.8, 141), *lower + near, *upper - near])
    low, high = (np.asarray(finals(W, b, x, LONG)) for x in (-10.0, 10.0))
    two = (b > lower) & (b < upper)
    ends = low[two], high[two]
    parting = bisect(*ends, lambda x: finals(W, b[two], x, STEPS) > x, rounds=50)
    parts = {"low": (low, b < upper), "high": (high, b > lower)}
    rows = [{"state": n, "b": b[where], "median": x[where]} for n, (x, where) in parts.items()]
    return [*rows, {"state": "parting", "b": b[two], "median": parting}]


def measure_paths(config):
    """Return both paths from `config.start`, and the shares of other starts' that leave."""
    middle = [
        np.linspace(low + (high - low) / 4, high - (high - low) / 4, config.starts)
        for low, high in ((config.w_min, config.w_max), (config.b_min, config.b_max))
    ]
    others = Params(*(axis.ravel() for axis in np.meshgrid(*middle)))
    paths, left = {}, {}
    for name, clip in (("plain", math.inf), ("clipped", config.clip)):
        go = functools.partial(
            descend, learning_rate=config.learning_rate, clip=clip, steps=config.steps
        )
        path = go(Params(*map(jnp.float64, config.start)))
        paths[name] = {key: np.asarray(value) for key, value in path.items()}
        ways = jax.vmap(go)(others)
        shown = config.shows(*(np.asarray(ways[key]) for key in ("w", "b")))
        left[name] = float(np.mean(~np.all(shown, axis=1)))
    return paths, left


def summarise(config, path):
    """Return a path's largest step, where it ends, and its median loss over the last quarter."""
    moves = np.hypot(np.diff(path["w"]), np.diff(path["b"]))
    return {
        "largest_step": float(moves.max()),
        "at_update": int(moves.argmax()) + 1,
        "largest_gradient": float(path["grad_norm"].max()),
        "stays_on_surface": bool(np.all(config.shows(path["w"], path["b"]))),
        "final": [float(path["w"][-1]), float(path["b"][-1])],
        "late_loss": float(np.median(path["loss"][-(len(path["loss"]) // 4 + 1) :])),
    }


def nodes():
    """Return bias and state of the saddle-nodes: w s'(x) = 1 and x = w s(x) + b."""
    states = [(1 + sign * math.sqrt(1 - 4 / W)) / 2 for sign in (1, -1)]  # s(x)
    return [(math.log(s / (1 - s)) - W * s, math.log(s / (1 - s))) for s in states]


def closed_forms():
    """Return, with how far a measurement may be off, the values stated for the cliff.

    Basin boundary: x_0 = w s(x_0) + b, where w s'(x_0) > 1 repels. The largest gradient was found
    by search and is stated roughly.
    """
    (lower, _), (upper, _) = nodes()
    return {
        "saddle-node, lower b": (lower, 5e-6),
        "saddle-node, upper b": (upper, 5e-6),
        "basin boundary, intercept": (START, 5e-6),
        "basin boundary, slope": (-SIGMOID, 5e-6),
        "boundary repels above w": (1 / (SIGMOID * (1 - SIGMOID)), 5e-4),
        "steepest b at w = 5": (-2.6123, 5e-5),
        "largest gradient at w = 5": (6.6e3, 0.05 * 6.6e3),
    }


@jax.enable_x64(True)
def measure(config, run):
    lower, upper = saddle_nodes()
    intercept, slope = basin_boundary()
    cliff, parts, distance = {}, [], np.geomspace(1e-10, 2, 128)
    for w in (W, W + 1):
        cliff[w] = steepest(w, refined(w, *ENDS))
        for side, sign in (("below", -1), ("above", 1)):
            b = START - w * SIGMOID + sign * distance
            parts.append({"side": side, "w": w, "distance": distance, "b": b, **along(w, b)})
    run.write_table("cliff", parts)
    run.write_table("bifurcation", states(lower, upper))

    ws = np.linspace(config.w_min, config.w_max, config.points)
    bs = np.linspace(config.b_min, config.b_max, config.points)
    origin = Params(jnp.zeros(()), jnp.zeros(()))
    directions = [entry_direction(origin, name, ()) for name in Params._fields]
    grid = surface(loss, origin, directions, ws, bs)
    columns = *np.meshgrid(ws, bs), grid.values, grid.log_gradient_norm
    names = "w", "b", "loss", "log_gradient_norm"
    flat = (np.asarray(column).ravel() for column in columns)
    run.write_table("surface", [dict(zip(names, flat, strict=True))])

    paths, left = measure_paths(config)
    steps = np.arange(config.steps + 1)
    rows = [{"path": name, "step": steps, **path} for name, path in paths.items()]
    run.write_table("paths", rows)

    found = lower, upper, intercept, slope, repelling(intercept, slope), *cliff[W]
    values = {
        name: {"measured": value, "stated": stated, "error": value - stated, "allowed": allowed}
        for (name, (stated, allowed)), value in zip(closed_forms().items(), found, strict=True)
    }
    blind = np.array_split(np.linspace(*ENDS, BLIND), 8)
    seen = max(float(along(W + 1, part)["log_gradient_norm"].max()) for part in blind)
    return {
        "closed_forms": values,
        "at_w_6": {
            "largest_gradient": cliff[W + 1][1],
            f"largest_gradient_on_{BLIND}_points": math.exp(seen),
        },
        "paths": {name: summarise(config, path) for name, path in paths.items()},
        "share_of_starts_that_leave": left,
    }


def verdict(config, summary):
    plain, clipped = (summary["paths"][name] for name in ("plain", "clipped"))
    left = summary["share_of_starts_that_leave"]
    close = [abs(row["error"]) <= row["allowed"] for row in summary["closed_forms"].values()]
    conditions = {
        "every measured value is as near to the stated one as allowed": all(close),
        "the largest plain step is over 100 times the largest clipped one": (
            plain["largest_step"] > 100 * clipped["largest_step"]
        ),
        "the plain path leaves the surface, the clipped one stays": (
            clipped["stays_on_surface"] and not plain["stays_on_surface"]
        ),
        "of the other starts over a tenth leave it plain, none clipped": (
            left["plain"] > 0.1 and left["clipped"] == 0
        ),
    }
    return Verdict.judge(conditions)


def show(summary):
    rows = [
        [name, row["measured"], row["stated"], f"{row['error']:.1e}"]
        for name, row in summary["closed_forms"].items()
    ]
    experiment.print_table(["closed form", "measured", "stated", "error"], rows, digits=7)
    rows = [
        [name, row["largest_step"], row["late_loss"], f"{share:.0%}"]
        for (name, row), share in zip(
            summary["paths"].items(), summary["share_of_starts_that_leave"].values(), strict=True
        )
    ]
    print()
    header = ["descent", "largest step", "late loss", "leaves, of other starts"]
    experiment.print_table(header, rows)
    print()


def draw(run):
    """Draw the figures of a run from its tables."""
    from rnnjax import figures

    summary = run.read_json("summary.json")
    names = {
        path: f"{path}: largest step {row['largest_step']:.2g}, late loss {row['late_loss']:.2g}"
        for path, row in summary["paths"].items()
    }
    labels: dict[str, Any] = {"xlabel": "recurrent weight w", "ylabel": "bias b"}
    tables = run.read_table("surface"), run.read_table("paths")
    figure = figures.loss_surface(tables[0], "w", "b", tables[1], names=names, **labels)
    run.save_figure("surface", figure)

    names = {"low": "stable, low", "high": "stable, high", "parting": "unstable, between basins"}
    labels = {"xlabel": "bias b (w = 5)", "ylabel": "fixed point x"}
    table = run.read_table("bifurcation")
    figure = figures.curves(table, "b", "state", names=names, **labels)
    mark_bifurcations(figure.axes[0])
    run.save_figure("bifurcation", figure)

    names = {5.0: "w = 5", 6.0: "w = 6", "below": "below the cliff", "above": "above the cliff"}
    labels = {"xlabel": "distance in b from the basin boundary", "ylabel": "||grad E||"}
    options: dict[str, Any] = {**labels, "panel": "side", "log_x": True, "natural_logs": True}
    table = run.read_table("cliff")
    table["median"] = table["log_gradient_norm"]
    figure = figures.curves(table, "distance", "w", names=names, **options)
    gap = (ENDS[1] - ENDS[0]) / (BLIND - 1)
    for ax in figure.axes:
        label = f"gaps of {BLIND:,} points"
        ax.axvline(gap, color="black", linestyle=":", linewidth=0.8, label=label)
    figure.axes[0].legend(fontsize="small")
    run.save_figure("cliff", figure)


def mark_bifurcations(ax):
    """Mark the saddle-nodes, and where x_0 changes its basin."""
    for (b, x), side, shift in zip(nodes(), ("right", "left"), (-8, 8), strict=True):
        ax.plot(b, x, "ko", markersize=5)
        place: dict[str, Any] = {"textcoords": "offset points", "ha": side, "va": "center"}
        ax.annotate(f"saddle-node\nb = {b:.5f}", (b, x), (shift, 0), **place)
    edge = START - W * SIGMOID
    ax.axhline(START, color="black", linestyle=":", linewidth=0.8)
    ax.plot(edge, START, "k*", markersize=9)
    text = f"$x_0$ = {START} changes its basin\nat b = {edge:.5f}: the cliff"
    ax.text(-3.2, START - 0.1, text, va="top")


run = experiment.Experiment("error_cliff", Config, measure, verdict, draw, show=show)

if __name__ == "__main__":
    run.main()
