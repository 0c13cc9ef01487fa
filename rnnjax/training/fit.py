"""The simplest training: one network, one call."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax.runs import Run
from rnnjax.training.history import ChunkRecord
from rnnjax.training.loop import (
    Chunk,
    NonFiniteError,
    TrainState,
    TrainStep,
    train_on_batches,
    train_on_samples,
)
from rnnjax.training.resumable import ResumableTraining


class FitResult(NamedTuple):
    """What `fit` returns: the final state, and each metric at every step."""

    state: TrainState
    metrics: dict[str, np.ndarray]  # name -> [steps]


def fit(
    train_step: TrainStep,
    state: TrainState,
    sample: Callable[[Any], Any] | Iterable[Any],
    steps: int,
    *,
    chunk_size: int = 100,
    run: Run | None = None,
    checkpoint_every: int = 500,
    label: str = "training",
) -> FitResult:
    """Train one network; its state has no leading population axis.

    It computes what this loop does, compiled, with a progress bar on a terminal:

        for step in range(steps):
            key, step_key = jax.random.split(state.key)
            state, metrics[step] = train_step(state._replace(key=key), sample(step_key))

    With batches from an iterator the state keeps its key, and the step is
    `train_step(state, next(batches))`. For several seeds at a time, and to act between steps, see
    `train_on_samples`.

    Args:
        train_step: pure function of a state and a batch to the new state and a flat dict of scalar
            metrics. It adds one to `state.step` and does not change `state.key`.
        state: of the network, without a leading axis.
        sample: pure function of a key to a batch, run on the device; or an iterable of batches,
            pytrees of NumPy arrays, all of one shape.
        steps: number of updates.
        chunk_size: number of updates between two updates of the progress bar. It does not change
            any number.
        run: a run directory to write metrics and checkpoints to. A run from
            `Run.resume_or_create` is resumed from its newest checkpoint.
        checkpoint_every: number of updates between two checkpoints in `run`.
        label: shown beside the progress bar.

    Raises:
        ValueError: `steps` or `chunk_size` is below 1, a metric is not a scalar, or the iterable
            ends before `steps` updates are done.
        NonFiniteError: a metric is NaN or infinite; the message names the metric and the step.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> import rnnjax
        >>> from rnnjax.training import TrainState, fit
        >>> cell, optimizer = rnnjax.GRU(8), optax.adam(0.01)
        >>> def sample(key):  # sum the inputs
        ...     xs = jax.random.normal(key, (5, 16, 1))  # [T, B, D]
        ...     return xs, xs.sum((0, 2))
        >>> def loss_fn(params, batch):
        ...     xs, targets = batch
        ...     _, hs = rnnjax.unroll(cell, params, xs)
        ...     return jnp.mean((hs[-1].sum(-1) - targets) ** 2)
        >>> def train_step(state, batch):
        ...     loss, gradient = jax.value_and_grad(loss_fn)(state.params, batch)
        ...     updates, opt_state = optimizer.update(gradient, state.opt_state)
        ...     params = optax.apply_updates(state.params, updates)
        ...     return TrainState(params, opt_state, state.step + 1, state.key), {"loss": loss}
        >>> params = cell.init(jax.random.key(0), 1)
        >>> state = TrainState(params, optimizer.init(params), jnp.int32(0), jax.random.key(1))
        >>> state, metrics = fit(train_step, state, sample, 200)
        >>> int(state.step), metrics["loss"].shape, bool(metrics["loss"][-1] < metrics["loss"][0])
        (200, (200,), True)
    """
    population = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], state)
    options: dict[str, Any] = {"steps": steps, "chunk_size": min(chunk_size, max(steps, 1))}
    try:
        if run is None:
            final, chunks = _train(train_step, population, sample, label, options)
        else:
            resumable = ResumableTraining(run, {}, [0], 1, checkpoint_every, label=label)
            final, chunks = _train_in_run(train_step, population, sample, resumable, options)
    except NonFiniteError as error:
        raise NonFiniteError(str(error).removesuffix(" (member 0)")) from None
    metrics = {
        name: np.concatenate([chunk.metrics[name][:, 0] for chunk in chunks])
        for name in chunks[0].metrics
    }
    return FitResult(jax.tree.map(lambda leaf: leaf[0], final), metrics)


def _train(train_step, state, sample, label, options) -> tuple[TrainState, Sequence[Chunk]]:
    if callable(sample):
        chunks = list(train_on_samples(train_step, state, sample, label=label, **options))
    else:
        chunks = list(train_on_batches(train_step, state, [sample], label=label, **options))
    return chunks[-1].state, chunks


def _train_in_run(
    train_step, state, sample, resumable, options
) -> tuple[TrainState, Sequence[ChunkRecord]]:
    if callable(sample):
        result = resumable.train_on_samples(train_step, state, sample, **options)
    else:
        result = resumable.train_on_batches(train_step, state, [sample], **options)
    return result.state, result.chunks
