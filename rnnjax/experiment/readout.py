"""A cell read by a linear head, y = h W + b: the network that most experiments train."""

import functools
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax
from rnnjax import networks, training
from rnnjax.cells.initializers import Gaussian
from rnnjax.experiment.training import score as score_of
from rnnjax.experiment.widths import nearest_width
from rnnjax.runs import Run


class Readout(NamedTuple):
    """Parameters: a cell's, and those of the head."""

    cell: Any
    kernel: Any  # [H, outputs]
    bias: Any  # [outputs]


def init(cell: Any, task: Any, key: Any) -> Readout:
    """Draw the parameters for the inputs and outputs of a task; W ~ N(0, 1/H), b = 0."""
    cell_key, head_key = jax.random.split(key)
    kernel = Gaussian()(head_key, (cell.output_size, task.output_size))
    return Readout(cell.init(cell_key, task.input_size), kernel, jnp.zeros(task.output_size))


def start(config: Any, optimizer: Any, cell: Any, task: Any) -> training.TrainState:
    """Return `experiment.start` for the parameters of `init`.

    One network is drawn after another, outside of `jit`: every draw is a small program by itself,
    which the next cell uses again, where one program for each cell takes seconds to compile.
    """

    def one(key):
        init_key, own = jax.random.split(key)
        params = init(cell, task, init_key)
        opt_state = jax.tree.map(np.asarray, optimizer.init(params))
        return training.TrainState(params, opt_state, np.int32(0), jax.random.key_data(own))

    drawn = [one(jax.random.key(seed)) for seed in config.members]
    state = jax.tree.map(lambda *leaves: np.stack(leaves), *drawn)
    return training.shard_population(state._replace(key=jax.random.wrap_key_data(state.key)))


def apply(cell: Any, params: Readout, inputs: Any, **options: Any) -> Any:
    """Return the outputs `[T, B, outputs]`.

    Args:
        options: of `rnnjax.unroll`.
    """
    _, hidden = rnnjax.unroll(cell, params.cell, inputs, **options)
    return hidden @ params.kernel + params.bias


def score(cell: Any, task: Any, params: Readout, batch: Any) -> dict[str, Any]:
    """Return `experiment.score` of the cell with its head on held-out sequences `[S, ...]`."""

    def metrics(params, batch):
        return task.metrics(apply(cell, params, batch.inputs), batch)

    return score_of(task, metrics, params, batch)


def score_alike(cell: Any, task: Any, params: Readout, batch: Any) -> dict[str, Any]:
    """Return `score` where all S networks read the same held-out sequences `[T, B, ...]`."""
    members = len(params.bias)
    return score(cell, task, params, jax.tree.map(lambda a: jnp.stack([a] * members), batch))


def train(
    config: Any, run: Run, name: str, task: Any, train_step: training.TrainStep, optimizer: Any
) -> Readout:
    """Train the networks of all seeds on samples of a task, and return their parameters `[S, ...]`.

    Metrics go to metrics.jsonl, with the name of the cell on every line. Interrupted training
    resumes from the newest checkpoint.

    Args:
        config: has the options of `experiment.TrainingOptions` and `experiment.CellOptions`.
        name: of the cell, as in `rnnjax.networks`.
        train_step: `(state, batch) -> (state, metrics)` of one network.
        optimizer: the Optax gradient transformation that `train_step` uses.
    """
    state = start(config, optimizer, config.make_cell(name), task)
    resumable = training.ResumableTraining.from_config(config, run, config.members, cell=name)
    sample = functools.partial(task.sample, batch_size=config.batch_size)
    chunk_size = -(-config.steps // 10)
    result = resumable.train_on_samples(
        train_step, state, sample, steps=config.steps, chunk_size=chunk_size
    )
    return result.state.params


def count(cell: Any, task: Any) -> int:
    """Return the number of parameters."""
    shapes = jax.eval_shape(lambda: init(cell, task, jax.random.key(0)))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def sized_cell(config: Any, name: str, task: Any) -> Any:
    """Return the cell with this name; with `config.match_parameters` it is the `matched_cell`.

    Args:
        config: has the options of `experiment.CellOptions`, and `match_parameters`. The largest
            cell is one of its `cells` or a built-in one.
    """
    if not config.match_parameters:
        return config.make_cell(name)
    return matched_cell(name, config.features, task, {*networks.CELLS, *config.cells})


def matched_cell(name: str, features: int, task: Any, names: Iterable[str]) -> Any:
    """Return the cell of the width whose parameter count is nearest to that of the largest cell.

    Args:
        name: of the cell, as in `rnnjax.networks`.
        features: the smallest width; widths up to 128 times as large are considered.
        names: the cells of which, at this width, the largest sets the count.
    """

    def counted(name, width):
        return count(networks.make_cell(name, width), task)

    target = max(counted(other, features) for other in names)
    widths = range(features, 128 * features + 1)
    width = nearest_width(widths, lambda width: counted(name, width), target)
    return networks.make_cell(name, width)
