"""What `RTRL` and its approximations have in common: traces that are ds/dtheta, or a part of it."""

import abc

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rnnjax.cells.base import Cell
from rnnjax.online import local
from rnnjax.online.base import Example, Method, Step


class Influence(Method):
    """A method that carries the influence of the parameters, P = ds/dtheta: abstract.

    Its traces are `[k, P]` where they are local (`rnnjax.online.local`), and else P, transposed:
    `[P, N]`. A subclass is a frozen dataclass and defines `is_local` and `advance`.
    """

    @abc.abstractmethod
    def is_local(self, cell: Cell, example: Example) -> bool:
        """Return whether the traces of a cell are local; raise a TypeError if they must be."""

    def start(self, cell, step, example, key):
        """Return zeros."""
        del key
        if self.is_local(cell, example):
            return local.zeros(example, step)
        return jnp.zeros((*step.theta.shape, *step.s.shape), step.s.dtype)

    def pull(self, cell, step, example, traces, slope):
        """Return P^T slope."""
        del step
        if self.is_local(cell, example):
            return local.pulled(cell, example, traces, slope)
        return traces @ slope


def after_step(cell: Cell, example: Example, step: Step, traces: Array) -> Float[Array, "P N"]:
    """Return J P + df/dtheta, transposed.

    Where each parameter enters one unit, only k numbers of df/dtheta are computed for it, and J
    takes N backward steps that leave the parameters alone.
    """
    if local.served(cell, example) is None:
        pull = jax.vjp(lambda s: step.after(step.theta, s), step.s)[1]
        (jacobian,) = jax.vmap(pull)(jnp.eye(len(step.s), dtype=step.s.dtype))
        added = local.spread(cell, example, local.immediate(cell, example, step))
    else:
        of_theta, jacobian = jacobians(step)
        added = of_theta.T
    return traces @ jacobian.T + added


def jacobians(step: Step) -> tuple[Float[Array, "N P"], Float[Array, "N N"]]:
    """Return df/dtheta and J, by N backward steps."""
    pull = jax.vjp(step.after, step.theta, step.s)[1]
    return jax.vmap(pull)(jnp.eye(len(step.s), dtype=step.s.dtype))
