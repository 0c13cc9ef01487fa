"""Zoneout: units that randomly keep their last state, around any cell."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from rnnjax.cells.base import Noisy, Stochastic
from rnnjax.cells.gated import is_gated
from rnnjax.cells.wrapper import Wrapper


@dataclasses.dataclass(frozen=True)
class Zoneout(Wrapper, Stochastic):
    """s' = d * s + (1 - d) * step(s, x),  d ~ Bernoulli(rate) for each unit, step and example.

    Without noise d is its mean, `rate`. Integer leaves of the carry are those of the cell's own
    step.
    Source: Krueger et al. 2017, "Zoneout: regularizing RNNs by randomly preserving hidden
    activations", arXiv:1606.01305, equations 5-7.

    Args:
        cell: any cell.
        rate: the probability to keep a unit: a number, or a carry of numbers, such as
            `LSTMCarry(c=0.5, h=0.05)`, the paper's choice for language models.

    Raises:
        ValueError: a rate is not within 0..1, or their number is not that of the carry's leaves.
    """

    rate: Any

    def __post_init__(self):
        rates = jax.tree.leaves(self.rate)
        if not rates or not all(0 <= rate <= 1 for rate in rates):
            raise ValueError(f"rate must lie in 0..1, got {self.rate}")
        count = len(self._sizes())
        if len(rates) not in (1, count):
            raise ValueError(f"rate must be a number or {count} of them, got {self.rate}")

    @property
    def gated(self) -> bool:
        """Whether the inner cell is gated, and no subclass overrides `step`."""
        return type(self).step is Zoneout.step and is_gated(self.cell)

    def with_noise(self, key: Array, xs: Any) -> Noisy:
        """Draw for every floating entry of the carry whether it is kept."""
        key, inner = jax.random.split(key)
        if isinstance(self.cell, Stochastic):
            xs = self.cell.with_noise(inner, xs)
        shape, sizes = jax.tree.leaves(xs)[0].shape, self._sizes()
        steps = shape[: len(shape) - len(self.input_shape(1))]
        keys, rates = jax.random.split(key, len(sizes)), self._rates(len(sizes))
        draws = [
            jax.random.bernoulli(now, rate, (*steps, size))
            for now, rate, size in zip(keys, rates, sizes, strict=True)
        ]
        return Noisy(xs, jnp.concatenate(draws, axis=-1))

    def project(self, ready: Any, x: Any) -> tuple[Any, Any]:
        """Return the cell's input half, and beside it the noise `[*batch, n]` of each leaf."""
        x, noise = x if isinstance(x, Noisy) else (x, None)
        u = self.cell.project(ready, x)
        if noise is None:
            return u, None
        sizes = self._sizes()
        ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
        return u, tuple(jnp.split(noise, ends[:-1], axis=-1))

    def recurrent_input(self, carry: Any, u: tuple[Any, Any]) -> Inexact[Array, "*batch K"]:
        """Return what the cell multiplies."""
        return self.cell.recurrent_input(carry, u[0])

    def gates(self, params: Any, carry: Any, u: tuple[Any, Any], v: tuple[Array, ...]) -> Any:
        """Return the next carry of a gated cell; some of its units keep their state."""
        u, noise = u
        return self._mixed(carry, self.cell.gates(params, carry, u, v), noise)

    def step(self, ready: Any, carry: Any, u: tuple[Any, Any]) -> Any:
        """Return the next carry of any cell; some of its units keep their state."""
        u, noise = u
        return self._mixed(carry, self.cell.step(ready, carry, u), noise)

    def _mixed(self, old: Any, new: Any, noise: Sequence[Array] | None) -> Any:
        before, structure = jax.tree.flatten(old)
        after = jax.tree.leaves(new)
        where = [i for i, leaf in enumerate(after) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
        for place, (i, rate) in enumerate(zip(where, self._rates(len(where)), strict=True)):
            if noise is None:
                after[i] = rate * before[i] + (1 - rate) * after[i]
            else:
                kept = noise[place].reshape(after[i].shape)
                after[i] = jnp.where(kept, before[i], after[i])
        return structure.unflatten(after)

    def _rates(self, count: int) -> list[Any]:
        rates = jax.tree.leaves(self.rate)
        return rates * count if len(rates) == 1 else rates

    def _sizes(self) -> list[int]:
        """Return the number of entries in each floating leaf of one example's carry."""
        leaves = jax.tree.leaves(jax.eval_shape(lambda: self.cell.initial_carry(())))
        floating = [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.inexact)]
        return [math.prod(leaf.shape) for leaf in floating]
