"""Training the networks of all seeds in one program, and evaluating them on held-out data."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax import diagnostics, training
from rnnjax.command_line import ArgumentError
from rnnjax.experiment.memory import check_memory
from rnnjax.runs import Run

PyTree = Any


def start(config: Any, optimizer: Any, init: Callable[[Any], PyTree]) -> training.TrainState:
    """Return the state of all seeds before training, `[S, ...]`.

    Seed s splits `jax.random.key(s)` into the key of `init` and the key of its training.

    Args:
        config: has `members`, the seeds.
        optimizer: an Optax gradient transformation.
        init: `init(key)` returns the parameters of one network.

    Raises:
        ArgumentError: the networks do not fit into memory.
    """

    def one(key):
        init_key, own = jax.random.split(key)
        params = init(init_key)
        return training.TrainState(params, optimizer.init(params), jnp.int32(0), own)

    shapes = jax.eval_shape(one, jax.eval_shape(lambda: jax.random.key(0)))
    arrays, copies = (shapes.params, shapes.opt_state), len(config.members)
    check_memory("the networks and their optimisers", arrays, copies=copies)
    keys = jnp.stack([jax.random.key(seed) for seed in config.members])
    return training.over_population(one)(keys)


def restart(
    state: training.TrainState, optimizer: Any, params: PyTree = None
) -> training.TrainState:
    """Return the state of all seeds before another training, with a new state of the optimiser.

    The keys are those of `state`: two trainings that begin so see the same batches.

    Args:
        state: of all seeds, `[S, ...]`.
        optimizer: an Optax gradient transformation.
        params: what is trained; None means the parameters of `state`.
    """
    params = state.params if params is None else params
    opt_state = training.over_population(optimizer.init)(params)
    return state._replace(params=params, opt_state=opt_state, step=jnp.zeros_like(state.step))


def start_model(config: Any, optimizer: Any, model: Any, input_size: int) -> training.TrainState:
    """Return `start` for a Flax model that reads sequences `[B, T, input_size]`."""
    xs = jnp.zeros((1, 1, input_size))
    return start(config, optimizer, lambda key: model.init(key, xs)["params"])


def shuffled_batches(config: Any, columns: Mapping[str, Any]) -> list[Iterator[Any]]:
    """Return one endless iterator of shuffled batches per seed.

    Args:
        config: has `members`, the seeds, and `batch_size`.
        columns: arrays with the same leading axis N, by name; a batch has B rows of each.

    Raises:
        ArgumentError: N < B.
    """
    from rnnjax.datasets import batches

    count = len(next(iter(columns.values())))
    if config.batch_size > count:
        raise ArgumentError(f"--batch-size must be at most {count}, got {config.batch_size}")
    return [
        batches.shuffled_batches(columns, config.batch_size, seed=seed) for seed in config.members
    ]


def train_and_probe(
    config: Any,
    run: Run,
    train_step: training.TrainStep,
    state: training.TrainState,
    measure: Callable[[PyTree, Any], PyTree],
    probe: Any,
    *,
    sample: Callable[[Any], Any] | None = None,
    batches: Callable[[], Sequence[Iterable[Any]]] | None = None,
    steps: int | None = None,
    **labels: Any,
) -> training.TrainingResult:
    """Train for a number of updates; measure before, and `config.snapshots` times meanwhile.

    Metrics go to metrics.jsonl, with `labels` on every line. Interrupted training resumes from the
    newest checkpoint. With no steps, the networks are measured only.

    Args:
        config: has `members`, `snapshots`, `record_every`, `checkpoint_every` and `keep`.
        train_step: `(state, batch) -> (state, metrics)` of one member.
        state: of all members before training.
        measure: `measure(params, probe)` is observed; both are those of all members, `[S, ...]`.
        probe: sequences that are never trained on.
        sample: draws a batch from a key. Give this or `batches`.
        batches: returns one iterator of batches per member.
        steps: updates; None means `config.steps`.
    """
    steps = config.steps if steps is None else steps
    if not steps:
        before = jax.tree.map(np.asarray, measure(state.params, probe))
        return training.TrainingResult(state, before, [])
    resumable = training.ResumableTraining.from_config(config, run, config.members, **labels)
    options: Any = {
        "steps": steps,
        "chunk_size": -(-steps // config.snapshots),
        "observe": lambda state: measure(state.params, probe),
    }
    if batches is not None:
        return resumable.train_on_batches(train_step, state, batches(), **options)
    assert sample is not None
    return resumable.train_on_samples(train_step, state, sample, **options)


def fit(
    config: Any,
    run: Run,
    train_step: training.TrainStep,
    state: training.TrainState,
    batches: Sequence[Iterable[Any]],
    *,
    members: Sequence[Any] | None = None,
    label: str = "training",
    **labels: Any,
) -> training.TrainState:
    """Train for `config.steps` updates and return the last state, `[S, ...]`.

    Metrics go to metrics.jsonl, with `labels` on every line, times to times.jsonl, and the recorded
    losses to the table `training`. Interrupted training resumes from the newest checkpoint.

    Args:
        config: has `steps`, `record_every`, `checkpoint_every` and `keep`.
        train_step: `(state, batch) -> (state, metrics)` of one member.
        state: of all members before training, as from `start`.
        batches: one iterator per member.
        members: the `seed` of each member in metrics.jsonl; None means the seeds.
        label: shown beside the progress bar.
    """
    seeds: Sequence[Any] = config.members if members is None else members
    resumable = training.ResumableTraining.from_config(config, run, seeds, **labels)
    resumable = dataclasses.replace(resumable, label=label)
    result = resumable.train_on_batches(
        train_step, state, batches, steps=config.steps, chunk_size=-(-config.steps // 10)
    )
    run.write_table("training", [_recorded_losses(result.chunks, config.record_every)])
    return result.state


def _recorded_losses(chunks, every):
    """Return the table of the training loss at the steps in metrics.jsonl, over the members."""
    steps, rows = [], []
    for chunk in chunks:
        for index, losses in enumerate(chunk.metrics["loss"]):
            step, trained = chunk.first_step + index, chunk.counts > index
            if step % every == 0 and trained.any():
                steps.append(step)
                decimals = losses[trained].astype(str).astype(np.float64)  # as in metrics.jsonl
                rows.append(diagnostics.quartiles(decimals))
    bands = {name: [row[name] for row in rows] for name in ("median", "q25", "q75")}
    return {"series": "training loss", "step": steps, **bands}


def evaluate(
    function: Callable[..., Any],
    params: PyTree,
    columns: Mapping[str, Any],
    *,
    batch_size: int = 256,
) -> Any:
    """Return `function(params, **rows)` for every member and all N rows: `[S, N, ...]`.

    The rows are read in batches of one shape, so one program is compiled.

    Args:
        function: of one member's parameters and some rows of each column; returns a tree of arrays
            whose leading axis is the rows.
        params: of all members, `[S, ...]`.
        columns: arrays with the same leading axis N, by name.
    """
    columns = {name: np.asarray(column) for name, column in columns.items()}
    count = len(next(iter(columns.values())))
    size = min(batch_size, count)
    mapped = training.over_population(lambda params, *, rows: function(params, **rows))
    found = []
    for first in range(0, count, size):
        places = np.minimum(np.arange(first, first + size), count - 1)  # repeats the last row
        rows = {name: column[places] for name, column in columns.items()}
        found.append(jax.tree.map(np.asarray, mapped(params, rows=rows)))
    return jax.tree.map(lambda *parts: np.concatenate(parts, axis=1)[:, :count], *found)


def score(
    task: Any, metrics: Callable[[PyTree, Any], dict[str, Any]], params: PyTree, batch: Any
) -> dict[str, Any]:
    """Return how well each seed does on held-out sequences, as entries of a summary.

    Args:
        task: a `rnnjax.tasks.Task`.
        metrics: `metrics(params, batch)` of one seed: the task's, of the network's outputs.
        params, batch: of all seeds, `[S, ...]`.

    Returns:
        `final_loss` (the median over seeds), `chance` (the loss of the best memoryless answer),
        `success` (the share of seeds that pass the task's own rule), `loss_of_seeds` and
        `accuracy_of_seeds`.
    """
    found = jax.tree.map(np.asarray, training.over_population(metrics)(params, batch))
    seeds = range(len(found["loss"]))
    solved = [task.success({name: of_seeds[i] for name, of_seeds in found.items()}) for i in seeds]
    return {
        "final_loss": float(np.median(found["loss"])),
        "chance": task.chance,
        "success": float(np.mean(solved)),
        "loss_of_seeds": found["loss"].tolist(),
        "accuracy_of_seeds": found["accuracy"].tolist(),
    }


def member(params: PyTree, index: int) -> PyTree:
    """Return the parameters of one member; `params` are those of all, `[S, ...]`."""
    return jax.tree.map(lambda leaf: leaf[index], params)


def parameter_count(params: PyTree) -> int:
    """Return the number of parameters of one member; `params` are those of all, `[S, ...]`."""
    return sum(p[0].size for p in jax.tree.leaves(params))
