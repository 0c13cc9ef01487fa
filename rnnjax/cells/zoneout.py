"""Zoneout: units that by chance keep their last state, around any cell."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from rnnjax.cells.base import Cell, Noisy, Stochastic


@dataclasses.dataclass(frozen=True)
class Zoneout(Stochastic):
    """s' = d * s + (1 - d) * step(s, x),  d ~ Bernoulli(rate) for each unit, step and example.

    Without noise d is its mean, `rate`. Leaves of the carry that are not floating are those of the
    cell's own step.
    Source: Krueger et al. 2017, "Zoneout: regularizing RNNs by randomly preserving hidden
    activations", arXiv:1606.01305, equations 5-7.

    Args:
        cell: any cell.
        rate: the probability to keep a unit: a number, or a carry of numbers, such as
            `LSTMCarry(c=0.5, h=0.05)`, which is the paper's for language models.

    Raises:
        ValueError: a rate is not within 0..1, or their number is not that of the carry's leaves.
    """

    cell: Cell
    rate: Any

    def __post_init__(self):
        rates = jax.tree.leaves(self.rate)
        if not rates or not all(0 <= rate <= 1 for rate in rates):
            raise ValueError(f"rate must lie in 0..1, got {self.rate}")
        count = len(_floating(jax.eval_shape(lambda: self.cell.initial_carry(()))))
        if len(rates) not in (1, count):
            raise ValueError(f"rate must be a number or {count} of them, got {self.rate}")

    def init(self, key: Array, input_size: int) -> Any:
        """Draw the cell's parameters."""
        return self.cell.init(key, input_size)

    def initial_carry(self, batch_shape: Sequence[int]) -> Any:
        """Return the cell's."""
        return self.cell.initial_carry(batch_shape)

    def with_noise(self, key: Array, xs: Any) -> Noisy:
        """Draw for every floating entry of the carry whether it is kept."""
        key, inner = jax.random.split(key)
        if isinstance(self.cell, Stochastic):
            xs = self.cell.with_noise(inner, xs)
        steps = jax.tree.leaves(xs)[0].shape[:-1]
        leaves = _floating(jax.eval_shape(lambda: self.cell.initial_carry(steps)))
        draws = [
            jax.random.bernoulli(now, rate, (*steps, math.prod(leaf.shape[len(steps) :])))
            for now, rate, leaf in zip(
                jax.random.split(key, len(leaves)), self._rates(len(leaves)), leaves, strict=True
            )
        ]
        return Noisy(xs, jnp.concatenate(draws, axis=-1))

    def project(self, params: Any, x: Any) -> Any:
        """Return the cell's input half, and the noise beside it."""
        x, noise = x if isinstance(x, Noisy) else (x, None)
        return self.cell.project(params, x), noise

    def step(self, params: Any, carry: Any, u: Any) -> Any:
        """Return the next carry, some of whose units are as they were."""
        u, noise = u
        old, structure = jax.tree.flatten(carry)
        new = jax.tree.leaves(self.cell.step(params, carry, u))
        where = [i for i, leaf in enumerate(new) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
        batch = () if noise is None else noise.shape[:-1]
        start = 0
        for i, rate in zip(where, self._rates(len(where)), strict=True):
            if noise is None:
                new[i] = rate * old[i] + (1 - rate) * new[i]
            else:
                end = start + math.prod(new[i].shape[len(batch) :])
                kept = noise[..., start:end].reshape(new[i].shape)
                new[i], start = jnp.where(kept, old[i], new[i]), end
        return structure.unflatten(new)

    def output(self, carry: Any) -> Inexact[Array, "*batch H"]:
        """Return the cell's output."""
        return self.cell.output(carry)

    def _rates(self, count):
        rates = jax.tree.leaves(self.rate)
        return rates * count if len(rates) == 1 else rates


def _floating(carry):
    return [leaf for leaf in jax.tree.leaves(carry) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
