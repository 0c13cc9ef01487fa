"""What a cell is: a frozen dataclass of hyperparameters whose methods are pure functions.

Axis letters, here and in every annotation of the package:
T time, B batch, D input features, H hidden features, G gates, L layers, S seeds.
"""

import abc
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact

from rnnjax.cells import initializers

PyTree = Any
Initializer = Callable[..., Array]  # (key, shape, dtype) -> array, as in jax.nn.initializers


class Cell(abc.ABC):
    """One recurrence, `s' = step(params, s, project(params, x))`, read out as `output(s)`.

    Subclass it with a `@dataclasses.dataclass(frozen=True)` of hyperparameters. A cell holds no
    arrays: it must be hashable, and equal cells must compare equal, because `rnnjax.unroll` takes
    it as a static argument and caches what it compiled under it. Every method accepts any number
    of leading batch dimensions, none included. Write no single-example cell to be vmapped.

    The carry is any pytree of arrays `[*batch, ...]`; make it a `NamedTuple`, so that order cannot
    bite. `rnnjax.testing.check_cell(cell, input_size)` checks all of this.
    """

    @abc.abstractmethod
    def init(self, key: Array, input_size: int) -> PyTree:
        """Draw the parameters, a pytree (a `NamedTuple` by custom), for inputs `[*batch, D]`."""

    @abc.abstractmethod
    def initial_carry(self, batch_shape: Sequence[int]) -> PyTree:
        """Return the carry that a sequence starts from, leaves `[*batch_shape, ...]`."""

    @abc.abstractmethod
    def project(self, params: PyTree, x: Any) -> PyTree:
        """Return the input half `u` of the step: whatever needs `x [*batch, D]` but no carry.

        `unroll` calls it once with all T steps, so that it is one large matmul.
        """

    @abc.abstractmethod
    def step(self, params: PyTree, carry: PyTree, u: PyTree) -> PyTree:
        """Return the next carry: the recurrent half, which `lax.scan` iterates."""

    @abc.abstractmethod
    def output(self, carry: PyTree) -> Inexact[Array, "*batch H"]:
        """Read the output `[*batch, H]` from a carry."""


class Noisy(NamedTuple):
    """Inputs of a `Stochastic` cell, and beside them the noise of each step."""

    x: Any  # [*batch, D], or `Noisy` again for a stochastic cell around another
    noise: Any  # [*batch, N]


class Stochastic(Cell):
    """A cell with noise in its steps, as dropout is: abstract.

    The noise comes with the inputs, so that the cell stays a pure function. With plain inputs
    there is none: the cell as it is evaluated.
    """

    @abc.abstractmethod
    def with_noise(self, key: Array, xs: Any) -> Noisy:
        """Return inputs `xs [T, *batch, D]` for `unroll` with noise drawn for each of the steps."""


class GatedParams(NamedTuple):
    """Parameters of a gated cell. The G gate blocks lie side by side, in `gate_names` order."""

    input_kernel: Any  # [D, G*H]
    recurrent_kernel: Any  # [H, G*H]
    bias: Any  # [G*H]


@dataclasses.dataclass(frozen=True)
class Gated(Cell):
    """A cell whose recurrent half is one matmul and then elementwise:

        u = x W + b,    v = h U,    s' = gates(params, s, u, v)

    with `W [D, G*H]`, `U [H, G*H]`, `b [G*H]`, and u and v given as tuples of G arrays
    `[*batch, H]`, one for each name in `gate_names`. A subclass says its `gate_names` and writes
    `init`, `initial_carry` and `gates`; its carry has a field `h`, its parameters the three fields
    of `GatedParams` and any others that act elementwise (a second bias, peepholes).

    Args:
        features: H, the number of hidden units.
        kernel_init: initialiser of one `[D, H]` block of W, or a tuple of G, one for each gate.
        recurrent_kernel_init: initialiser of one `[H, H]` block of U, or a tuple of G. Wrap it in
            `initializers.Fused` to draw all of U at once, as some libraries do.
        bias_init: initialiser of one `[H]` block of b, or a tuple of G.
        dtype: what the matmuls compute in (accumulating in `param_dtype`); None means the
            promoted type of inputs and parameters. The elementwise part and the carry stay in
            `param_dtype`.
        param_dtype: type of the parameters and of the initial carry.

    Numbers that `init` alone uses, a forget bias or the gain of an initialiser, may be traced, so
    that each network of a population has its own: make a cell with them, call its `init`, and
    `unroll` the cell without them, which is hashable.

    Raises:
        ValueError: `features` is not a positive integer, or a tuple of initialisers has not
            G entries.
    """

    gate_names: ClassVar[tuple[str, ...]]

    features: int
    _: dataclasses.KW_ONLY
    kernel_init: Initializer | tuple[Initializer, ...] = initializers.Gaussian()
    recurrent_kernel_init: Initializer | tuple[Initializer, ...] = initializers.Orthogonal()
    bias_init: Initializer | tuple[Initializer, ...] = jax.nn.initializers.zeros
    dtype: Any = None
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

    @abc.abstractmethod
    def gates(self, params: Any, carry: Any, u: tuple[Array, ...], v: tuple[Array, ...]) -> PyTree:
        """Return the next carry, elementwise in `carry`, `u` and `v` (tuples of G `[*batch, H]`).

        `params` are the cell's own with the kernels and the bias, already applied, set to None.
        Name the gates with `jax.ad_checkpoint.checkpoint_name(value, "f")`: by these names
        `rnnjax.diagnostics.gates` finds them.
        """

    def init_blocks(self, key: Array, input_size: int) -> GatedParams:
        """Draw W, U and b gate by gate from the three initialisers."""
        check_size("input_size", input_size)
        gates, width = len(self.gate_names), self.features
        input_key, recurrent_key, bias_key = jax.random.split(key, 3)
        return GatedParams(
            initializers.blocks(
                self.kernel_init, input_key, (input_size, width), gates, self.param_dtype
            ),
            initializers.blocks(
                self.recurrent_kernel_init, recurrent_key, (width, width), gates, self.param_dtype
            ),
            initializers.blocks(self.bias_init, bias_key, (width,), gates, self.param_dtype),
        )

    def split(self, packed: Inexact[Array, "*batch GH"]) -> tuple[Array, ...]:
        """Cut gate blocks that lie side by side into a tuple of G arrays `[*batch, H]`."""
        return tuple(jnp.split(packed, len(self.gate_names), axis=-1))

    def project(self, params: Any, x: Array) -> tuple[Array, ...]:
        """Return `x W + b`, split by gate.

        Raises:
            ValueError: x has not the D features that the parameters were made for.
        """
        if jnp.shape(x)[-1] != params.input_kernel.shape[0]:
            raise ValueError(
                f"inputs must have {params.input_kernel.shape[0]} features, as the parameters "
                f"have; got shape {jnp.shape(x)}"
            )
        return self.split(matmul(x, params.input_kernel, self.dtype) + params.bias)

    def step(self, params: Any, carry: Any, u: tuple[Array, ...]) -> PyTree:
        """Return `gates(params, carry, u, h U)`."""
        return self.gates(self.elementwise(params), carry, u, self.recur(params, carry))

    def recur(self, params: Any, carry: Any) -> tuple[Array, ...]:
        """Return `h U`, split by gate."""
        return self.split(matmul(carry.h, params.recurrent_kernel, self.dtype))

    def elementwise(self, params: Any) -> Any:
        """Return what `gates` gets of the parameters: the kernels and the bias set to None."""
        return params._replace(input_kernel=None, recurrent_kernel=None, bias=None)

    def output(self, carry: Any) -> Inexact[Array, "*batch H"]:
        """Return the hidden state h."""
        return carry.h


def is_gated(cell: Any) -> bool:
    """Return whether the step is one recurrent matmul and then elementwise."""
    return isinstance(cell, Gated) and type(cell).step is Gated.step


def matmul(x: Array, kernel: Array, dtype: Any) -> Array:
    """Return `x @ kernel`, multiplied in `dtype` and accumulated in the kernel's own type.

    With `dtype=None` both are promoted to a common type, as everywhere in JAX.
    """
    if dtype is None:
        return x @ kernel
    return jnp.matmul(x.astype(dtype), kernel.astype(dtype), preferred_element_type=kernel.dtype)


def check_size(name: str, size: Any) -> None:
    """Raise a ValueError that names the argument unless `size` is a positive integer."""
    if isinstance(size, bool) or not hasattr(size, "__index__") or size < 1:
        raise ValueError(f"{name} must be a positive integer, got {size!r}")


def zeros(batch_shape: Sequence[int], features: int, dtype: Any) -> Float[Array, "*batch H"]:
    """Return a zero state `[*batch_shape, features]`."""
    return jnp.zeros((*batch_shape, features), dtype)
