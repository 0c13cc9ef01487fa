"""Gated cells: one recurrent product a step, and then arithmetic on each example.

`GatedStep` is the protocol that the fast backward and the diagnostics use; wrappers around a gated
cell follow it too. `Gated` is the usual way to write one: three parameters, drawn gate by gate.
"""

import abc
import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from rnnjax.cells import initializers
from rnnjax.cells.base import Cell, check_inputs, check_size, in_types_of
from rnnjax.cells.fields import check_fields
from rnnjax.cells.initializers import Initializer
from rnnjax.cells.kernels import matmul, product

PyTree = Any


class GatedStep(Cell):
    """A cell whose step is one recurrent product and then arithmetic on each example: abstract.

        a = recurrent_input(s, u),   v = a U,   s' = gates(elementwise(ready), s, u, v)

    with `U = recurrent_kernel(ready)`. The number of axes of U says how it multiplies
    `a [*batch, K]`:

        dense            [K, G*H]               v = a U
        block-diagonal   [N, K/N, G*H/N]        v = a U_n in each of N heads
        diagonal         [G*H]                  v_g = a * U_g, with K = H

    `rnnjax.unroll` differentiates such a cell by a backward pass of its own: the loop keeps one
    product per step, and the gradient of U is one large product for many steps. A subclass that
    overrides `step` has the plain step of any `Cell`, in every path.
    """

    def __init_subclass__(cls):
        """Refuse to override what every path has inlined: `recur`, `split` and `next_carry`."""
        check_fields(cls)
        for name, instead in _FINAL.items():
            if getattr(cls, name) is not getattr(GatedStep, name):  # a mixin's, too
                raise TypeError(
                    f"{cls.__name__} must not override {name}, because the gradients and the "
                    f"diagnostics do not call it; override {instead}"
                )

    @property
    @abc.abstractmethod
    def gate_names(self) -> tuple[str, ...]:
        """The names of the G gates, in the order of their blocks."""

    @property
    @abc.abstractmethod
    def dtype(self) -> Any:
        """The type in which the products are computed; None means the promoted type."""

    @property
    def gated(self) -> bool:
        """Whether `step` is as above; False where a subclass overrides it."""
        return type(self).step is GatedStep.step

    def recurrent_input(self, carry: Any, u: Any) -> Inexact[Array, "*batch K"]:
        """Return `a`, the part of the carry that is multiplied; by default `carry.h`."""
        del u
        return carry.h

    @abc.abstractmethod
    def recurrent_kernel(self, ready: Any) -> Array:
        """Return U: dense, block-diagonal or diagonal."""

    @abc.abstractmethod
    def elementwise(self, ready: Any) -> Any:
        """Return the part of the parameters that `gates` takes, without the large kernels."""

    @abc.abstractmethod
    def gates(self, params: Any, carry: Any, u: Any, v: tuple[Array, ...]) -> PyTree:
        """Return the next carry from `u = project(ready, x)` and v, a tuple of G `[*batch, H]`.

        Arithmetic on each example: elementwise functions, and sums over the features of one
        example. `params` are those of `elementwise`. A kernel among them may be multiplied (as by
        `LSTMP`): its gradient is then summed step by step, and that of U still at once.

        Name the gates with `jax.ad_checkpoint.checkpoint_name(value, "f")`:
        `rnnjax.diagnostics.gates` finds them by these names.
        """

    def step(self, ready: Any, carry: Any, u: Any) -> PyTree:
        """Return `next_carry(elementwise(ready), carry, u, recur(ready, carry, u))`."""
        return self.next_carry(self.elementwise(ready), carry, u, self.recur(ready, carry, u))

    def next_carry(self, params: Any, carry: Any, u: Any, v: tuple[Array, ...]) -> PyTree:
        """Return what `gates` returns, in the types in which the carry entered. Final.

        So wider inputs or parameters do not change the carry's type from one step to the next.
        """
        return in_types_of(carry, self.gates(params, carry, u, v))

    def recur(self, ready: Any, carry: Any, u: Any) -> tuple[Array, ...]:
        """Return the recurrent product v, split by gate. Final."""
        a = self.recurrent_input(carry, u)
        return product(a, self.recurrent_kernel(ready), len(self.gate_names), self.dtype)

    def split(self, packed: Inexact[Array, "*batch GH"]) -> tuple[Array, ...]:
        """Cut gate blocks that lie side by side into a tuple of G arrays `[*batch, H]`. Final."""
        return tuple(jnp.split(packed, len(self.gate_names), axis=-1))


_FINAL = {
    "next_carry": "gates",
    "recur": (
        "prepare to change the weights, recurrent_input to change what is multiplied, or gates to "
        "change what follows the product"
    ),
    "split": "project or gates",
}


INITIALISERS = "kernel_init", "recurrent_kernel_init", "bias_init"


class GatedParams(NamedTuple):
    """Parameters of a gated cell. The G gate blocks lie side by side, in `gate_names` order."""

    input_kernel: Any  # [D, G*H]
    recurrent_kernel: Any  # [H, G*H], or another form that `GatedStep` knows
    bias: Any  # [G*H]


@dataclasses.dataclass(frozen=True)
class Gated(GatedStep):
    """A gated cell with one input kernel, one recurrent kernel and one bias:

        u = x W + b,    v = h U,    s' = gates(params, s, u, v)

    with `W [D, G*H]`, `U [H, G*H]`, `b [G*H]`, and u and v given as tuples of G arrays
    `[*batch, H]`, one for each name in `gate_names`. A subclass defines `gate_names`, `init`,
    `initial_carry` and `gates`. Its carry has a field `h`; its parameters have the three fields
    of `GatedParams` and possibly others that act elementwise (a second bias, peepholes).

    Args:
        features: H, the number of hidden units.
        kernel_init: initialiser of one `[D, H]` block of W, or a tuple of G, one for each gate.
        recurrent_kernel_init: initialiser of one `[H, H]` block of U, or a tuple of G: those of
            `rnnjax.initializers` (`Orthogonal`, `Identity`, `SpectralRadius`, ...) or of
            `jax.nn.initializers`. Wrap it in `initializers.Fused` to draw all of U at once, as
            some libraries do.
        bias_init: initialiser of one `[H]` block of b, or a tuple of G.
        dtype: the type in which the matmuls are computed (accumulating in `param_dtype`); None
            means the promoted type of inputs and parameters. The elementwise part and the carry
            stay in `param_dtype`.
        param_dtype: type of the parameters and of the carry.

    Numbers that only `init` uses, such as a forget bias or the gain of an initialiser, may be
    traced, so that each network of a population has its own: call `init` of a cell that has them,
    and `unroll` the cell without them, which is hashable.

    Raises:
        ValueError: `features` is not a positive integer, or a tuple of initialisers has not
            G entries.
    """

    gate_names: ClassVar[tuple[str, ...]]  # pyright: ignore

    features: int
    _: dataclasses.KW_ONLY
    kernel_init: Initializer | tuple[Initializer, ...] = initializers.Gaussian()
    recurrent_kernel_init: Initializer | tuple[Initializer, ...] = initializers.Orthogonal()
    bias_init: Initializer | tuple[Initializer, ...] = jax.nn.initializers.zeros
    dtype: Any = None  # pyright: ignore
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        check_size("features", self.features)
        for name in ("kernel_init", "recurrent_kernel_init", "bias_init"):
            init = getattr(self, name)
            if isinstance(init, tuple) and len(init) != len(self.gate_names):
                raise ValueError(
                    f"{name} must be one initialiser or {len(self.gate_names)}, one for each of "
                    f"the gates {', '.join(self.gate_names)}; got a tuple of {len(init)}"
                )

    def init_blocks(
        self, key: Array, input_size: int, recurrent_size: int | None = None
    ) -> GatedParams:
        """Draw W, U and b gate by gate from the three initialisers.

        Args:
            key: a key.
            input_size: D.
            recurrent_size: K, the rows of U; None means H.
        """
        check_size("input_size", input_size)
        gates, width = len(self.gate_names), self.features
        rows = width if recurrent_size is None else recurrent_size
        input_key, recurrent_key, bias_key = jax.random.split(key, 3)
        return GatedParams(
            initializers.blocks(
                self.kernel_init, input_key, (input_size, width), gates, self.param_dtype
            ),
            initializers.blocks(
                self.recurrent_kernel_init, recurrent_key, (rows, width), gates, self.param_dtype
            ),
            initializers.blocks(self.bias_init, bias_key, (width,), gates, self.param_dtype),
        )

    def project(self, ready: Any, x: Array) -> tuple[Array, ...]:
        """Return `x W + b`, split by gate.

        Raises:
            ValueError: x has not the D features that the parameters were made for.
        """
        check_inputs(x, ready.input_kernel.shape[0])
        return self.split(matmul(x, ready.input_kernel, self.dtype) + ready.bias)

    def recurrent_kernel(self, ready: Any) -> Array:
        """Return U, the field `recurrent_kernel`."""
        return ready.recurrent_kernel

    def elementwise(self, ready: Any) -> Any:
        """Return what `gates` takes of the parameters: the kernels and the bias set to None."""
        return ready._replace(input_kernel=None, recurrent_kernel=None, bias=None)

    def output(self, carry: Any) -> Inexact[Array, "*batch H"]:
        """Return the hidden state h."""
        return carry.h


def is_gated(cell: Any) -> bool:
    """Return whether the step of a cell is one recurrent product and then arithmetic."""
    return isinstance(cell, GatedStep) and cell.gated
