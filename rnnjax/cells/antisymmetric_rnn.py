"""The antisymmetric recurrent network: Euler steps of a differential equation that only rotates."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from rnnjax.cells import initializers
from rnnjax.cells.base import check_positive, zeros
from rnnjax.cells.gated import INITIALISERS, Gated, GatedParams
from rnnjax.cells.initializers import Initializer


class AntisymmetricRNNCarry(NamedTuple):
    """The state of an AntisymmetricRNN."""

    h: Any  # [*batch, H]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AntisymmetricRNN(Gated):
    """h' = h + epsilon tanh(W x + U h + b),   U = A - A^T - gamma I.

    A forward Euler step of dh/dt = tanh(...), whose Jacobian diag(tanh') (A - A^T) has imaginary
    eigenvalues i omega: the flow turns the gradient and neither shrinks nor amplifies it. The step
    itself does a little: for small h its eigenvalues are 1 - epsilon gamma + i epsilon omega, so
    with gamma = 0 they are 1 + i epsilon omega, of modulus above one, and the diffusion gamma makes
    up for it. Where tanh saturates, the Jacobian tends to the identity.
    Parameters: `input_kernel [D, H]`, `recurrent_kernel [H, H]`, which is A, and `bias [H]`.
    `prepare` makes U. States are row vectors, h U, so A is the transpose of the paper's W.
    Source: Chang, Chen, Haber, Chi 2019, "AntisymmetricRNN: a dynamical system view on recurrent
    neural networks", arXiv:1902.09689, equation 12, the form without a gate.

    Args:
        epsilon: the step size.
        gamma: the strength of diffusion. 0.01 for both is the pixel-by-pixel MNIST setting.
        recurrent_kernel_init: initialiser of A; by default N(0, 1/H), as in the paper.

    Raises:
        ValueError: `epsilon` is not positive, `gamma` is negative, or as in `Gated`.
    """

    gate_names = ("h",)
    init_only = INITIALISERS

    recurrent_kernel_init: Initializer | tuple[Initializer, ...] = initializers.Gaussian()
    epsilon: float | int = 0.01
    gamma: float | int = 0.01

    def __post_init__(self):
        Gated.__post_init__(self)
        check_positive("epsilon", self.epsilon)
        if not self.gamma >= 0:
            raise ValueError(f"gamma must be at least 0, got {self.gamma!r}")

    def init(self, key: Array, input_size: int) -> GatedParams:
        """Draw the parameters for inputs `[*batch, input_size]`."""
        return self.init_blocks(key, input_size)

    def prepare(self, params: GatedParams) -> GatedParams:
        """Return the parameters with U in place of A."""
        raw = params.recurrent_kernel
        u = raw - raw.T - self.gamma * jnp.eye(self.features, dtype=raw.dtype)
        return params._replace(recurrent_kernel=u)

    def initial_carry(self, batch_shape: Sequence[int]) -> AntisymmetricRNNCarry:
        """Return h = 0."""
        return AntisymmetricRNNCarry(zeros(batch_shape, self.features, self.param_dtype))

    def gates(
        self,
        params: Any,
        carry: AntisymmetricRNNCarry,
        u: tuple[Array, ...],
        v: tuple[Array, ...],
    ) -> AntisymmetricRNNCarry:
        """Return h + epsilon tanh(u + v)."""
        del params
        return AntisymmetricRNNCarry(carry.h + self.epsilon * jnp.tanh(u[0] + v[0]))
