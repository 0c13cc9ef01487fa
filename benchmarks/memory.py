"""What gradients keep: temporaries beside Flax's, the cost of a step, and one very long sequence.

Temporaries are those of the compiled program for the outputs' weighted sum, by parameters and
inputs, as XLA plans them: no measurement. Cost per step tells whether it stays the same however
long the sequence. The long run is one update of stochastic gradient descent, from a loss of the
final carry, in a process of its own, whose peak of resident memory is what the system says.

    python benchmarks/memory.py
    python benchmarks/memory.py --cells lstm --lengths 100 1000 10000
    python benchmarks/memory.py --long-run lstm         # the long run alone, in this process
"""

import contextlib
import dataclasses
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import timing

if __name__ == "__main__" and not any(word.startswith("--long-run") for word in sys.argv):
    timing.keep_memory()

import rnnjax
from rnnjax import networks, training
from rnnjax.command_line import ArgumentError, at_least, parse

import jax
import libraries
import numpy as np
from contenders import check, compiled, make_problem, reference
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from libraries import CELLS, LeftOut, check_cells

OPTIONS: dict[str, dict[str, Any]] = {
    "rnnjax": {},
    "rnnjax, checkpoint_every=1": {"checkpoint_every": 1},
    'rnnjax, checkpoint_every="sqrt"': {"checkpoint_every": "sqrt"},
}
BOUNDS = {"rnnjax": 0.6, "rnnjax, checkpoint_every=1": 1 / 3}  # in units of Flax's


@dataclasses.dataclass(frozen=True)
class Config:
    """Print what gradients keep, what a step costs at any length, and how much a long run takes.

    Each bound is one that the library promises for the default sizes.
    """

    cells: tuple[str, ...] = CELLS
    """Which cells: elman, lstm, gru, or one of your own, ./mine.py:MyCell."""
    shape: tuple[int, int, int, int] = (32, 1000, 32, 128)
    """B, T, D and H of the programs whose temporaries are compared."""
    lengths: tuple[int, ...] = (100, 1000, 10_000, 100_000)
    """Lengths T at which the cost per step is measured."""
    unit: int = 1000
    """The one of them whose cost per step is the unit."""
    step_shape: tuple[int, int, int] = (4, 8, 64)
    """B, D and H there."""
    long_shape: tuple[int, int, int, int] = (32, 100_000, 8, 128)
    """B, T, D and H of the long run."""
    rounds: int = 7
    """How often a step's cost is measured; medians are reported."""
    warm_ups: int = 2
    """Untimed rounds before."""
    long_run: str | None = None
    """Do only the long run of this cell, in this process, and print what it took as JSON."""
    out: Path | None = None
    """Directory for memory.json."""
    docs: bool = False
    """Write the tables into docs/benchmarks.md."""

    def __post_init__(self):
        for name in ("shape", "step_shape", "long_shape", "lengths"):
            if min(getattr(self, name), default=0) < 1:
                given = ", ".join(map(str, getattr(self, name)))
                raise ArgumentError(f"--{name.replace('_', '-')} must be positive, got {given}")
        at_least(1, self, "rounds")
        at_least(0, self, "warm_ups")
        if self.unit not in self.lengths:
            raise ArgumentError(f"--unit must be one of --lengths, got {self.unit}")
        check_cells(self.cells)
        if self.long_run is not None:
            check_cells((self.long_run,))
        timing.check_directory(self.out)


def temporaries(config: Config, name: str) -> list[dict[str, Any]]:
    """Return what the programs of a cell keep, ours and Flax's, on one device."""
    problem = make_problem(name, config.shape)
    sizes = problem.input_size, problem.features
    made = {label: libraries.ours(name, *sizes, **options) for label, options in OPTIONS.items()}
    with contextlib.suppress(LeftOut):  # a cell that Flax does not have
        made |= {"linen": libraries.linen(name, *sizes), "nnx": libraries.nnx(name, *sizes)}
    found: dict[str, Any] = {
        label: compiled(network, problem).temp_mb for label, network in made.items()
    }
    return [
        {
            "cell": name,
            "what": label,
            "temporaries_mb": size,
            "of_linen": size / found["linen"] if "linen" in found else None,
            "of_nnx": size / found["nnx"] if "nnx" in found else None,
            "bound": BOUNDS.get(label) if "linen" in found else None,
        }
        for label, size in found.items()
    ]


def cost_per_step(config: Config, name: str) -> list[dict[str, Any]]:
    """Return what a step forward and backward costs in sequences of several lengths."""
    batch, *sizes = config.step_shape
    calls = {}
    for length in config.lengths:
        problem = make_problem(name, (batch, length, *sizes))
        contender = compiled(libraries.ours(name, *sizes), problem)
        check({"rnnjax": contender}, reference(problem))
        calls[str(length)] = contender.both
    seconds = timing.interleaved(calls, rounds=config.rounds, warm_ups=config.warm_ups)
    cost = {length: timing.median(seconds[str(length)]) / length for length in config.lengths}
    return [
        {
            "cell": name,
            "T": length,
            "us_per_step": 1e6 * cost[length],
            "ratio": cost[length] / cost[config.unit],
            "bound": 1.2,
        }
        for length in config.lengths
    ]


def long_run(config: Config, name: str) -> dict[str, Any]:
    """Do one update from a loss of the final carry of a long sequence; return what it took."""
    batch, length, input_size, features = config.long_shape
    cell = networks.make_cell(name, features)
    params = libraries.parameters(name, input_size, features)
    xs: Any = np.random.default_rng(0).standard_normal((length, batch, input_size), np.float32)
    mesh: Any = training.batch_mesh()
    whole, split = NamedSharding(mesh, P()), NamedSharding(mesh, P(None, "batch"))
    params, xs = jax.device_put((params, xs), (whole, split if batch % mesh.size == 0 else whole))

    def loss_fn(params, xs):
        carry, _ = rnnjax.unroll(cell, params, xs, checkpoint_every="sqrt")
        return sum((leaf**2).mean() for leaf in jax.tree.leaves(carry))

    @jax.jit
    def update(params, xs):
        loss, gradient = jax.value_and_grad(loss_fn)(params, xs)
        return jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient), loss

    with jax.set_mesh(mesh):
        start = time.perf_counter()
        params, loss = jax.block_until_ready(update(params, xs))
    return {
        "cell": name,
        "T": length,
        "loss": float(loss),
        "seconds": time.perf_counter() - start,
        "peak_mb": peak_mb(),
        "bound": 2000.0,
    }


def peak_mb() -> float:
    """Return the most memory that this process has had resident.

    Linux's `ru_maxrss` starts at that of the process which started this one; VmHWM does not.
    """
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def long_run_apart(config: Config, name: str) -> list[dict[str, Any]]:
    """Return what the long run takes in a process of its own, malloc as the system has it."""
    shape = [str(size) for size in config.long_shape]
    command = [sys.executable, __file__, "--long-run", name, "--long-shape", *shape]
    environment = timing.default_malloc()
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return [json.loads(done.stdout)]


PARTS = {"temporaries": temporaries, "cost per step": cost_per_step, "long run": long_run_apart}


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row as its table has it."""
    titles = {
        "temporaries_mb": "temporaries MB",
        "of_linen": "of Linen's",
        "of_nnx": "of NNX's",
        "us_per_step": "us a step",
        "peak_mb": "peak MB",
    }
    return {titles.get(key, key): value for key, value in row.items() if key != "part"}


def run(config: Config) -> list[dict[str, Any]]:
    """Measure every cell, print the tables, and write the requested files."""
    training.use_all_cores()
    if config.long_run:
        row = long_run(config, config.long_run)
        print(json.dumps(row))
        return [row]
    rows, tables = [], {}
    for part, measure in PARTS.items():
        found = []
        for name in config.cells:
            timing.say(f"{part}: {name}")
            found += measure(config, name)
        tables[part] = timing.table([shown(row) for row in found])
        print(tables[part], "", sep="\n", flush=True)
        rows += [{"part": part} | row for row in found]
        written = {"conditions": timing.conditions("flax"), "rows": rows}
        timing.write_json(config.out, "memory", written)
    if config.docs:
        timing.write_section("Memory", document(config, tables))
    return rows


def document(config: Config, tables: dict[str, str]) -> str:
    """Return the section of docs/benchmarks.md."""
    batch, length, input_size, features = config.shape
    few, *narrow = config.step_shape
    many, _, *wide = config.long_shape
    return f"""`python benchmarks/memory.py`. Temporaries, as XLA plans them on one device, of the
gradients of a weighted sum of all outputs with respect to all parameters and to the inputs: B =
{batch}, T = {length}, D = {input_size}, H = {features}.

{tables["temporaries"]}

What a step costs, forward and backward, in units of that at T = {config.unit}: B = {few}, D =
{narrow[0]}, H = {narrow[1]}; medians of {config.rounds} interleaved rounds on one device.

{tables["cost per step"]}

One update from a loss of the final carry, with `checkpoint_every="sqrt"`: B = {many}, D =
{wide[0]}, H = {wide[1]}; the seconds are with compilation, the peak is that of resident memory in a
process that does nothing else.

{tables["long run"]}

{timing.conditions("flax")}"""


if __name__ == "__main__":
    run(parse(Config))
