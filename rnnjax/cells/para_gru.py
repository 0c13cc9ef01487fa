"""The ParaGRU: a GRU whose units are connected to themselves only."""

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


class ParaGRUParams(NamedTuple):
    """Parameters of a ParaGRU, gate blocks in the order r, z, n."""

    input_kernel: Any  # [D, 3H]
    recurrent_kernel: Any  # [3H], diagonal
    bias: Any  # [3H]


class ParaGRUCarry(NamedTuple):
    """The state of a ParaGRU."""

    h: Any  # [*batch, H]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParaGRU(Gated):
    """r, z = s(W x + w * h + b);  n = tanh(W x + b + w * (r h));  h' = (1 - z) h + z n.

    A GRU with diagonal recurrent weights: it is nonlinear in its state, and its Jacobian is
    diagonal. So the gradient that passes k steps back is a product of k numbers for each unit,

        d h' / d h = 1 - z + z (1 - z) w_z (n - h) + z (1 - n^2) w_n (r + r (1 - r) w_r h),

    which may be negative or exceed 1, unlike the factors 1 - z of a `MinGRU`, to which it comes
    down with w = 0 (and without the tanh). Newton's method over time is exact with it at the cost
    of an elementwise scan.

    Parameters: `input_kernel [D, 3H]`, `recurrent_kernel [3H]`, `bias [3H]`, blocks in the order
    r, z, n.
    Source: Danieli et al. 2025, "ParaRNN: unlocking parallel training of nonlinear RNNs for large
    language models", arXiv:2510.21450, equations 3.1a, 3.2a and 3.3, where n is c. As there, z
    takes n in; in `GRU` z keeps h. W is dense here, and block-diagonal in their code
    (apple/ml-pararnn), where the bias of z starts between -1 and 0.

    Args:
        recurrent_kernel_init: initialiser of w, called for one `[1, H]` block of each gate, or a
            tuple of 3.
        forget_bias: subtracted at initialisation from the bias of z, so that 1 - z, which plays the
            forget gate's part, begins larger: a number or `Chrono(t_max)`.
    """

    gate_names = ("r", "z", "n")
    init_only = *INITIALISERS, "forget_bias"

    recurrent_kernel_init: Initializer | tuple[Initializer, ...] = initializers.Uniform()
    forget_bias: float | int | Array | Chrono = 0.0

    def init(self, key: Array, input_size: int) -> ParaGRUParams:
        """Draw the parameters for inputs `[*batch, input_size]`."""
        kernel, recurrent, bias = self.init_blocks(key, input_size, recurrent_size=1)
        r, z, n = jnp.split(bias, 3)
        z = z - draw(self.forget_bias, jax.random.fold_in(key, 3), z.shape, z.dtype)
        return ParaGRUParams(kernel, recurrent[0], jnp.concatenate([r, z, n]))

    def initial_carry(self, batch_shape: Sequence[int]) -> ParaGRUCarry:
        """Return h = 0."""
        return ParaGRUCarry(zeros(batch_shape, self.features, self.param_dtype))

    def gates(
        self, params: Any, carry: ParaGRUCarry, u: tuple[Array, ...], v: tuple[Array, ...]
    ) -> ParaGRUCarry:
        """Return the next h."""
        del params
        r, z = name(sigmoid(u[0] + v[0]), "r"), name(sigmoid(u[1] + v[1]), "z")
        n = jnp.tanh(u[2] + r * v[2])  # w * (r h) = r (w * h)
        return ParaGRUCarry((1 - z) * carry.h + z * n)
