"""Tasks, their batches, and answers to them."""

import functools

import jax
import numpy as np
import pytest

from rnnjax.tasks import (
    AddingArjovsky2016,
    AddingHochreiter1997,
    CopyMemory,
    Regression,
    TemporalOrder,
    TemporalOrderHochreiter1997,
)

SMALLEST = [
    AddingArjovsky2016(2),
    AddingHochreiter1997(10),
    CopyMemory(1, symbols=2, memorise=1),
    TemporalOrder(10),
    TemporalOrder(10, symbols=3),
    TemporalOrderHochreiter1997(10),
]


USUAL = [  # arrays of 45 steps each, so that little is compiled twice
    AddingArjovsky2016(45),
    AddingHochreiter1997(41),
    CopyMemory(37, symbols=5, memorise=4),
    TemporalOrder(45),
    TemporalOrder(45, symbols=3),
    TemporalOrderHochreiter1997(41, symbols=3),
]


MANY = 8192
every_task = pytest.mark.parametrize("task", SMALLEST + USUAL, ids=repr)
usual_task = pytest.mark.parametrize("task", USUAL, ids=repr)


@functools.cache
def sampler(task):
    return jax.jit(task.sample, static_argnums=1)


@functools.cache
def draw(task, seed=2016):
    """Many sequences as NumPy arrays, sampled under jit."""
    return jax.tree.map(np.asarray, sampler(task)(jax.random.key(seed), MANY))


def few(task):
    """The first seven of them."""
    return jax.tree.map(lambda x: x[:, :7], draw(task))


@functools.cache
def evaluator(task):
    return jax.jit(
        lambda outputs, batch: {
            "loss": task.loss(outputs, batch),
            "gradient": jax.grad(task.loss)(outputs, batch),
            "example_losses": task.example_losses(outputs, batch),
            "correct": task.correct(outputs, batch),
            "metrics": task.metrics(outputs, batch),
        }
    )


def evaluate(task, outputs, batch):
    """Everything that a task says about these outputs."""
    return jax.tree.map(np.asarray, evaluator(task)(outputs, batch))


def fixed(task, batch):
    """The memoryless outputs, one vector a step, that suit this very batch best."""
    shape = (*batch.mask.shape, task.output_size)
    if isinstance(task, Regression):
        count = np.maximum(batch.mask.sum(1), 1)[:, None]
        answer = (batch.targets * batch.mask[..., None]).sum(1) / count
    else:
        answer = np.log(np.eye(task.output_size)[batch.targets].mean(1) + 1e-30)
    return np.broadcast_to(answer[:, None], shape).astype(np.float32)


def noise(task, batch, seed=1):
    shape = (*batch.mask.shape, task.output_size)
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)
