"""Train small networks on the adding problem: the script whose start `processes.py` times.

python benchmarks/small_training.py --cell lstm --members 64 --save final.npz
python benchmarks/small_training.py --cell lstm --members 1 --seed 5 --save final-5.npz
"""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import rnnjax
from rnnjax import networks, tasks, training
from rnnjax.command_line import at_least, parse

import jax
import jax.numpy as jnp
import numpy as np
import optax
from libraries import check_cells


@dataclasses.dataclass(frozen=True)
class Config:
    """Train a population of small networks, one for each seed, and save what they end as."""

    save: Path
    """File for the parameters and the losses, NumPy's .npz."""
    cell: str = "lstm"
    """Which cell: elman, lstm, gru, or one of your own, ./mine.py:MyCell."""
    members: int = 64
    """Networks."""
    seed: int = 0
    """Seed of the first network; the others count up from it."""
    steps: int = 500
    """Updates."""
    batch_size: int = 16
    """B, of each."""
    length: int = 100
    """T."""
    features: int = 32
    """H."""

    def __post_init__(self):
        at_least(1, self, "members", "steps", "batch_size", "length", "features")
        at_least(0, self, "seed")
        check_cells((self.cell,))


class Model(NamedTuple):
    """Parameters: a cell's, and those of a linear head y = h W + b."""

    cell: Any
    kernel: jax.Array
    bias: jax.Array


def run(config: Config) -> None:
    """Train, and save."""
    task, cell = (
        tasks.AddingArjovsky2016(config.length),
        networks.make_cell(config.cell, config.features),
    )
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(3e-3))

    def start(key):
        init_key, data_key = jax.random.split(key)
        kernel = jax.random.normal(init_key, (cell.output_size, 1)) / cell.output_size**0.5
        params = Model(cell.init(init_key, task.input_size), kernel, jnp.zeros(1))
        return training.TrainState(params, optimizer.init(params), jnp.int32(0), data_key)

    def train_step(state, batch):
        def loss_fn(params):
            _, hidden = rnnjax.unroll(cell, params.cell, batch.inputs)
            return task.loss(hidden @ params.kernel + params.bias, batch)

        loss, gradient = jax.value_and_grad(loss_fn)(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        state = state._replace(params=params, opt_state=opt_state, step=state.step + 1)
        return state, {"loss": loss}

    seeds = range(config.seed, config.seed + config.members)
    state = training.over_population(start)(jnp.stack([jax.random.key(s) for s in seeds]))
    schedule = {"steps": config.steps, "chunk_size": config.steps, "label": config.cell}
    (chunk,) = training.train_on_samples(
        train_step, state, lambda key: task.sample(key, config.batch_size), **schedule
    )
    leaves = jax.tree.leaves(chunk.state.params)
    np.savez(config.save, *leaves, loss=chunk.metrics["loss"])


if __name__ == "__main__":
    training.use_all_cores()
    run(parse(Config))
