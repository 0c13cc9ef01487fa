"""The coupled oscillatory recurrent network."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from rnnjax.cells import initializers
from rnnjax.cells.base import check_positive, zeros
from rnnjax.cells.gated import INITIALISERS, Gated, GatedParams


class CoRNNCarry(NamedTuple):
    """The state of a coRNN: positions and velocities of its oscillators."""

    y: Any  # [*batch, H], positions
    z: Any  # [*batch, H], velocities


@dataclasses.dataclass(frozen=True, kw_only=True)
class CoRNN(Gated):
    """z' = z + dt (tanh([y, z] U + V x + b) - gamma y - epsilon z),   y' = y + dt z'.

    Damped oscillators of squared frequency gamma and friction epsilon, which drive one another and
    are driven by the input. Without coupling (U = 0) the gradient of each passes one step by

        [[1 - dt^2 gamma, dt (1 - dt epsilon)], [-dt gamma, 1 - dt epsilon]]

    on (y, z), whose determinant is 1 - dt epsilon: while it oscillates it decays by
    sqrt(1 - dt epsilon) at each step, whatever the frequency. With coupling a step still differs
    from the identity by a matrix of order dt, so over k steps the gradient grows by at most
    exp(C k dt), where C depends on the norms of the weights.
    Parameters: `input_kernel [D, H]`, which is V, `recurrent_kernel [2H, H]`, rows of y and then
    those of z, and `bias [H]`. The output is y.
    Source: Rusch, Mishra 2021, "Coupled oscillatory recurrent neural network (coRNN): an accurate
    and (gradient) stable architecture for learning long time dependencies", arXiv:2010.00951,
    equation 3, with the damping epsilon z explicit, as in the authors' code.

    Args:
        dt: the time step.
        gamma: the squared frequency. The best values of dt, gamma and epsilon differ by task; the
            defaults are those of the authors' code for sequential MNIST.
        epsilon: the friction.
        recurrent_kernel_init: initialiser of one `[H, H]` block of U; there are two, of y and z.

    Raises:
        ValueError: `dt`, `gamma` or `epsilon` is not positive, or as in `Gated`.
    """

    gate_names = ("z",)
    init_only = INITIALISERS

    dt: float | int = 0.042
    gamma: float | int = 2.7
    epsilon: float | int = 4.7

    def __post_init__(self):
        Gated.__post_init__(self)
        for name in ("dt", "gamma", "epsilon"):
            check_positive(name, getattr(self, name))

    def init(self, key: Array, input_size: int) -> GatedParams:
        """Draw the parameters for inputs `[*batch, input_size]`."""
        params = self.init_blocks(key, input_size)
        square = self.features, self.features
        of_z = initializers.blocks(
            self.recurrent_kernel_init, jax.random.fold_in(key, 3), square, 1, self.param_dtype
        )
        both = jnp.concatenate([params.recurrent_kernel, of_z])
        return params._replace(recurrent_kernel=both)

    def initial_carry(self, batch_shape: Sequence[int]) -> CoRNNCarry:
        """Return y = z = 0."""
        state = zeros(batch_shape, self.features, self.param_dtype)
        return CoRNNCarry(state, state)

    def recurrent_input(self, carry: CoRNNCarry, u: Any) -> Inexact[Array, "*batch K"]:
        """Return [y, z], which U multiplies."""
        del u
        return jnp.concatenate([carry.y, carry.z], axis=-1)

    def gates(
        self, params: Any, carry: CoRNNCarry, u: tuple[Array, ...], v: tuple[Array, ...]
    ) -> CoRNNCarry:
        """Return the next (y, z)."""
        del params
        y, z = carry
        z = z + self.dt * (jnp.tanh(u[0] + v[0]) - self.gamma * y - self.epsilon * z)
        return CoRNNCarry(y + self.dt * z, z)

    def output(self, carry: CoRNNCarry) -> Inexact[Array, "*batch H"]:
        """Return the positions y."""
        return carry.y
