"""Trials of several tasks side by side in one batch, for one network that performs them all.

Tasks have the same `total_length` and features. Trials of a task lie together, in order of tasks,
and there are equally many of each.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from rnnjax.tasks.base import Batch
from rnnjax.tasks.trials.base import TrialTask


class AlignedTrials(NamedTuple):
    """What `aligned_trials` returns."""

    inputs: Any  # [T, K * count, D], of K tasks
    conditions: list[Any]  # of each task, arrays [count]
    after_first: Any  # [T, K], whether a step is in one of the epochs after the first


def sample_tasks(tasks: Sequence[TrialTask], key: PRNGKeyArray, count: int) -> Batch:
    """Draw `count` trials of each task: arrays `[T, K * count, ...]` for K tasks.

    Raises:
        ValueError: the tasks differ in `total_length` or `input_size`.
    """
    _check(tasks)
    keys = jax.random.split(key, len(tasks))
    parts = [task.sample(own, count) for task, own in zip(tasks, keys, strict=True)]
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves, axis=1), *parts)


def aligned_trials(tasks: Sequence[TrialTask], key: PRNGKeyArray, count: int) -> AlignedTrials:
    """Draw `count` trials of each task without noise, all of a task with its `longest_epochs`.

    At each step such trials differ in nothing but their conditions.

    Raises:
        ValueError: the tasks differ in `total_length` or `input_size`.
    """
    _check(tasks)
    inputs: list[Float[Array, "T B D"]] = []
    conditions, after = [], []
    for task, own in zip(tasks, jax.random.split(key, len(tasks)), strict=True):
        epochs = task.longest_epochs
        conditions.append(jax.vmap(task.draw)(jax.random.split(own, count)))
        build = jax.vmap(lambda c, task=task, epochs=epochs: task.build(c, epochs), out_axes=1)
        inputs.append(build(conditions[-1]).inputs)
        after.append(task.during(epochs, *task.epoch_names[1:]))
    steps: Bool[Array, "T K"] = jnp.stack([jnp.asarray(a) for a in after], axis=1)
    return AlignedTrials(jnp.concatenate(inputs, axis=1), conditions, steps)


def _check(tasks):
    for name in ("total_length", "input_size"):
        values = sorted({getattr(task, name) for task in tasks})
        if len(values) > 1:
            raise ValueError(f"tasks must have the same {name}, got {values}")
