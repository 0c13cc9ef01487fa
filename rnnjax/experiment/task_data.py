"""Sequences of a task that are set aside: to probe a network on, and to test it on."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax import tasks, training
from rnnjax.command_line import ArgumentError
from rnnjax.experiment.memory import check_memory


def sampled_sets(task: Any, members: Sequence[int], *sizes: int) -> list[Any]:
    """Return one batch `[S, ...]` of each size, sampled per seed apart from the training batches.

    Args:
        task: a `rnnjax.tasks.Sampled`.
        members: the S seeds. The keys are splits of `fold_in(key(seed), 1)`.
        sizes: numbers of sequences.

    Raises:
        ArgumentError: they do not fit into memory.
    """
    keys = [jax.random.split(jax.random.fold_in(jax.random.key(s), 1)) for s in members]
    keys = jnp.concatenate([jnp.stack(keys)[:, i] for i in range(len(sizes))])  # set after set
    sample = functools.partial(task.sample, batch_size=max(sizes))  # one program draws them all
    check_memory("the held-out sequences", jax.eval_shape(sample, keys[0]), copies=len(keys))
    drawn = jax.tree.map(np.asarray, training.over_population(sample)(keys))
    starts = range(0, len(keys), len(members))
    sets = [
        jax.tree.map(lambda a, i=i, n=n: a[i : i + len(members), :, :n], drawn)
        for i, n in zip(starts, sizes, strict=True)
    ]
    if jax.process_count() > 1:  # every process has all of them, to look at
        return sets
    return [training.shard_population(one) for one in sets]


def padded_sets(variants: Sequence[Any], members: Sequence[int], size: int) -> Any:
    """Return a batch of each of N tasks, padded to the longest of them: `[S, N, T, B, ...]`.

    Args:
        variants: N tasks, each a `rnnjax.tasks.Sampled`, that differ in their length.
        members, size: as for `sampled_sets`.
    """
    total = max(task.total_length for task in variants)
    sets = [sampled_sets(task, members, size)[0] for task in variants]
    padded = [jax.vmap(functools.partial(tasks.pad, total_length=total))(one) for one in sets]
    return jax.tree.map(lambda *parts: jnp.stack(parts, axis=1), *padded)


def end_to_end_inputs(task: Any, keys: Any, *, examples: int, sequences: int) -> Any:
    """Return inputs of a task one sequence after the other, as of a long run: `[S, N T, B, D]`.

    Args:
        task: a `rnnjax.tasks.Sampled`.
        keys: of the S seeds; each draws with `fold_in(key, 1)`.
        examples: B.
        sequences: N, for each example.
    """
    sample = functools.partial(task.sample, batch_size=examples * sequences)
    inputs = jax.vmap(lambda key: sample(jax.random.fold_in(key, 1)).inputs)(keys)  # [S, T, N B, D]
    seeds, length = inputs.shape[:2]
    apart = inputs.reshape(seeds, length, sequences, examples, -1).swapaxes(1, 2)
    return apart.reshape(seeds, sequences * length, examples, -1)


def digit_sets(
    config: Any, make_batch: Callable[..., Any], *sizes: int | None
) -> tuple[list[Any], Callable[[], list[Iterator[Any]]]]:
    """Return one batch `[S, ...]` of test images of each size, and how to read training batches.

    Args:
        config: has `batch_size`, `members`, the S seeds, and `permuted`.
        make_batch: makes a batch of the columns of `rnnjax.datasets.digits`.
        sizes: numbers of test images; None means all.

    Returns:
        The batches, the same for all seeds; and a function that returns one iterator of training
        batches per seed.

    Raises:
        ArgumentError: a batch is larger than the training set, or a package is missing.
    """
    from rnnjax.datasets import digits

    def pipeline(split, size, seed):
        batches = digits.pipeline(split, size, seed=seed, permuted=config.permuted)
        return (make_batch(**batch) for batch in batches)

    def training_batches() -> list[Iterator[Any]]:
        return [pipeline("train", config.batch_size, seed) for seed in config.members]

    try:
        training_batches()  # refuses what does not fit, now
        sets = [next(pipeline("test", size or digits.SIZES["test"], 0)) for size in sizes]
    except (ImportError, RuntimeError, ValueError) as error:
        raise ArgumentError(f"--task digits: {error}") from error
    copies = len(config.members)
    return [jax.tree.map(lambda a: np.stack([a] * copies), one) for one in sets], training_batches
