"""Long expressive memory: two states whose time steps are learned."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name as name
from jax.nn import sigmoid
from jaxtyping import Array, Inexact

from rnnjax.cells import initializers
from rnnjax.cells.base import check_positive, zeros
from rnnjax.cells.gated import INITIALISERS, Gated
from rnnjax.cells.initializers import Initializer
from rnnjax.cells.kernels import matmul


class LEMParams(NamedTuple):
    """Parameters of a LEM, gate blocks in the order delta, delta_bar, z; then those of y."""

    input_kernel: Any  # [D, 3H]
    recurrent_kernel: Any  # [H, 3H], which multiplies y
    bias: Any  # [3H]
    y_input_kernel: Any  # [D, H]
    y_recurrent_kernel: Any  # [H, H], which multiplies z'
    y_bias: Any  # [H]


class LEMCarry(NamedTuple):
    """The state of a LEM: y, which is the output, and z."""

    y: Any  # [*batch, H]
    z: Any  # [*batch, H]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LEM(Gated):
    """z' = (1 - D) z + D tanh(g),   y' = (1 - E) y + E tanh(W_y x + U_y z' + b_y),

        D = dt s(d),   E = dt s(e),   (d, e, g) = W x + U y + b

    Euler steps of two coupled differential equations; D and E (Delta and Delta-bar in the paper)
    are step sizes of each unit, learned from the input and y. With dt <= 1 states that start within
    [-1, 1] stay there, since each step averages a state with a tanh. Of the gradient, the part that
    stays within a unit is bounded: it is a product of factors 1 - D or 1 - E in (1 - dt, 1). The
    part through the weights is not, but a step adds at most C dt to it, where C depends on the
    norms of the weights, so over k steps the whole gradient grows by at most exp(C k dt).
    Parameters: `input_kernel [D, 3H]`, `recurrent_kernel [H, 3H]` and `bias [3H]`, blocks in the
    order delta, delta_bar, z; `y_input_kernel [D, H]`, `y_recurrent_kernel [H, H]`, `y_bias [H]`.

    The step multiplies twice, by U and by U_y, as that of `LSTMP` does, and keeps the fast
    backward.
    Source: Rusch, Mishra, Erichson, Mahoney 2022, "Long expressive memory for sequence modeling",
    arXiv:2110.04744, equation 3. The initialisation is this library's; the authors' code draws
    every parameter from U[-1/sqrt(H), 1/sqrt(H)].

    Args:
        dt: the largest step size.
        y_kernel_init: initialiser of `y_input_kernel`.
        y_recurrent_kernel_init: initialiser of `y_recurrent_kernel`.

    Raises:
        ValueError: `dt` is not positive, or as in `Gated`.
    """

    gate_names = ("delta", "delta_bar", "z")
    init_only = *INITIALISERS, "y_kernel_init", "y_recurrent_kernel_init"

    dt: float | int = 1.0
    y_kernel_init: Initializer = initializers.Gaussian()
    y_recurrent_kernel_init: Initializer = initializers.Orthogonal()

    def __post_init__(self):
        Gated.__post_init__(self)
        check_positive("dt", self.dt)

    def init(self, key: Array, input_size: int) -> LEMParams:
        """Draw the parameters for inputs `[*batch, input_size]`."""
        params, width = self.init_blocks(key, input_size), self.features
        of_x, of_z = (jax.random.fold_in(key, i) for i in range(2))
        return LEMParams(
            *params,
            y_input_kernel=self.y_kernel_init(of_x, (input_size, width), self.param_dtype),
            y_recurrent_kernel=self.y_recurrent_kernel_init(of_z, (width, width), self.param_dtype),
            y_bias=jnp.zeros(width, self.param_dtype),
        )

    def initial_carry(self, batch_shape: Sequence[int]) -> LEMCarry:
        """Return y = z = 0."""
        state = zeros(batch_shape, self.features, self.param_dtype)
        return LEMCarry(state, state)

    def project(self, ready: LEMParams, x: Array) -> tuple[Array, ...]:
        """Return `x W + b`, split by gate, and `x W_y + b_y`."""
        gates = Gated.project(self, ready, x)
        return *gates, matmul(x, ready.y_input_kernel, self.dtype) + ready.y_bias

    def recurrent_input(self, carry: LEMCarry, u: Any) -> Inexact[Array, "*batch K"]:
        """Return y, which U multiplies."""
        del u
        return carry.y

    def elementwise(self, ready: LEMParams) -> LEMParams:
        """Return U_y alone."""
        return LEMParams(*[None] * 6)._replace(y_recurrent_kernel=ready.y_recurrent_kernel)

    def gates(
        self, params: LEMParams, carry: LEMCarry, u: tuple[Array, ...], v: tuple[Array, ...]
    ) -> LEMCarry:
        """Return the next (y, z)."""
        *gates, of_y = u
        d, e, g = (a + b for a, b in zip(gates, v, strict=True))
        d, e = self.dt * name(sigmoid(d), "delta"), self.dt * name(sigmoid(e), "delta_bar")
        z = (1 - d) * carry.z + d * jnp.tanh(g)
        candidate = jnp.tanh(of_y + matmul(z, params.y_recurrent_kernel, self.dtype))
        return LEMCarry((1 - e) * carry.y + e * candidate, z)

    def output(self, carry: LEMCarry) -> Inexact[Array, "*batch H"]:
        """Return y."""
        return carry.y
