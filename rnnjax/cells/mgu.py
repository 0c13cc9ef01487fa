"""The minimal gated unit: a GRU with one gate for both purposes."""

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
from rnnjax.cells.kernels import matmul


class MGUParams(NamedTuple):
    """Parameters of an MGU: those of its gate f, then those of the candidate n."""

    input_kernel: Any  # [D, H]
    recurrent_kernel: Any  # [H, H], which multiplies h
    bias: Any  # [H]
    candidate_input_kernel: Any  # [D, H]
    candidate_recurrent_kernel: Any  # [H, H], which multiplies f * h
    candidate_bias: Any  # [H]


class MGUCarry(NamedTuple):
    """The state of an MGU."""

    h: Any  # [*batch, H]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MGU(Gated):
    """f = s(W_f x + U_f h + b_f);  n = tanh(W_n x + U_n (f * h) + b_n);  h' = (1 - f) h + f n.

    One gate both renews the state and decides what the candidate n sees of it, so it acts on the
    gradient twice. With U_f = 0 the gradient a' = dL/dh' passes a step back as

        a = (1 - f) a' + f (U_n (tanh' f a'))

    so as f closes, the path through U_n vanishes like f^2, and the path around it stays. A large f
    **replaces** the state, though the paper calls it the forget gate.
    Parameters: `input_kernel [D, H]`, `recurrent_kernel [H, H]`, `bias [H]` of f;
    `candidate_input_kernel [D, H]`, `candidate_recurrent_kernel [H, H]`, `candidate_bias [H]` of n.

    The step multiplies twice, by U_f and by U_n, as that of `LSTMP` does, and keeps the fast
    backward.
    Source: Zhou, Wu, Zhang, Zhou 2016, "Minimal gated unit for recurrent neural networks",
    arXiv:1603.09420.

    Args:
        candidate_kernel_init: initialiser of `candidate_input_kernel`.
        candidate_recurrent_kernel_init: initialiser of `candidate_recurrent_kernel`.
        forget_bias: subtracted at initialisation from the bias of f, so that 1 - f, which keeps the
            state, begins larger: a number or `Chrono(t_max)`.
    """

    gate_names = ("f",)
    init_only = (
        *INITIALISERS,
        "candidate_kernel_init",
        "candidate_recurrent_kernel_init",
        "forget_bias",
    )

    candidate_kernel_init: Initializer = initializers.Gaussian()
    candidate_recurrent_kernel_init: Initializer = initializers.Orthogonal()
    forget_bias: float | int | Array | Chrono = 0.0

    def init(self, key: Array, input_size: int) -> MGUParams:
        """Draw the parameters for inputs `[*batch, input_size]`."""
        params, width, dtype = self.init_blocks(key, input_size), self.features, self.param_dtype
        of_bias, of_x, of_h = (jax.random.fold_in(key, i) for i in range(3))
        forget = draw(self.forget_bias, of_bias, (width,), dtype)
        return MGUParams(
            *params._replace(bias=params.bias - forget),
            candidate_input_kernel=self.candidate_kernel_init(of_x, (input_size, width), dtype),
            candidate_recurrent_kernel=self.candidate_recurrent_kernel_init(
                of_h, (width, width), dtype
            ),
            candidate_bias=jnp.zeros(width, dtype),
        )

    def initial_carry(self, batch_shape: Sequence[int]) -> MGUCarry:
        """Return h = 0."""
        return MGUCarry(zeros(batch_shape, self.features, self.param_dtype))

    def project(self, ready: MGUParams, x: Array) -> tuple[Array, ...]:
        """Return `x W_f + b_f` and `x W_n + b_n`."""
        gate = Gated.project(self, ready, x)
        return *gate, matmul(x, ready.candidate_input_kernel, self.dtype) + ready.candidate_bias

    def elementwise(self, ready: MGUParams) -> MGUParams:
        """Return U_n alone."""
        kernel = ready.candidate_recurrent_kernel
        return MGUParams(*[None] * 6)._replace(candidate_recurrent_kernel=kernel)

    def gates(
        self, params: MGUParams, carry: MGUCarry, u: tuple[Array, ...], v: tuple[Array, ...]
    ) -> MGUCarry:
        """Return the next h."""
        f = name(sigmoid(u[0] + v[0]), "f")
        n = jnp.tanh(u[1] + matmul(f * carry.h, params.candidate_recurrent_kernel, self.dtype))
        return MGUCarry((1 - f) * carry.h + f * n)
