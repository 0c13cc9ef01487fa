"""The ParaLSTM: an LSTM whose units are connected to themselves only."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name as name
from jax.nn import sigmoid
from jaxtyping import Array

from rnnjax.cells import initializers
from rnnjax.cells.base import zeros
from rnnjax.cells.gated import INITIALISERS, Gated
from rnnjax.cells.initializers import Chrono, Initializer, draw


class ParaLSTMParams(NamedTuple):
    """Parameters of a ParaLSTM, gate blocks in the order f, g, o."""

    input_kernel: Any  # [D, 3H]
    recurrent_kernel: Any  # [3H], diagonal
    bias: Any  # [3H]
    peephole: Any  # [2H], of f and o


class ParaLSTMCarry(NamedTuple):
    """The state of a ParaLSTM: the cell state c (the carousel) and the hidden state h."""

    c: Any  # [*batch, H]
    h: Any  # [*batch, H]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParaLSTM(Gated):
    """f = s(W x + w * h + p * c + b);  g = tanh(W x + w * h + b);  c' = f c + (1 - f) g;
    o = s(W x + w * h + p * c' + b);  h' = o tanh(c').

    An LSTM with peepholes p, coupled gates (i = 1 - f) and diagonal recurrent weights. Its Jacobian
    is a matrix of 2 x 2 for each unit, from (c, h) to (c', h'), so the gradient that passes k steps
    back is a product of k such matrices, unit by unit:

        d c' / d c = f + f (1 - f) p_f (c - g)
        d c' / d h = f (1 - f) w_f (c - g) + (1 - f) (1 - g^2) w_g
        d h' / d c = a d c' / d c,   a = o (1 - tanh(c')^2) + o (1 - o) p_o tanh(c')
        d h' / d h = a d c' / d h + o (1 - o) w_o tanh(c')

    With w = 0 and p = 0 it is triangular with eigenvalues f and 0: the factors of
    the gradient then depend on the inputs alone.

    Parameters: `input_kernel [D, 3H]`, `recurrent_kernel [3H]` (w), `bias [3H]`, blocks in the
    order f, g, o, and `peephole [2H]` (p), blocks in the order f, o.
    Source: Danieli et al. 2025, "ParaRNN: unlocking parallel training of nonlinear RNNs for large
    language models", arXiv:2510.21450, equations 3.1b, 3.2b and 3.3, where g is z. W is dense here,
    and block-diagonal in their code (apple/ml-pararnn), where the bias of f starts between -1
    and 0.

    Args:
        recurrent_kernel_init: initialiser of w, called for one `[1, H]` block of each gate, or a
            tuple of 3.
        peephole_init: initialiser of p, called for one `[1, H]` block of f and one of o, or a tuple
            of 2.
        forget_bias: added to the bias of f once, at initialisation: a number or `Chrono(t_max)`.

    Raises:
        ValueError: a tuple of initialisers has not as many entries as there are blocks, or as in
            `Gated`.
    """

    gate_names = ("f", "g", "o")
    init_only = *INITIALISERS, "peephole_init", "forget_bias"

    recurrent_kernel_init: Initializer | tuple[Initializer, ...] = initializers.Uniform()
    peephole_init: Initializer | tuple[Initializer, ...] = initializers.Uniform()
    forget_bias: float | int | Array | Chrono = 1.0

    def __post_init__(self):
        Gated.__post_init__(self)
        if isinstance(self.peephole_init, tuple) and len(self.peephole_init) != 2:
            raise ValueError(
                "peephole_init must be one initialiser or 2, one for each of the gates f, o; got a "
                f"tuple of {len(self.peephole_init)}"
            )

    def init(self, key: Array, input_size: int) -> ParaLSTMParams:
        """Draw the parameters for inputs `[*batch, input_size]`."""
        kernel, recurrent, bias = self.init_blocks(key, input_size, recurrent_size=1)
        keys = (jax.random.fold_in(key, i) for i in (3, 4))  # split returns 0, 1 and 2
        f, g, o = jnp.split(bias, 3)
        f = f + draw(self.forget_bias, next(keys), f.shape, f.dtype)
        shape = 1, self.features
        peephole = initializers.blocks(self.peephole_init, next(keys), shape, 2, self.param_dtype)
        return ParaLSTMParams(kernel, recurrent[0], jnp.concatenate([f, g, o]), peephole[0])

    def initial_carry(self, batch_shape: Sequence[int]) -> ParaLSTMCarry:
        """Return c = h = 0."""
        state = zeros(batch_shape, self.features, self.param_dtype)
        return ParaLSTMCarry(state, state)

    def gates(
        self, params: ParaLSTMParams, carry: ParaLSTMCarry, u: tuple[Array, ...], v: tuple
    ) -> ParaLSTMCarry:
        """Return the next (c, h)."""
        f, g, o = (a + b for a, b in zip(u, v, strict=True))
        p_f, p_o = jnp.split(params.peephole, 2)
        f = name(sigmoid(f + p_f * carry.c), "f")
        c = f * carry.c + (1 - f) * jnp.tanh(g)
        o = name(sigmoid(o + p_o * c), "o")
        return ParaLSTMCarry(c, o * jnp.tanh(c))
