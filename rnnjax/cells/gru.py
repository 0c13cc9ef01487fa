"""The gated recurrent unit, reset applied after the matmul."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name as name
from jax.nn import sigmoid
from jaxtyping import Array

from rnnjax.cells.base import zeros
from rnnjax.cells.gated import INITIALISERS, Gated
from rnnjax.cells.initializers import Chrono, draw


class GRUParams(NamedTuple):
    """Parameters of a GRU, gate blocks in the order r, z, n."""

    input_kernel: Any  # [D, 3H]
    recurrent_kernel: Any  # [H, 3H]
    bias: Any  # [3H]
    recurrent_bias: Any  # [H], b_hn, inside the reset gate's product


class GRUCarry(NamedTuple):
    """The state of a GRU."""

    h: Any  # [*batch, H]


@dataclasses.dataclass(frozen=True, kw_only=True)
class GRU(Gated):
    """r, z = s(W x + U h + b);  n = tanh(W x + b + r (U h + b_hn));  h' = (1 - z) n + z h.

    The reset gate acts after the matmul and z **keeps** h, as in cuDNN, PyTorch, Flax and Keras
    (`reset_after=True`). Cho et al. 2014 reset before the matmul and wrote both signs of z.
    Parameters: `input_kernel [D, 3H]`, `recurrent_kernel [H, 3H]`, `bias [3H]`, gate blocks in
    the order r, z, n, and `recurrent_bias [H]`, which is b_hn and starts at zero.
    Source: Cho et al. 2014, "Learning phrase representations using RNN encoder-decoder",
    equations 5-8; the variant is that of the cuDNN documentation.

    Args:
        forget_bias: added at initialisation to the bias of z, which plays the forget gate's part:
            a number or `Chrono(t_max)`.
    """

    gate_names = ("r", "z", "n")
    init_only = *INITIALISERS, "forget_bias"

    forget_bias: float | int | Array | Chrono = 0.0

    def init(self, key: Array, input_size: int) -> GRUParams:
        """Draw the parameters for inputs `[*batch, input_size]`."""
        params = self.init_blocks(key, input_size)
        r, z, n = self.split(params.bias)
        z = z + draw(self.forget_bias, jax.random.fold_in(key, 0), z.shape, z.dtype)
        params = params._replace(bias=jnp.concatenate([r, z, n]))
        return GRUParams(*params, recurrent_bias=jnp.zeros_like(n))

    def initial_carry(self, batch_shape: Sequence[int]) -> GRUCarry:
        """Return h = 0."""
        return GRUCarry(zeros(batch_shape, self.features, self.param_dtype))

    def gates(
        self, params: GRUParams, carry: GRUCarry, u: tuple[Array, ...], v: tuple[Array, ...]
    ) -> GRUCarry:
        """Return the next h."""
        r, z = name(sigmoid(u[0] + v[0]), "r"), name(sigmoid(u[1] + v[1]), "z")
        n = jnp.tanh(u[2] + r * (v[2] + params.recurrent_bias))
        return GRUCarry((1 - z) * n + z * carry.h)
