"""A recurrent kernel of low rank, for `Constrained`."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float

from rnnjax.cells.base import check_size
from rnnjax.cells.initializers import Initializer

NORMAL = jax.nn.initializers.normal(1.0)


class LowRankFactors(NamedTuple):
    """The parameters of a kernel of low rank."""

    m: Any  # [G*H, R], columns of the outgoing directions
    n: Any  # [K, R], columns of the selected directions


@dataclasses.dataclass(frozen=True)
class LowRank:
    """W = m n^T / N of rank R, so `recurrent_kernel = n m^T / N`, with m and n as parameters.

    The recurrent input n_r^T phi(x) / N along each m_r is what the network computes with.
    Source: Mastrogiuseppe, Ostojic 2018, "Linking connectivity, dynamics, and computations in
    low-rank recurrent neural networks", Neuron 99.

    Args:
        rank: R.
        m_init: initialiser of m `[H, R]`; by default N(0, 1).
        n_init: initialiser of n `[H, R]`; by default N(0, 1), independent of m, so that the
            eigenvalues n_r^T m_r / N start near 0.

    Raises:
        ValueError: the rank is not a positive integer.
    """

    rank: int
    m_init: Initializer = NORMAL
    n_init: Initializer = NORMAL

    def __post_init__(self):
        check_size("rank", self.rank)

    def init(self, key: Array, shape: Sequence[int], dtype: Any) -> LowRankFactors:
        """Draw m and n of a kernel of this shape."""
        rows, columns = shape
        m_key, n_key = jax.random.split(key)
        m = self.m_init(m_key, (columns, self.rank), dtype)
        return LowRankFactors(m, self.n_init(n_key, (rows, self.rank), dtype))

    def kernel(self, factors: LowRankFactors) -> Float[Array, "K GH"]:
        """Return n m^T / N."""
        return factors.n @ factors.m.T / len(factors.n)
