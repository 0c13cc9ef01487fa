"""The default run of `experiments/vanishing_gradients.py`, from a shell, beside PyTorch.

The run is timed twice: with an empty compilation cache, as on a fresh machine, and again. Its time
includes start-up, compilation, gradient profiles during training, checkpoints, figures. PyTorch
does the training alone: the same cells, seeds, updates, batches of the same task, Adam and
clipping. First, loss and gradients of both are compared at equal weights.

    python benchmarks/default_run.py
    python benchmarks/default_run.py --torch-steps 1000     # all of PyTorch's updates, no scaling
"""

import dataclasses
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import rnnjax
from rnnjax.command_line import ArgumentError, at_least, parse

import timing

SCRIPT = Path(__file__).parents[1] / "experiments" / "vanishing_gradients.py"
CELLS = "elman", "lstm", "gru"
LEARNING_RATE, CLIP = 3e-3, 1.0  # as in the script
TOLERANCE = 1e-5  # of a loss, and of the largest entry of a gradient
BOUND = 4


@dataclasses.dataclass(frozen=True)
class Config:
    """Time the default run of vanishing_gradients.py, cold and warm, beside training in PyTorch.

    The bound is one that the library promises for the default sizes on two cores.
    """

    cells: tuple[str, ...] = CELLS
    """Which of the cells elman, lstm, gru."""
    seeds: int = 4
    """Networks per cell."""
    steps: int = 1000
    """Updates."""
    torch_steps: int = 100
    """How many of the updates PyTorch does for each network; its time is scaled up."""
    batch_size: int = 32
    """B."""
    length: int = 100
    """T of the adding problem."""
    features: int = 64
    """H."""
    threads: int = os.cpu_count() or 1
    """Of PyTorch."""
    out: Path | None = None
    """Directory for default_run.json."""
    docs: bool = False
    """Write the table into docs/benchmarks.md."""

    def __post_init__(self):
        sizes = "seeds", "steps", "torch_steps", "batch_size", "features", "threads"
        at_least(1, self, *sizes)
        at_least(2, self, "length")
        if not self.cells or not {*self.cells} <= {*CELLS}:
            raise ArgumentError(f"--cells must name some of {', '.join(CELLS)}")
        if self.torch_steps > self.steps:
            raise ArgumentError(f"--torch-steps must be at most --steps, got {self.torch_steps}")
        timing.check_directory(self.out)


def our_run(config: Config, cache: Path) -> tuple[float, float]:
    """Run the script in a process; return its seconds, and those of training and profiles."""
    kept = {name: value for name, value in os.environ.items() if "COMPILATION_CACHE" not in name}
    sizes = ("steps", "seeds", "batch_size", "length", "features")
    options = [f"--{name.replace('_', '-')}={getattr(config, name)}" for name in sizes]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [sys.executable, str(SCRIPT), "--out", str(out), *options]
        command += ["--cells", *config.cells]
        start = time.perf_counter()
        done = subprocess.run(
            command, env=kept | {"XDG_CACHE_HOME": str(cache)}, capture_output=True, text=True
        )
        seconds = time.perf_counter() - start
        assert done.returncode == 0, done.stderr
        rows = [json.loads(line) for line in (out / "times.jsonl").read_text().splitlines()]
    return seconds, training_seconds(rows)


def training_seconds(rows: list[dict[str, Any]]) -> float:
    """Return the seconds of training and gradient profiles from the rows of times.jsonl.

    The first chunk of a cell, which is compiled, is taken to last as long as the others.
    """
    total = 0.0
    for _, group in itertools.groupby(rows, key=lambda row: row["cell"]):
        first, *rest = group
        if rest:
            updates = rest[-1]["step"] - first["step"]
            total += (rest[-1]["time"] - first["time"]) * rest[-1]["step"] / updates
    return total


def torch_network(name: str, params: Any) -> Any:
    """Return PyTorch's network with our parameters, a function of inputs to the last answer."""
    import libraries
    import numpy as np
    import torch

    input_size, features = params.cell.input_kernel.shape[0], params.kernel.shape[0]
    layer = libraries.torch(name, input_size, features, params.cell)
    head = torch.nn.Linear(features, 1)
    weights = {"weight": params.kernel.T, "bias": params.bias}
    head.load_state_dict({k: torch.tensor(np.asarray(w)) for k, w in weights.items()})

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.head = layer, head

        def forward(self, inputs):
            return self.head(self.layer(inputs)[0][-1])

    return Network()


def torch_batch(config: Config, generator: Any) -> tuple[Any, Any]:
    """Draw a batch of the adding problem, `[T, B, 2]`, and its answers, `[B, 1]`."""
    import torch

    length, batch, half = config.length, config.batch_size, config.length // 2
    values = torch.rand(length, batch, generator=generator)
    first = torch.randint(0, half, (batch,), generator=generator)
    second = torch.randint(half, length, (batch,), generator=generator)
    marks = torch.zeros(length, batch)
    marks[first, torch.arange(batch)] = marks[second, torch.arange(batch)] = 1
    return torch.stack([values, marks], -1), (values * marks).sum(0)[:, None]


def check(config: Config, name: str) -> None:
    """Assert that both networks have the same loss and gradients on a batch of the task."""
    from rnnjax import tasks
    from rnnjax.experiment import readout

    import jax
    import libraries
    import numpy as np
    import torch
    from contenders import pulled_back

    task, cell = tasks.AddingArjovsky2016(config.length), rnnjax.networks.make_cell(name, 5)
    params = readout.init(cell, task, jax.random.key(0))
    batch = task.sample(jax.random.key(1), config.batch_size)

    def loss_fn(params):
        return task.loss(readout.apply(cell, params, batch.inputs), batch)

    loss, gradient = jax.value_and_grad(loss_fn)(params)
    network = torch_network(name, params)
    inputs, answers = (torch.tensor(np.array(a)) for a in (batch.inputs, batch.targets[-1]))
    theirs = torch.nn.functional.mse_loss(network(inputs), answers)
    theirs.backward()
    by_name = {key: np.asarray(p.grad) for key, p in network.layer.named_parameters()}
    of_cell = pulled_back(libraries.torch_weights, params.cell, by_name)
    found = {"loss": (theirs.item(), loss), "kernel": (network.head.weight.grad.T, gradient.kernel)}
    found |= {f: (getattr(of_cell, f), getattr(gradient.cell, f)) for f in of_cell._fields}
    for what, (a, b) in found.items():
        a, b = np.asarray(a), np.asarray(b)
        difference = np.abs(a - b).max() / np.abs(b).max()
        assert difference <= TOLERANCE, f"{name}: {what} differs by {difference:.1e}"


def torch_seconds(config: Config, name: str) -> float:
    """Return the seconds that PyTorch takes to train all networks of a cell, scaled up."""
    from rnnjax import tasks
    from rnnjax.experiment import readout

    import jax
    import torch

    torch.set_num_threads(config.threads)
    task = tasks.AddingArjovsky2016(config.length)
    cell = rnnjax.networks.make_cell(name, config.features)
    seconds = 0.0
    for seed in range(config.seeds):
        network = torch_network(name, readout.init(cell, task, jax.random.key(seed)))
        torch.set_num_threads(config.threads)
        optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
        generator = torch.Generator().manual_seed(seed)

        def update(network=network, optimizer=optimizer, generator=generator):
            inputs, answers = torch_batch(config, generator)
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(network(inputs), answers).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
            optimizer.step()

        for _ in range(3):
            update()
        start = time.perf_counter()
        for _ in range(config.torch_steps):
            update()
        seconds += time.perf_counter() - start
    return seconds * config.steps / config.torch_steps


def measure(config: Config) -> list[dict[str, Any]]:
    """Return the rows of the table."""
    for name in config.cells:
        check(config, name)
    with tempfile.TemporaryDirectory() as cache:
        timing.say("the run, with an empty compilation cache")
        cold = our_run(config, Path(cache))
        timing.say("the run, again")
        warm = our_run(config, Path(cache))
    timing.say("PyTorch")
    theirs = sum(torch_seconds(config, name) for name in config.cells)
    rows = [
        {"what": "PyTorch, training alone", "seconds": theirs},
        {"what": "the run, for the first time", "seconds": cold[0], "bound": f">= {BOUND}"},
        {"what": "of that outside training and profiles", "seconds": cold[0] - cold[1]},
        {"what": "the run, again", "seconds": warm[0], "bound": f">= {BOUND}"},
        {"what": "of that outside training and profiles", "seconds": warm[0] - warm[1]},
    ]
    return [
        {**row, "PyTorch's time over it": theirs / row["seconds"] if "bound" in row else None}
        | {"bound": row.get("bound", "")}
        for row in rows
    ]


def run(config: Config) -> list[dict[str, Any]]:
    """Time both, print the table, and write what was requested."""
    rows = measure(config)
    print(timing.table(rows), flush=True)
    conditions = timing.conditions("torch")
    timing.write_json(config.out, "default_run", {"conditions": conditions, "rows": rows})
    if config.docs:
        scaled = f"PyTorch's time is that of {config.torch_steps} of {config.steps} updates, scaled"
        text = (
            f"`python benchmarks/default_run.py`: {', '.join(config.cells)}, {config.seeds} seeds, "
            f"{config.steps} updates, B = {config.batch_size}, T = {config.length}, "
            f"H = {config.features}. {scaled}; {config.threads} threads.\n\n"
            f"{timing.table(rows)}\n\n{conditions}"
        )
        timing.write_section("The default run", text)
    return rows


if __name__ == "__main__":
    from rnnjax import training

    training.use_all_cores()
    run(parse(Config))
