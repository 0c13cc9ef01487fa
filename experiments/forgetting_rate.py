"""How many steps of truncated back-propagation are worth one unbiased gradient?

Claim: if a network's gradient halves every h steps, back-propagation through the last k steps
misses a share of about 2^(-k/h) of the whole gradient, and has no variance; UORO, averaged over M
draws, has no bias and a relative error of sqrt(V / M). UORO is the better of the two from
M = V 4^(k/h) draws on: each half-life of the window costs four times the draws. The window with
which M draws are no better,

    k* = h/2 log2(M / V),

grows in proportion to the half-life, and as V > 1, a few half-lives win against any M within reach.
The unbiased method pays only for a network that forgets more slowly than the window one can afford
(the variance of UORO: Tallec, Ollivier 2017, "Unbiased online recurrent optimization",
arXiv:1702.05043; that it competes with truncation is the practice, the formula is this file's).

Networks learn by whole back-propagation to say their input of d steps ago, so that they forget at
different rates. Then, on held-out sequences of T steps with the loss of the last one, theta the
parameters of the cell, g_j the part of dL/dtheta of lag j: truncation after k steps leaves out
exactly the sum of g_j over j > k, for all k at once. Its relative error squared, and V, are means
over sequences of what is missed and of |g^ - g|^2 over --draws of UORO, over the mean of |g|^2. h
is that of `gradient_profile`, of the state. k* is the first k with an error of at most sqrt(V / M).

Verdict: `reproduced` if for every cell, at M = 10,000: (1) in every network one step of truncation
errs less than one draw of UORO: all N random signs add noise, so V > 1, and no window misses more
than all; (2) k* <= h/2 log2(M) = 6.6 h in every network, the formula with V = 1; (3) k* is within a
factor of two of the formula (at least 1, the shortest window) in three quarters of the networks:
windows are chosen in steps of two. `inconclusive` if half-lives differ by less than a factor of
four over all networks. `quick run only` if --steps, --seeds, --features, --length, --sequences or
--draws is below its default.

    python experiments/forgetting_rate.py
    python experiments/forgetting_rate.py --cells gru lru ./mine.py:MyCell --delays 1 3 9
"""

import dataclasses
import functools
import math

from rnnjax import diagnostics, experiment, online, tasks, training
from rnnjax.command_line import at_least, progress, rising
from rnnjax.experiment import CellOptions, TrainingOptions, Verdict, grids, readout
from rnnjax.networks import short_name

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

AVERAGED = 1, 100, 10_000  # draws M
MOST = AVERAGED[-1]


@dataclasses.dataclass(frozen=True)
class Config(TrainingOptions, CellOptions):
    """Compare the bias of truncated back-propagation with the variance of UORO.

    Prints a table and writes figures (PNG, SVG), the numbers behind them (CSV), metrics.jsonl and
    summary.json. The default run takes about a minute and a half on two CPU cores.
    """

    delays: tuple[int, ...] = (1, 2, 4, 8, 16)
    """Delays d of the networks' tasks, in rising order."""
    length: int = 64
    """Steps T of a sequence."""
    features: int = 16
    steps: int = 400
    """Training updates."""
    learning_rate: float = 1e-2
    """Step size of the Adam optimiser, from which it falls to zero like a cosine."""
    seeds: int = 2
    """Networks for each delay."""
    sequences: int = 16
    """Held-out sequences on which the gradients of a network are compared."""
    draws: int = 32
    """Gradients that UORO draws for each of them."""

    def __post_init__(self):
        super().__post_init__()
        at_least(1, self, "sequences", "draws", "delays"[:0] or "draws")
        rising(self, "delays")
        self.make_tasks()

    def make_tasks(self):
        make = functools.partial(experiment.make_task, {"recall": tasks.DelayedRecall}, "recall")
        return [make(length=self.length, delay=delay) for delay in self.delays]
