"""What the forward and the backward loop of a gated cell have in common."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from rnnjax.cells.gated import GatedStep
from rnnjax.recurrence.activations import cut
from rnnjax.recurrence.carries import RealLeaves
from rnnjax.recurrence.chunks import Kept, at
from rnnjax.recurrence.jaxprs import elementwise_vectors, evaluated, used
from rnnjax.recurrence.options import batch_shape

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Plan:
    """How to step a gated cell forward and backward: functions, and the layout of arrays.

    A step is `s = enter(shared, s, now_t)`, then `leave(s, gates(s, u, v), now_t)`.
    """

    cell: GatedStep
    enter: Callable
    half: Any  # a `Half` of `leave(s, gates(...), now)`, flags (other leaves of u and w, now)
    ready: RealLeaves
    u: RealLeaves
    weights: RealLeaves  # of `elementwise(ready)`
    by_project: tuple[bool, ...]  # the real leaves of `ready` that `project` uses
    by_input: tuple[bool, ...]  # the real leaves of u that `recurrent_input` uses
    by_feature: tuple[bool, ...]  # the real weights [H] that `gates` uses feature by feature
    lean: bool

    @property
    def count(self) -> int:
        """G, the number of gates."""
        return len(self.cell.gate_names)

    @property
    def kept(self) -> Kept:
        """The arrays that each step keeps."""
        return Kept(self.half.kept)

    def weights_over(self, batch: tuple[int, ...], ready: PyTree) -> tuple[list, list]:
        """Return the real weights of `gates` and its other ones; those `[H]` for each example.

        The gradients of the repeated ones are then elementwise too, and are summed over the batch
        once, after the loop.
        """
        floats, others = self.weights.split(self.cell.elementwise(ready))
        pairs = zip(floats, self.by_feature, strict=True)
        return [jnp.broadcast_to(p, (*batch, *p.shape)) if own else p for p, own in pairs], others


def make_plan(
    cell: GatedStep, enter: Callable, leave: Callable, arguments: tuple, lean: bool
) -> Plan:
    """Return the plan for the arguments of `fast_scan`, `(ready, carry, xs, now, shared)`."""
    ready, carry, xs, now, _ = arguments
    x, here = jax.eval_shape(lambda xs, now: at((xs, now), 0), xs, now)
    batch = batch_shape(cell, xs)
    all_ready = RealLeaves.of(ready)
    u = jax.eval_shape(cell.project, ready, x)
    v = jax.eval_shape(cell.recur, ready, carry, u)
    elementwise = jax.eval_shape(cell.elementwise, ready)
    real_u, real_weights = RealLeaves.of(u), RealLeaves.of(elementwise)
    (floats, rest), (weights, weights_rest) = real_u.split(u), real_weights.split(elementwise)
    flags = rest, weights_rest, here

    def gates(carry, u, v, weights, flags):
        u_rest, weights_rest, now = flags
        params = real_weights.join(weights, weights_rest)
        after = cell.next_carry(params, carry, real_u.join(u, u_rest), v)
        return leave(carry, after, now)

    def by_weights(weights, carry, u, v, flags):
        return gates(carry, u, v, weights, flags)

    def project(floats, others, x):
        return cell.project(all_ready.join(floats, others), x)

    def multiplied(floats, others, carry):
        return cell.recurrent_input(carry, real_u.join(floats, others))

    inlined = jax.make_jaxpr(evaluated(by_weights, _unchanged))(weights, carry, floats, v, flags)
    plan = Plan(
        cell,
        enter,
        half=None,
        ready=all_ready,
        u=real_u,
        weights=real_weights,
        by_project=_uses(project, *all_ready.split(ready), x),
        by_input=_uses(multiplied, floats, rest, carry),
        by_feature=tuple(elementwise_vectors(inlined.jaxpr)[: len(weights)]),
        lean=lean,
    )
    weights = jax.eval_shape(lambda ready: plan.weights_over(batch, ready)[0], ready)
    return dataclasses.replace(plan, half=cut(gates, carry, floats, v, weights, flags))


def _unchanged(equation, inputs):
    """Inline jitted functions, and leave every equation unchanged."""
    del equation, inputs


def _uses(function: Callable, floats: list, *others: Any) -> tuple[bool, ...]:
    """Return which of `floats`, its first argument, a function depends on."""
    jaxpr = jax.make_jaxpr(function)(floats, *others).jaxpr
    return tuple(used(jaxpr)[: len(floats)])


def pick(values: Sequence[Any], where: tuple[bool, ...]) -> list[Any]:
    """Return the values at the true places."""
    return [value for value, take in zip(values, where, strict=True) if take]


def spread(picked: Sequence[Any], where: tuple[bool, ...], others: Sequence[Any]) -> list[Any]:
    """Return `others` with the picked values at the true places."""
    values = iter(picked)
    return [next(values) if take else x for take, x in zip(where, others, strict=True)]
