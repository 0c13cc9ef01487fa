"""How long a search for fixed points takes: networks that store three bits, 1,024 starts.

Networks are trained first, and not timed. "First" is a search that compiles its program, "again"
the same search with other parameters of the same shapes. The points are asserted to be fixed, and
the eight corners of the memories to be among the stable ones.

    python benchmarks/fixed_points.py
    python benchmarks/fixed_points.py --cells lstm --features 64 --starts 4096
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import timing

if __name__ == "__main__":
    timing.keep_memory()

import rnnjax
from rnnjax import dynamics, networks, tasks, training
from rnnjax.command_line import ArgumentError, at_least, distinct, parse
from rnnjax.experiment import readout
from rnnjax.networks import short_name

import jax
import jax.numpy as jnp
import numpy as np
import optax

BOUND = 10.0  # seconds


@dataclasses.dataclass(frozen=True)
class Config:
    """Time searches for fixed points.

    The bound is that the first search with 1,024 starts takes at most ten seconds.
    """

    cells: tuple[str, ...] = tuple(networks.CELLS)
    """Cells by name, or ./mine.py:MyCell."""
    features: int = 16
    """Hidden units."""
    starts: int = 1024
    """Starts of a search."""
    updates: int = 1000
    """Training updates of each network before its search."""
    rounds: int = 3
    """Searches after the first, of which the median is reported."""
    out: Path | None = None
    """Directory for fixed_points.json."""
    docs: bool = False
    """Write the table into docs/benchmarks.md."""

    def __post_init__(self):
        at_least(1, self, "features", "starts", "updates", "rounds")
        distinct(self, "cells")
        for name in self.cells:
            try:
                networks.make_cell(name, self.features)
            except ValueError as error:
                raise ArgumentError(f"--cells {error}") from None
        timing.check_directory(self.out)


def train(config: Config, cell: Any, task: Any) -> readout.Readout:
    """Return parameters of a network that stores three bits."""
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-2, config.updates))
    params = readout.init(cell, task, jax.random.key(0))

    def train_step(state, batch):
        def loss_fn(params):
            return task.loss(readout.apply(cell, params, batch.inputs), batch)

        loss, gradient = jax.value_and_grad(loss_fn)(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        state = state._replace(params=params, opt_state=opt_state, step=state.step + 1)
        return state, {"loss": loss}

    state = training.TrainState(params, optimizer.init(params), jnp.int32(0), jax.random.key(1))
    result = training.fit(train_step, state, lambda key: task.sample(key, 64), config.updates)
    return result.state.params


@jax.enable_x64(True)
def search(config: Config, cell: Any, params: Any, batch: Any) -> dict[str, Any]:
    """Return a row: how long searches take, and what they find."""
    params, xs = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), (params, batch.inputs))
    _, _, carries = rnnjax.unroll(cell, params.cell, xs, return_carries=True)
    starts = dynamics.visited_states(cell, carries, jax.random.key(2), config.starts, noise=0.5)
    seconds, found = [], None
    for i in range(1 + config.rounds):
        moved = jax.tree.map(lambda a, i=i: a * (1 + 1e-6 * i), params.cell)
        start = time.perf_counter()
        found = dynamics.fixed_points(cell, moved, xs[0, 0] * 0, starts)
        seconds.append(time.perf_counter() - start)
    assert found is not None and (found.q <= 1e-20).all()
    points = jax.tree.map(jnp.asarray, found.points)
    outputs = np.asarray(cell.output(points) @ params.kernel + params.bias)
    corners = {tuple(y) for y in np.sign(outputs[found.stable]).astype(int).tolist()}
    assert len(corners) == 2 ** outputs.shape[1], f"{len(corners)} memories"
    return {
        "N": found.eigenvalues.shape[1],
        "first_s": seconds[0],
        "again_s": timing.median(seconds[1:]),
        "points": len(found.q),
        "stable": int(found.stable.sum()),
        "converged": found.report.num_converged,
    }


def verdict(row: Mapping[str, Any]) -> str:
    """Return how a row stands to the bound."""
    within = "within" if row["first_s"] <= BOUND else "beyond"
    return f"{row['cell']}: {row['first_s']:.1f} s, {within} the bound of {BOUND:g} s"


def run(config: Config) -> Sequence[dict[str, Any]]:
    """Time everything, print the table, and write the requested files."""
    task, rows = tasks.NBitFlipFlop(), []
    batch = task.sample(jax.random.key(3), 64)
    for name in config.cells:
        cell = networks.make_cell(name, config.features)
        timing.say(f"{name}: training, then searching")
        rows.append(
            {"cell": short_name(name), **search(config, cell, train(config, cell, task), batch)}
        )
    conditions = timing.conditions()
    table, lines = timing.table(rows), [verdict(row) for row in rows]
    print(table, *lines, conditions, sep="\n", flush=True)
    timing.write_json(config.out, "fixed_points", {"conditions": conditions, "rows": rows})
    if config.docs:
        listed = "\n".join(f"- {line}" for line in lines)
        text = (
            f"`python benchmarks/fixed_points.py`: the 3-bit flip-flop, {config.starts} starts, "
            f"float64; N is the size of the carry.\n\n{table}\n\n{listed}\n\n{conditions}"
        )
        timing.write_section("Searches for fixed points", text)
    return rows


if __name__ == "__main__":
    run(parse(Config))
