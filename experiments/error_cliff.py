"""The cliff in the error surface of one recurrent unit, and what clipping the gradient does there.

Claim: over 50 steps the error of a single unit x_t = w s(x_{t-1}) + b has walls where its gradient
explodes. They are where a state of the unit changes its basin of attraction. Gradient descent
that meets a wall is thrown far away; with the norm of the gradient clipped it stays and continues
to descend (Pascanu, Mikolov, Bengio 2013, "On the difficulty of training recurrent neural
networks", figure 6; bifurcations: section 2.2.1).

Everything is in float64. Each meeting with a wall multiplies what rounding changes, so that from
some starts machines differ in how far a path is thrown; the shares over many starts do not.

Verdict: `reproduced` if (1) the unit's bifurcations, the place of the cliff and the gradient there
are as `STATED`, within what is `ALLOWED`; (2) the largest step of the plain path is over 100 times
that of the clipped one; (3) the plain path leaves the surface and the clipped one stays; (4) over a
tenth of the other starts leave it plain, and none clipped; else `not reproduced`. `quick run only`
if --steps or --starts is below its default.

    python experiments/error_cliff.py
    python experiments/error_cliff.py --start 5.5 -2.6 --clip 0.2
"""

import dataclasses
import functools
import math
from typing import Any

from rnnjax import experiment
from rnnjax.command_line import at_least, positive
from rnnjax.diagnostics import one_unit, searches, surfaces
from rnnjax.diagnostics.one_unit import Params
from rnnjax.experiment import SurfaceOptions, Verdict, closed_forms

import jax
import jax.numpy as jnp
import numpy as np

START, TARGET, STEPS = 0.5, 0.7, 50  # x_0, what s(x_50) should be, and when
W = 5.0  # where the values are stated
STATED = one_unit.closed_forms(W, START)
STATED |= {"steepest b at w = 5": -2.6123, "largest gradient at w = 5": 6.6e3}  # roughly, by search
ALLOWED = dict(zip(STATED, (5e-6, 5e-6, 5e-6, 5e-6, 5e-4, 5e-5, 0.05 * 6.6e3), strict=True))
ENDS, BLIND = (-6.0, 0.0), 200_001  # biases to search, and how many points of them miss a cliff


@dataclasses.dataclass(frozen=True)
class Config(SurfaceOptions):
    """Draw the error surface of one recurrent unit, and descend on it with and without clipping.

    Prints a table and writes figures (PNG, SVG), the numbers behind them (CSV) and summary.json.
    Takes under a minute on two CPU cores.
    """

    w_min: float = 4.0
    w_max: float = 6.0
    b_min: float = -3.6
    b_max: float = -1.6
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
        at_least(1, self, "steps", "starts")
        positive(self, "learning_rate", "clip")
        self.must_show("start")


def loss(params):
    return (one_unit.answer(params, START, STEPS) - TARGET) ** 2


@functools.partial(jax.jit, static_argnames="steps")
def descend(start, rate, clip, steps):
    """Return the points `[steps + 1]` of gradient descent, with the losses and gradient norms."""

    def train_step(params, _):
        value, gradient = jax.value_and_grad(loss)(params)
        norm = jnp.hypot(*gradient)  # before clipping
        size = rate * jnp.minimum(1, clip / norm)
        new = jax.tree.map(lambda p, g: p - size * g, params, gradient)
        return new, {"w": params.w, "b": params.b, "loss": value, "grad_norm": norm}

    return jax.lax.scan(train_step, start, None, steps + 1)[1]


@jax.jit
@functools.partial(jax.vmap, in_axes=(None, 0))
def along(w, b):
    """Return s(x_50), the loss and ln ||grad E|| at biases `[N]`."""
    params = Params(w, b)
    value, gradient = jax.value_and_grad(loss)(params)
    answer, norm = one_unit.answer(params, START, STEPS), jnp.log(jnp.hypot(*gradient))
    return {"answer": answer, "loss": value, "log_gradient_norm": norm}


def measure_cliff(run):
    """Measure what is `STATED`; write tables of the unit's states, and of the cliff's sides."""
    found = one_unit.measure(W, START, STEPS)
    lower, upper, *_ = found.values()
    states = one_unit.find_states(W, (lower, upper), STEPS, np.linspace(-3.2, -1.8, 141))
    run.write_table("bifurcation", states)
    parts, peaks, distance = [], {}, np.geomspace(1e-10, 2, 128)
    # s(x_50) rises with b, from 0 to 1 at most: no cliff lies between rises of 0.01.
    for w in (W, W + 1):
        biases = searches.refine(lambda b, w=w: along(w, b)["answer"], *ENDS, rise=0.01)
        peaks[w] = searches.peak(lambda b, w=w: along(w, b)["log_gradient_norm"], biases)
        for side, sign in (("below", -1), ("above", 1)):
            b = one_unit.basin_boundary(START).at(w) + sign * distance
            parts.append({"side": side, "w": w, "distance": distance, "b": b, **along(w, b)})
    run.write_table("cliff", parts)
    seen = along(W + 1, np.linspace(*ENDS, BLIND))["log_gradient_norm"].max()
    measured = *found.values(), peaks[W][0], math.exp(peaks[W][1])
    at_6 = {"largest_gradient": math.exp(peaks[W + 1][1])}
    at_6[f"largest_gradient_on_{BLIND}_points"] = math.exp(seen)
    return {"closed_forms": closed_forms.compare(measured, STATED, ALLOWED), "at_w_6": at_6}


def measure_paths(config, run):
    """Describe both paths from `config.start`, and count the paths from other starts that leave."""
    start = Params(*map(jnp.float64, config.start))
    others = Params(*config.window.middle(config.starts))
    rows, paths, left = [], {}, {}
    for name, clip in (("plain", math.inf), ("clipped", config.clip)):
        go = functools.partial(descend, rate=config.learning_rate, clip=clip, steps=config.steps)
        path, ways = jax.tree.map(np.asarray, (go(start), jax.vmap(go)(others)))
        stay = np.all(config.window.contains(ways["w"], ways["b"]), axis=1)
        rows.append({"path": name, "step": np.arange(config.steps + 1), **path})
        paths[name] = surfaces.path_statistics(path, "w", "b", config.window)
        left[name] = float(np.mean(~stay))
    run.write_table("paths", rows)
    return {"paths": paths, "share_of_starts_that_leave": left}


@jax.enable_x64(True)
def measure(config, run):
    run.write_table("surface", [experiment.surface_columns(loss, Params(0.0, 0.0), config.axes)])
    return {**measure_cliff(run), **measure_paths(config, run)}


def verdict(config, summary):
    plain, clipped = (summary["paths"][name] for name in ("plain", "clipped"))
    left, rows = summary["share_of_starts_that_leave"], summary["closed_forms"].values()
    near = all(abs(row["error"]) <= row["allowed"] for row in rows)
    far = plain["largest_step"] > 100 * clipped["largest_step"]
    thrown = clipped["stays_on_surface"] and not plain["stays_on_surface"]
    others = left["plain"] > 0.1 and left["clipped"] == 0
    conditions = {
        "every measured value is as near to the stated one as allowed": near,
        "the largest plain step is over 100 times the largest clipped one": far,
        "the plain path leaves the surface, the clipped one stays": thrown,
        "of the other starts over a tenth leave it plain, none clipped": others,
    }
    return Verdict.judge(conditions).unless_quick(config, "steps", "starts")


def show(summary):
    closed_forms.show(summary["closed_forms"])
    left = summary["share_of_starts_that_leave"]
    rows = [
        [name, row["largest_step"], row["late_loss"], f"{left[name]:.0%}"]
        for name, row in summary["paths"].items()
    ]
    header = "descent", "largest step", "late loss", "leaves, of other starts"
    experiment.print_table(header, rows)
    print()


def draw(run):
    from rnnjax import figures

    names = {
        path: f"{path}: largest step {row['largest_step']:.2g}, late loss {row['late_loss']:.2g}"
        for path, row in run.read_json("summary.json")["paths"].items()
    }
    labels: dict[str, Any] = {"names": names, "xlabel": "recurrent weight w", "ylabel": "bias b"}
    surface, paths = run.read_table("surface"), run.read_table("paths")
    run.save_figure("surface", figures.loss_surface(surface, "w", "b", paths, **labels))

    nodes, edge = one_unit.saddle_nodes(W), (one_unit.basin_boundary(START).at(W), START)
    labels = {"names": one_unit.STATES, "xlabel": "bias b (w = 5)", "ylabel": "fixed point x"}
    figure = figures.bifurcations(run.read_table("bifurcation"), nodes, edge, **labels)
    run.save_figure("bifurcation", figure)

    labels = {"xlabel": "distance in b from the basin boundary", "ylabel": "||grad E||"}
    labels |= {"panel": "side", "value": "log_gradient_norm", "label_format": "w = {:g}"}
    labels["places"] = {(ENDS[1] - ENDS[0]) / (BLIND - 1): f"gaps of {BLIND:,} points"}
    experiment.draw_curves(run, "cliff", "distance", "w", log_x=True, natural_logs=True, **labels)


run = experiment.Experiment("error_cliff", Config, measure, verdict, draw, show=show)

if __name__ == "__main__":
    run.main()
