"""What a cell is: a frozen dataclass of hyperparameters whose methods are pure functions.

Axis letters, here and in every annotation of the package:
T time, B batch, D input features, H hidden features, G gates, L layers, S seeds.
"""

import abc
import dataclasses
from collections.abc import Sequence
from operator import index
from typing import Any, ClassVar, NamedTuple, SupportsIndex

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact

from rnnjax.cells.fields import check_fields

PyTree = Any


class Cell(abc.ABC):
    """One recurrence, read out at every step:

        ready = prepare(params),   u_t = project(ready, x_t),
        s_{t+1} = step(ready, s_t, u_t),   y_t = output(s_{t+1})

    Subclass it with a `@dataclasses.dataclass(frozen=True)` of hyperparameters. A cell holds no
    arrays. It must be hashable, and equal cells must compare equal, because `rnnjax.unroll` takes
    it as a static argument and caches the compiled program under it. Every method except `prepare`
    accepts any number of leading batch dimensions, including none; do not write a single-example
    cell to be vmapped.

    The carry is a pytree of arrays `[*batch, ...]`, floating, complex or integer; use a
    `NamedTuple`, so that every leaf has a name. `rnnjax.testing.check_cell(cell, input_size)`
    checks all of this.
    """

    init_only: ClassVar[tuple[str, ...]] = ()  # fields with defaults that only `init` uses

    def __init_subclass__(cls):
        """Refuse what would set a field of a base class without effect."""
        check_fields(cls)

    @abc.abstractmethod
    def init(self, key: Array, input_size: PyTree) -> PyTree:
        """Draw the raw parameters, a pytree (usually a `NamedTuple`), for inputs `[*batch, D]`.

        `input_size` is D. A cell whose inputs are a pytree of arrays `[*batch, D_i]` receives the
        pytree of their sizes: `{"value": 3, "mask": 3}` for `{"value": x, "mask": m}`.
        """

    def prepare(self, params: PyTree) -> PyTree:
        """Return the effective parameters, which `project` and `step` take; by default `params`.

        Called once per sequence, outside the loop. Put constraints here: U = expm(A - A^T), Dale's
        |W| diag(sign), a mask. Then they cost once per sequence, and every path (the fast
        backward, the diagnostics) sees the effective weights. Gradients with respect to the raw
        parameters follow by the chain rule.
        """
        return params

    @abc.abstractmethod
    def initial_carry(self, batch_shape: Sequence[int]) -> PyTree:
        """Return the carry that a sequence starts from, leaves `[*batch_shape, ...]`."""

    @abc.abstractmethod
    def project(self, ready: PyTree, x: Any) -> PyTree:
        """Return the input half `u` of the step: what needs x `[*batch, D]` but no carry.

        `unroll` calls it with many steps at once, so that it is one large matmul.
        """

    @abc.abstractmethod
    def step(self, ready: PyTree, carry: PyTree, u: PyTree) -> PyTree:
        """Return the next carry: the recurrent half, which `lax.scan` iterates."""

    @abc.abstractmethod
    def output(self, carry: PyTree) -> Inexact[Array, "*batch H"]:
        """Read the output `[*batch, output_size]` from a carry.

        It may have further axes before the last, as the state of a cell that reads images has.
        """

    def without_initialisers(self) -> "Cell":
        """Return the cell under which `rnnjax.unroll` caches its program.

        It has the defaults of the fields that `init_only` names, so that a cell that is made anew
        with a fresh initialiser is not compiled again. A subclass of a class that sets `init_only`
        may use these fields for something else, and keeps them, unless it sets `init_only` too.
        """
        names = type(self).__dict__.get("init_only", ())
        if not names:
            return self
        cell: Any = self
        defaults = {f.name: f.default for f in dataclasses.fields(cell) if f.name in names}
        return dataclasses.replace(cell, **defaults)

    def input_shape(self, input_size: int) -> tuple[int, ...]:
        """Return the shape of one example's input at one step; by default `(input_size,)`.

        A cell that reads images returns `(height, width, input_size)`: its inputs are then
        `[T, *batch, height, width, D]`. The features come last.
        """
        return (input_size,)

    @property
    def surrogate_gradient(self) -> bool:
        """Whether some slopes in this cell are not derivatives, on purpose; by default False.

        Set `surrogate_gradient = True` in a cell with spikes: the step function of the potential,
        with the slope of a smooth function in its place (Neftci, Mostafa, Zenke 2019, "Surrogate
        gradient learning in spiking neural networks"). `check_cell` then does not compare gradients
        with finite differences. Define the spike by `jax.custom_jvp`: its transposed rule is the
        backward pass. With `jax.custom_vjp` there is no forward mode, which Jacobians need.
        """
        return False

    @property
    def output_size(self) -> int:
        """The number of output features, the last axis of what `output` returns."""
        return jax.eval_shape(lambda: self.output(self.initial_carry(()))).shape[-1]


class Noisy(NamedTuple):
    """Inputs of a `Stochastic` cell together with the noise of each step."""

    x: Any  # [*batch, D], or `Noisy` again for a stochastic cell around another
    noise: Any  # [*batch, N]


class Stochastic(Cell):
    """A cell with noise in its steps, such as dropout: abstract.

    The noise comes with the inputs, so that the cell stays a pure function. Plain inputs carry no
    noise: with them the cell runs as it does at evaluation.
    """

    @abc.abstractmethod
    def with_noise(self, key: Array, xs: Any) -> Noisy:
        """Return inputs `xs [T, *batch, D]` for `unroll` with noise drawn for each step."""


def input_sizes(xs: Any) -> PyTree:
    """Return what `init` takes for inputs `[..., D]`: D, or for a pytree of them that of sizes."""
    while isinstance(xs, Noisy):
        xs = xs.x
    return jax.tree.map(lambda x: jnp.shape(x)[-1], xs)


def in_types_of(carry: PyTree, after: PyTree) -> PyTree:
    """Return the next carry in the types of `carry`, so that `lax.scan` can carry it.

    Then wider inputs or parameters do not change the types from one step to the next. A tree of
    another structure, or a leaf of another kind, stays as it is: `rnnjax.unroll` says what is
    wrong.
    """
    if jax.tree.structure(after) != jax.tree.structure(carry):
        return after
    return jax.tree.map(_in_type_of, carry, after)


def _in_type_of(before, after):
    kinds = jnp.floating, jnp.complexfloating
    same = any(jnp.issubdtype(before.dtype, k) and jnp.issubdtype(after.dtype, k) for k in kinds)
    return after.astype(before.dtype) if same else after


def check_size(name: str, size: Any) -> None:
    """Raise a ValueError that names the argument unless `size` is a positive integer."""
    if isinstance(size, bool) or not isinstance(size, SupportsIndex) or index(size) < 1:
        raise ValueError(f"{name} must be a positive integer, got {size!r}")


def check_inputs(x: Any, features: int) -> None:
    """Raise a ValueError unless x has the features D that the parameters were made for."""
    if jnp.shape(x)[-1] != features:
        raise ValueError(
            f"inputs must have {features} features, as the parameters have; got shape "
            f"{jnp.shape(x)}"
        )


def check_positive(name: str, value: float | int) -> None:
    """Raise a ValueError that names the argument unless `value` is a positive number."""
    if not value > 0:
        raise ValueError(f"{name} must be positive, got {value!r}")


def check_heads(features: Any, num_heads: Any) -> None:
    """Raise a ValueError unless `features` is a positive multiple of a positive `num_heads`."""
    check_size("features", features)
    check_size("num_heads", num_heads)
    if features % num_heads:
        raise ValueError(f"features must be a multiple of num_heads = {num_heads}, got {features}")


def zeros(batch_shape: Sequence[int], features: int, dtype: Any) -> Float[Array, "*batch H"]:
    """Return a zero state `[*batch_shape, features]`."""
    return jnp.zeros((*batch_shape, features), dtype)
