"""The long short-term memory of 1997: memory blocks without a forget gate, fully connected."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name as name
from jax.nn import sigmoid
from jaxtyping import Array, Float

from rnnjax.cells import initializers
from rnnjax.cells.base import check_inputs, check_size, zeros
from rnnjax.cells.gated import INITIALISERS, GatedStep
from rnnjax.cells.initializers import Initializer
from rnnjax.cells.kernels import matmul


class LSTM1997Params(NamedTuple):
    """Parameters of an LSTM of 1997, blocks in the order i, o, g1, ..., gS."""

    input_kernel: Any  # [D, (2+S) B]
    recurrent_kernel: Any  # [C + 2B, (2+S) B]
    bias: Any  # [(2+S) B]


class LSTM1997Carry(NamedTuple):
    """The state of an LSTM of 1997: the cell states, and all activations of its units."""

    c: Any  # [*batch, C], the states (the carousels)
    h: Any  # [*batch, C], the outputs of the cells
    i: Any  # [*batch, B], the input gates
    o: Any  # [*batch, B], the output gates


@dataclasses.dataclass(frozen=True)
class LSTM1997(GatedStep):
    """c' = c + i (4 s(g) - 2);  h' = o (2 s(c') - 1);  i = s(i~), o = s(o~);
    (i~, o~, g) = W x + U (h, i, o) + b.

    B memory blocks of S cells: the cells of a block share its gates. The activations of all
    C + 2B units at the previous step, gates included, are inputs of every gate and every cell. The
    state is added to and never multiplied, so the gradient passes from c' to c unchanged: the
    constant error carousel. With `truncated=True` this is its only way back, as in the paper: the
    derivatives of all net inputs with respect to previous activations are set to zero, and
    d L / d c is the same at every lag. Otherwise the gradient also passes through U. (h is
    a function of c and o, so C of the Lyapunov exponents are -inf.)

    Cell j of block b has the index j B + b: S groups of B cells, so that gates and cells are 2 + S
    blocks of one width B, which the fast backward needs. Parameters: `input_kernel [D, (2+S) B]`,
    `recurrent_kernel [C + 2B, (2+S) B]`, its rows in the order h, i, o, and `bias [(2+S) B]`,
    blocks in the order i, o, g1, ..., gS.
    Source: Hochreiter & Schmidhuber 1997, "Long short-term memory", Neural Computation 9,
    sections 4 and A.1. Where a task of section 5 leaves out a bias, set it to zero and do not
    train it.

    The paper's biases of gates (here -3 and -6, the input gates of two blocks of two cells):

        LSTM1997(
            features=4,
            cells_per_block=2,
            bias_init=(constant(jnp.array([-3.0, -6.0])), Uniform(0.1), Uniform(0.1), Uniform(0.1)),
        )

    Args:
        features: C = B S, the number of cells.
        cells_per_block: S.
        truncated: whether the gradient stops at previous activations; then it is not the derivative
            of the loss, on purpose.
        kernel_init: initialiser of one `[D, B]` block of W, or a tuple of 2 + S. The default,
            U[-0.1, 0.1], is that of most tasks in the paper.
        recurrent_kernel_init: initialiser of one `[C + 2B, B]` block of U, or a tuple of 2 + S.
        bias_init: initialiser of one `[B]` block of b, or a tuple of 2 + S.
        dtype: the type in which the matmuls are computed (accumulating in `param_dtype`); None
            means the promoted type of inputs and parameters.
        param_dtype: type of the parameters and of the carry.

    Raises:
        ValueError: a size is not a positive integer, `features` is not a multiple of
            `cells_per_block`, or a tuple of initialisers has not 2 + S entries.
    """

    init_only = INITIALISERS

    features: int
    _: dataclasses.KW_ONLY
    cells_per_block: int = 1
    truncated: bool = False
    kernel_init: Initializer | tuple[Initializer, ...] = initializers.Uniform(0.1)
    recurrent_kernel_init: Initializer | tuple[Initializer, ...] = initializers.Uniform(0.1)
    bias_init: Initializer | tuple[Initializer, ...] = initializers.Uniform(0.1)
    dtype: Any = None  # pyright: ignore
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        check_size("features", self.features)
        check_size("cells_per_block", self.cells_per_block)
        if self.features % self.cells_per_block:
            raise ValueError(
                f"features must be a multiple of cells_per_block = {self.cells_per_block}, got "
                f"{self.features}"
            )
        for field in INITIALISERS:
            init, count = getattr(self, field), len(self.gate_names)
            if isinstance(init, tuple) and len(init) != count:
                raise ValueError(
                    f"{field} must be one initialiser or {count}, one for each of the blocks "
                    f"{', '.join(self.gate_names)}; got a tuple of {len(init)}"
                )

    @property
    def _blocks(self) -> int:
        """B, the number of memory blocks."""
        return self.features // self.cells_per_block

    @property
    def gate_names(self) -> tuple[str, ...]:
        """The input gates, the output gates, and the net inputs of the S cells of a block."""
        return "i", "o", *(f"g{j + 1}" for j in range(self.cells_per_block))

    @property
    def surrogate_gradient(self) -> bool:
        """Whether it is truncated: its gradient is then not the derivative."""
        return self.truncated

    def init(self, key: Array, input_size: int) -> LSTM1997Params:
        """Draw the parameters for inputs `[*batch, input_size]`."""
        check_size("input_size", input_size)
        width, count = self._blocks, len(self.gate_names)
        shapes = (input_size, width), (self.features + 2 * width, width), (width,)
        inits, keys = (getattr(self, field) for field in INITIALISERS), jax.random.split(key, 3)
        drawn = (
            initializers.blocks(init, k, shape, count, self.param_dtype)
            for init, k, shape in zip(inits, keys, shapes, strict=True)
        )
        return LSTM1997Params(*drawn)

    def initial_carry(self, batch_shape: Sequence[int]) -> LSTM1997Carry:
        """Return zeros: at the start of a sequence no unit is active, gates included."""
        widths = self.features, self.features, self._blocks, self._blocks
        return LSTM1997Carry(*(zeros(batch_shape, width, self.param_dtype) for width in widths))

    def project(self, ready: LSTM1997Params, x: Array) -> tuple[Array, ...]:
        """Return `W x + b`, split into 2 + S blocks.

        Raises:
            ValueError: x has not the D features that the parameters were made for.
        """
        check_inputs(x, ready.input_kernel.shape[0])
        return self.split(matmul(x, ready.input_kernel, self.dtype) + ready.bias)

    def recurrent_input(self, carry: LSTM1997Carry, u: Any) -> Float[Array, "*batch U"]:
        """Return the previous activations of all units, constants if the gradient is truncated."""
        del u
        a = jnp.concatenate([carry.h, carry.i, carry.o], axis=-1)
        return lax.stop_gradient(a) if self.truncated else a

    def recurrent_kernel(self, ready: LSTM1997Params) -> Array:
        """Return U."""
        return ready.recurrent_kernel

    def elementwise(self, ready: LSTM1997Params) -> None:
        """Return no parameters: `gates` takes none."""
        del ready

    def gates(
        self, params: None, carry: LSTM1997Carry, u: tuple[Array, ...], v: tuple[Array, ...]
    ) -> LSTM1997Carry:
        """Return the next states and activations."""
        del params
        i, o, *g = (a + b for a, b in zip(u, v, strict=True))
        i, o = name(sigmoid(i), "i"), name(sigmoid(o), "o")
        c = carry.c + jnp.concatenate([i * 2 * jnp.tanh(net / 2) for net in g], axis=-1)
        outputs = [o * part for part in jnp.split(jnp.tanh(c / 2), len(g), axis=-1)]
        return LSTM1997Carry(c, jnp.concatenate(outputs, axis=-1), i, o)

    def output(self, carry: LSTM1997Carry) -> Float[Array, "*batch H"]:
        """Return the outputs of the cells."""
        return carry.h
