"""Constraints on a kernel, for `Constrained`: masks, Dale's law, frozen weights.

States are row vectors, so that of a recurrent kernel `[H, G*H]`, or an input kernel `[D, G*H]`,
rows are presynaptic and columns postsynaptic: its entry (j, i) is the weight from unit, or input,
j to unit i. The blocks of the G gates lie side by side. Constraints hold no arrays: a mask is kept
as bytes, and what is random follows from a seed, the same in every network of a population.
"""

import abc
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from rnnjax.cells import initializers


class Constraint(abc.ABC):
    """A map from raw weights to the weights that the cell uses: abstract, a frozen dataclass."""

    def initial(self, kernel: Array, gates: int) -> Array:
        """Return the raw kernel to begin with, from one that was drawn; here its weights."""
        return self.weights(kernel, gates)

    @abc.abstractmethod
    def weights(self, kernel: Array, gates: int) -> Array:
        """Return the effective kernel `[K, G*H]` of a raw one."""


@dataclasses.dataclass(frozen=True)
class HeldArray:
    """The numbers of an array as a hashable value."""

    shape: tuple[int, ...]
    dtype: str
    data: bytes = dataclasses.field(repr=False)

    @classmethod
    def of(cls, array: Any) -> "HeldArray":
        """Return the value of an array, which may be one already."""
        if isinstance(array, HeldArray):
            return array
        array = np.asarray(array)
        array = array.astype(array.dtype.newbyteorder("="))
        return cls(array.shape, array.dtype.name, array.tobytes())

    def array(self) -> np.ndarray:
        """Return the array."""
        return np.frombuffer(self.data, self.dtype).reshape(self.shape)

    def fitted(self, name: str, kernel: Array, gates: int) -> np.ndarray:
        """Return the array as wide as the kernel, after repeating one block for each gate.

        Raises:
            ValueError: it has neither the shape of a block nor that of the kernel.
        """
        rows, columns = kernel.shape
        if self.shape == (rows, columns // gates):
            return np.tile(self.array(), (1, gates))
        if self.shape != (rows, columns):
            raise ValueError(
                f"{name} must have shape {(rows, columns // gates)}, as the kernel has, got "
                f"{self.shape}"
            )
        return self.array()


@dataclasses.dataclass(frozen=True)
class Mask(Constraint):
    """U * M: a connection where M is 1, and a weight of exactly 0 where M is 0.

    For structured connectivity, such as areas that are connected to some others only.

    Args:
        connected: M `[K, H]`, the same for each gate, or `[K, G*H]`: an array of booleans, or of
            0 and 1; entry (j, i) is the connection from j to i.

    Raises:
        ValueError: there are other entries; (from `init`) the shape is not that of the kernel.
    """

    connected: Any  # [K, H], kept as a `HeldArray`

    def __post_init__(self):
        object.__setattr__(self, "connected", _held_mask("connected", self.connected))

    def weights(self, kernel: Array, gates: int) -> Array:
        """Return the kernel with zeros where there is no connection."""
        return jnp.where(self.connected.fitted("connected", kernel, gates), kernel, 0)


@dataclasses.dataclass(frozen=True)
class Sparse(Constraint):
    """U * M with M drawn once: each connection exists with the same probability, independently.

    M depends on the seed and the shape alone, and is the same for each gate. The weights that are
    left are not enlarged: a spectral radius falls by sqrt(density).

    Args:
        density: the probability of a connection, 0 < density <= 1.
        seed: of NumPy's generator.

    Raises:
        ValueError: the density is not within 0 < density <= 1.
    """

    density: float | int
    seed: int = 0

    def __post_init__(self):
        if not 0 < self.density <= 1:
            raise ValueError(f"density must be above 0 and at most 1, got {self.density!r}")

    def mask(self, rows: int, columns: int) -> np.ndarray:
        """Return M, booleans `[rows, columns]`."""
        return np.random.default_rng(self.seed).random((rows, columns)) < self.density

    def weights(self, kernel: Array, gates: int) -> Array:
        """Return the kernel with zeros where there is no connection."""
        rows, columns = kernel.shape
        mask = np.tile(self.mask(rows, columns // gates), (1, gates))
        return jnp.where(mask, kernel, 0)


@dataclasses.dataclass(frozen=True)
class NoSelfConnections(Constraint):
    """U with a diagonal of exactly 0, in the block of each gate.

    Raises:
        ValueError: (from `init`) the blocks are not square.
    """

    def weights(self, kernel: Array, gates: int) -> Array:
        """Return the kernel with zeros on the diagonal."""
        rows, columns = kernel.shape
        if rows * gates != columns:
            raise ValueError(
                f"NoSelfConnections needs a square block, got {rows} x {columns // gates}"
            )
        return jnp.where(np.tile(np.eye(len(kernel), dtype=bool), (1, gates)), 0, kernel)


@dataclasses.dataclass(frozen=True)
class Dale(Constraint):
    """diag(sign) |U|: all outgoing weights of a unit are positive, or all are negative.

    In the paper's notation, where columns are presynaptic, W = |W| diag(sign). Its sign belongs to
    the unit that sends, a row of U. The first units, as many as the share says, rounded, are
    excitatory. At the beginning the rows of the n_I inhibitory units are multiplied by n_E / n_I,
    so that excitation and inhibition cancel on average; otherwise the mean weight would be
    positive, and the largest eigenvalue would grow as sqrt(H). Rates should not be negative: phi
    should be `jax.nn.relu`, `jax.nn.softplus`, `jax.nn.sigmoid` or the like.
    Source: Song, Yang, Wang 2016, "Training excitatory-inhibitory recurrent neural networks for
    cognitive tasks: a simple and flexible framework", PLOS Computational Biology 12. There the
    magnitude is max(0, U), which keeps no gradient once a weight is 0, and in the authors' code
    either. With |U| only a weight of exactly 0 has none.

    Args:
        excitatory: the share of excitatory units, 0..1; 1 for an input kernel of positive weights.

    Raises:
        ValueError: the share is not within 0..1.
    """

    excitatory: float | int = 0.8

    def __post_init__(self):
        if not 0 <= self.excitatory <= 1:
            raise ValueError(f"excitatory must be a share within 0..1, got {self.excitatory!r}")

    def signs(self, units: int) -> np.ndarray:
        """Return 1 for each excitatory unit and -1 for each inhibitory one, `[units]`."""
        return np.where(np.arange(units) < round(self.excitatory * units), 1, -1)

    def initial(self, kernel: Array, gates: int) -> Array:
        """Return weights with these signs, in which excitation and inhibition cancel on average."""
        signs = self.signs(len(kernel))
        count = (signs > 0).sum()
        ratio = count / (len(signs) - count) if 0 < count < len(signs) else 1
        return (
            self.weights(kernel, gates)
            * np.where(signs > 0, 1, ratio).astype(kernel.dtype)[:, None]
        )

    def weights(self, kernel: Array, gates: int) -> Array:
        """Return |U| with the sign of each row."""
        del gates
        return jnp.abs(kernel) * self.signs(len(kernel)).astype(kernel.dtype)[:, None]


@dataclasses.dataclass(frozen=True)
class Frozen(Constraint):
    """U with entries that keep their initial values exactly, whatever an optimiser does.

    The values belong to the constraint, not to the parameters, so weight decay does not reach
    them. Give it last: a constraint after it changes these entries too.

    Args:
        values: the values: an array `[K, H]` or `[K, G*H]`, such as the kernel of drawn
            parameters; or an initialiser, which draws them from the seed in float32.
        where: booleans `[K, H]` or `[K, G*H]`, true for the entries that are frozen; None means
            all, the weights of a reservoir.
        seed: of the initialiser.

    Raises:
        ValueError: `where` has other entries than booleans, 0 and 1; (from `init`) a shape is not
            that of the kernel.
    """

    values: Any  # [K, H], kept as a `HeldArray`, or an initialiser
    where: Any = None  # [K, H], kept as a `HeldArray`
    seed: int = 0

    def __post_init__(self):
        if not callable(self.values):
            object.__setattr__(self, "values", HeldArray.of(self.values))
        if self.where is not None:
            object.__setattr__(self, "where", _held_mask("where", self.where))

    def weights(self, kernel: Array, gates: int) -> Array:
        """Return the kernel with the values of the frozen entries."""
        values: Any = self.values
        if callable(values):
            shape = len(kernel), kernel.shape[1] // gates
            with jax.ensure_compile_time_eval():  # a constant of the compiled program
                key = jax.random.key(self.seed)
                values = initializers.blocks(values, key, shape, gates, jnp.float32)
        else:
            values = values.fitted("values", kernel, gates)
        values = jnp.asarray(values, kernel.dtype)
        if self.where is None:
            return values
        return jnp.where(self.where.fitted("where", kernel, gates), values, kernel)


def _held_mask(name: str, mask: Any) -> HeldArray:
    held = HeldArray.of(mask)
    if held.dtype != "bool":
        array = held.array()
        if not np.isin(array, (0, 1)).all():
            raise ValueError(f"{name} must hold booleans, or 0 and 1 only")
        held = HeldArray.of(array.astype(bool))
    return held
