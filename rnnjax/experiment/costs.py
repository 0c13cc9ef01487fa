"""What a gradient costs: bytes that are kept for it, and the time of an update."""

import itertools
from typing import Any

import jax
import numpy as np

import rnnjax
from rnnjax import online
from rnnjax.runs import Run

PyTree = Any


def kept_bytes(method: online.Method | None, cell: Any, params: PyTree, xs: PyTree) -> int:
    """Return how many bytes are kept for the gradient of a cell's parameters.

    Of a method, its carry and traces, at any step. None is back-propagation: what it keeps of the
    sequence `xs`, parameters and inputs included.

    Args:
        method, cell, params, xs: as for `online.start`; only shapes count.
    """

    def kept(params, xs):
        if method is None:
            return jax.vjp(lambda params: rnnjax.unroll(cell, params, xs)[1], params)[1]
        return online.start(method, cell, params, xs, key=jax.random.key(0))

    leaves = jax.tree.leaves(jax.eval_shape(kept, params, xs))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


def update_milliseconds(run: Run, **labels: Any) -> float | None:
    """Return the median milliseconds of an update of all seeds, or None for too short a training.

    Args:
        run: the run, which has times.jsonl.
        labels: of the training, such as `cell="gru"`.
    """
    rows = [r for r in run.read_rows("times.jsonl") if labels.items() <= r.items()]
    times = [
        1000 * (after["time"] - before["time"]) / (after["step"] - before["step"])
        for before, after in itertools.pairwise(rows)
        if after["step"] > before["step"]
    ]
    return float(np.median(times)) if times else None
