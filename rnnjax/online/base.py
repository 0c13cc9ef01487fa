"""The contract of a method that finds gradients forward in time, beside the states.

Of one example, s' = f(theta, s) with real vectors s [N] and theta [P]: the floating leaves of the
carry and of the parameters side by side, complex entries as two real ones.
"""

import abc
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rnnjax.cells.base import Cell
from rnnjax.recurrence.carries import flatten, partition, unflatten
from rnnjax.recurrence.inputs import batch_shape
from rnnjax.recurrence.steps import where

PyTree = Any


class Step(NamedTuple):
    """One step of one example, as a function of real vectors."""

    after: Callable  # (theta, s) -> s'
    theta: Float[Array, " P"]
    s: Float[Array, " N"]


class Method(abc.ABC):
    """A method that finds gradients forward in time: abstract.

    It carries traces beside the state, which say how the state depends on the parameters. A
    subclass is a frozen dataclass and defines `start`, `advance` and `pull`, each for one example.
    Traces are arrays, so they can be scanned over, mapped and saved like a carry.
    """

    @abc.abstractmethod
    def start(self, cell: Cell, step: Step, example: "Example", key: Array | None) -> PyTree:
        """Return the traces of a state that depends on no parameter."""

    @abc.abstractmethod
    def advance(self, cell: Cell, step: Step, example: "Example", traces: PyTree) -> PyTree:
        """Return the traces of the state after a step."""

    @abc.abstractmethod
    def pull(
        self, cell: Cell, step: Step, example: "Example", traces: PyTree, slope: Array
    ) -> Float[Array, " P"]:
        """Return dl/dtheta from dl/ds."""

    def init(
        self, cell: Cell, params: PyTree, carry: PyTree, x: PyTree, key: Array | None = None
    ) -> PyTree:
        """Return traces that know of no step.

        Args:
            cell, params, carry: the cell, its parameters, and a carry `[*batch, ...]`.
            x: inputs of a step, `[*batch, D]`; only their shapes count.
            key: for methods that draw numbers; others ignore it.
        """
        ndim = len(batch_shape(cell, _with_time(x)))
        keys = None if key is None else jax.random.split(key, jax.tree.leaves(x)[0].shape[:ndim])

        def one(carry, x, key):
            example = Example(params, carry, x, jnp.ones(()))
            return self.start(cell, flat_step(cell, example), example, key)

        return _over_batch(one, ndim)(carry, x, keys)

    def step(
        self,
        cell: Cell,
        params: PyTree,
        carry: PyTree,
        traces: PyTree,
        x: PyTree,
        weight: Any = 1.0,
    ) -> tuple[PyTree, PyTree]:
        """Return the carry and the traces after a step.

        Args:
            cell, params, carry, traces, x: as in `init`.
            weight: of what this step adds to the gradient of the parameters; zero leaves it out.
        """
        ndim = len(batch_shape(cell, _with_time(x)))
        ready = cell.prepare(params)
        new = cell.step(ready, carry, cell.project(ready, x))

        def one(carry, traces, x):
            example = Example(params, carry, x, weight)
            return self.advance(cell, flat_step(cell, example), example, traces)

        return new, _over_batch(one, ndim)(carry, traces, x)

    def gradient(
        self, cell: Cell, params: PyTree, carry: PyTree, traces: PyTree, x: PyTree, slope: PyTree
    ) -> PyTree:
        """Return the gradient of a loss of the state after the last step, summed over the batch.

        Args:
            cell, params: the cell and its parameters.
            carry, traces: after the step.
            x: the inputs of the step; only their shapes count.
            slope: dl/ds, a pytree like the carry, as `jax.grad` returns it.
        """
        ndim = len(batch_shape(cell, _with_time(x)))
        floats, merge = partition(params)

        def one(carry, traces, x, slopes):
            example = Example(params, carry, x, jnp.ones(()))
            vector = flatten([jnp.conj(g) for g in slopes], 0)
            return self.pull(cell, flat_step(cell, example), example, traces, vector)

        found = _over_batch(one, ndim)(carry, traces, x, partition(slope, like=carry)[0])
        total = found.reshape(-1, found.shape[-1]).sum(0)
        gradients = [jnp.conj(g) for g in unflatten(total, floats, 0)]
        return merge(gradients, jax.tree.map(jnp.zeros_like, params))

    def reset(self, traces: PyTree, fresh: PyTree, resets: Array) -> PyTree:
        """Return fresh traces where `resets [*batch]` is true.

        A method whose traces hold keys keeps these.
        """
        return where(resets, fresh, traces)


class Example(NamedTuple):
    """What a step of one example is given."""

    params: PyTree
    carry: PyTree
    x: PyTree
    weight: Any


def flat_step(cell: Cell, example: Example) -> Step:
    """Return the step of an example as a function of real vectors."""
    params, carry, x, weight = example
    of_params, merge_params = partition(params)
    of_carry, merge_carry = partition(carry)

    def after(theta, s):
        ready = cell.prepare(merge_params(unflatten(_weighted(theta, weight), of_params, 0)))
        entering = merge_carry(unflatten(s, of_carry, 0))
        new = cell.step(ready, entering, cell.project(ready, x))
        return flatten(partition(new, like=carry)[0], 0)

    return Step(after, flatten(of_params, 0), flatten(of_carry, 0))


@jax.custom_jvp
def _weighted(theta, weight):
    """Return theta, with a derivative that is the weight.

    theta itself does not depend on the weight, so derivatives with respect to weights need none of
    the state or of its Jacobian.
    """
    del weight
    return theta


def _weighted_tangent(tangent, found, theta, weight):
    del found, theta
    return (weight * tangent).astype(tangent.dtype)


_weighted.defjvps(_weighted_tangent, None)


def _with_time(x):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape), x.dtype), x)


def _over_batch(function, ndim):
    return functools.reduce(lambda f, _: jax.vmap(f), range(ndim), function)
