"""Linear cells: the next state is linear in the state, by coefficients of the input alone."""

import abc
from typing import Any

import jax
import jax.numpy as jnp

from rnnjax.cells.base import Cell
from rnnjax.cells.fields import check_fields

PyTree = Any


class Linear(Cell):
    """A cell that is linear in its state, entry by entry: abstract.

        (a, b) = coefficients(ready, x),   s' = a * s + b

    a and b depend on the input alone. So all time steps can be computed at once, by
    `rnnjax.unroll_parallel`; `rnnjax.unroll` computes them one after the other. The gradient that
    passes k steps back is the product of k factors a, entry by entry, and the Lyapunov exponents
    are the means of ln |a|.

    A subclass defines `init`, `initial_carry`, `coefficients` and `output`. The leaves of its carry
    are floating or complex, of any shape. `project` and `step` follow. `output` sees the carry
    alone: a query or an output gate, which the readout takes from the input, is kept in the carry
    with a = 0; a readout with weights of its own belongs to the layer.
    """

    def __init_subclass__(cls):
        """Refuse to override what the scan over time does not call: `project` and `step`."""
        for name in ("project", "step"):
            if getattr(cls, name) is not getattr(Linear, name):  # a mixin's, too
                raise TypeError(
                    f"{cls.__name__} must not override {name}, because a scan over time does not "
                    "call it; override coefficients"
                )
        check_fields(cls)

    @abc.abstractmethod
    def coefficients(self, ready: PyTree, x: Any) -> tuple[PyTree, PyTree]:
        """Return a and b for inputs `[*batch, D]`, two pytrees like the carry.

        Leaves of b have the shape of those of the carry, `[*batch, ...]`, and leaves of a broadcast
        to it: a may be one number for all examples, or one for each head of a matrix. Where nothing
        of a leaf is kept, let its a be the number 0.0: then no scan is made for it.
        """

    def project(self, ready: PyTree, x: Any) -> tuple[PyTree, PyTree]:
        """Return `coefficients(ready, x)`, a in the shape of b. Final."""
        a, b = self.coefficients(ready, x)
        return jax.tree.map(lambda a, b: jnp.broadcast_to(a, jnp.shape(b)), a, b), b

    def step(self, ready: PyTree, carry: PyTree, u: tuple[PyTree, PyTree]) -> PyTree:
        """Return a * s + b, in the type of s. Final."""
        del ready
        return jax.tree.map(lambda s, a, b: jnp.asarray(a * s + b, s.dtype), carry, *u)
