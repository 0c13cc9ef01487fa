"""Constraints on the weights of a gated cell."""

import dataclasses
from typing import Any

import jax
from jaxtyping import Array

from rnnjax.cells.base import Noisy, Stochastic
from rnnjax.cells.constraints import Constraint
from rnnjax.cells.gated import is_gated
from rnnjax.cells.low_rank import LowRank
from rnnjax.cells.wrapper import Wrapper


@dataclasses.dataclass(frozen=True)
class Constrained(Wrapper, Stochastic):
    """A gated cell with effective weights U = c_n(...c_2(c_1(raw U))) and W likewise.

        network = Constrained(
            Rate(100, activation_fn=jax.nn.relu),
            recurrent=(constraints.Dale(), constraints.NoSelfConnections()),
            input=(constraints.Dale(1.0),),
        )

    `prepare` applies the constraints in their order, so they hold exactly after every update, and
    gradients, diagnostics and all ways to run the cell see the effective weights. Parameters are
    the cell's own, raw; `low_rank` replaces its `recurrent_kernel` by `LowRankFactors(m, n)`. It
    comes before the other constraints, and a kernel that one of them changes may have another
    rank. Noise is the cell's own.

    Args:
        cell: a gated cell with an `input_kernel [D, G*H]` and a dense `recurrent_kernel [H, G*H]`:
            `Rate`, `Elman`, `LSTM`, `GRU` and others.
        recurrent: constraints of `rnnjax.cells.constraints` on U, or your own.
        input: constraints on W.
        low_rank: a parametrisation of U; None means the cell's own.

    Raises:
        TypeError: the cell is not gated, or `recurrent` or `input` is no tuple of constraints;
            (from `init`) it has no such kernels.
        ValueError: (from `init`) U is not `[H, G*H]`, or as the constraints.
    """

    recurrent: tuple[Constraint, ...] = ()
    input: tuple[Constraint, ...] = ()
    low_rank: LowRank | None = None

    def __post_init__(self):
        if not is_gated(self.cell):
            raise TypeError(f"Constrained needs a gated cell, got {type(self.cell).__name__}")
        for name in ("recurrent", "input"):
            given: Any = getattr(self, name)
            if not (isinstance(given, tuple) and all(isinstance(c, Constraint) for c in given)):
                raise TypeError(f"{name} must be a tuple of constraints, got {given!r}")

    def without_initialisers(self) -> "Constrained":
        """Return the wrapper around the cell without initialisers, and without those of m and n."""
        low_rank = self.low_rank and LowRank(self.low_rank.rank)
        cell = self.cell.without_initialisers()
        return dataclasses.replace(self, cell=cell, low_rank=low_rank)

    def init(self, key: Array, input_size: Any) -> Any:
        """Draw the cell's parameters; they fulfil the constraints."""
        params = self.cell.init(key, input_size)
        _check_kernels(self.cell, params)
        weights = self._constrain(params, "initial")
        if self.low_rank is None:
            return weights
        kernel = params.recurrent_kernel
        factors = self.low_rank.init(jax.random.fold_in(key, 4), kernel.shape, kernel.dtype)
        return weights._replace(recurrent_kernel=factors)

    def prepare(self, params: Any) -> Any:
        """Return the cell's effective parameters under the constraints."""
        if self.low_rank is not None:
            kernel = self.low_rank.kernel(params.recurrent_kernel)
            params = params._replace(recurrent_kernel=kernel)
        return self._constrain(self.cell.prepare(params), "weights")

    def with_noise(self, key: Array, xs: Any) -> Noisy:
        """Draw the noise of the cell, if it has any."""
        return self.cell.with_noise(key, xs) if self._stochastic() else Noisy(xs, None)

    def project(self, ready: Any, x: Any) -> Any:
        """Return the cell's input half."""
        if isinstance(x, Noisy) and not self._stochastic():
            x = x.x
        return self.cell.project(ready, x)

    def gates(self, params: Any, carry: Any, u: Any, v: tuple[Array, ...]) -> Any:
        """Return the next carry, the cell's own arithmetic."""
        return self.cell.gates(params, carry, u, v)

    def _stochastic(self):
        return isinstance(self.cell, Stochastic)

    def _constrain(self, params, method):
        """Return the parameters after a method of each constraint."""
        gates, kernels = len(self.gate_names), {}
        parts = {"recurrent_kernel": self.recurrent, "input_kernel": self.input}
        for name, constraints in parts.items():
            kernels[name] = getattr(params, name)
            for constraint in constraints:
                kernels[name] = getattr(constraint, method)(kernels[name], gates)
        return params._replace(**kernels)


def _check_kernels(cell, params):
    """Raise an error unless the parameters have kernels that can be constrained."""
    for name in ("input_kernel", "recurrent_kernel"):
        kernel = getattr(params, name, None)
        if not (isinstance(kernel, Array) and kernel.ndim == 2):
            raise TypeError(
                f"Constrained needs a cell with a parameter `{name}`, a matrix; "
                f"{type(cell).__name__} has none"
            )
    rows, columns = params.recurrent_kernel.shape
    if rows * len(cell.gate_names) != columns:
        raise ValueError(
            f"Constrained needs a recurrent kernel [H, G*H] with G = {len(cell.gate_names)} gates; "
            f"that of {type(cell).__name__} is {rows} x {columns}"
        )
