"""The linear recurrent unit: a complex diagonal recurrence that cannot become unstable."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rnnjax.cells import initializers
from rnnjax.cells.base import check_inputs, check_size
from rnnjax.cells.complex_states import as_complex, complex_matmul, complex_zeros, side_by_side
from rnnjax.cells.initializers import Initializer
from rnnjax.cells.linear import Linear


class LRUParams(NamedTuple):
    """Parameters of an LRU, all real."""

    nu_log: Any  # [H], ln of nu = -ln |lambda|
    theta_log: Any  # [H], ln of the phase of lambda
    gamma_log: Any  # [H], ln of the scale of the inputs
    real_kernel: Any  # [D, H], the real part of B
    imaginary_kernel: Any  # [D, H], the imaginary part of B


class LRUReady(NamedTuple):
    """Effective parameters of an LRU."""

    eigenvalues: Any  # complex [H], lambda
    kernel: Any  # [D, 2H], gamma Re B and gamma Im B side by side


class LRUCarry(NamedTuple):
    """The state of an LRU."""

    s: Any  # complex [*batch, H]


@dataclasses.dataclass(frozen=True)
class LRU(Linear):
    """s' = lambda * s + gamma * (B x);  lambda = exp(-exp(nu_log) + i exp(theta_log)).

    The gradient that passes k steps back is lambda^k in each unit by itself: it decays as
    |lambda|^k, turns by k times the phase, and depends neither on the inputs nor on the state.
    |lambda| = exp(-exp(nu_log)) lies below 1 whatever the parameters, so it cannot grow, and steps
    of nu_log become fine ones of |lambda| where that is close to 1.
    gamma = exp(gamma_log) begins as sqrt(1 - |lambda|^2), at which white noise x gives states of
    one variance whatever lambda, and is then trained by itself.
    The outputs are [Re s, Im s], 2H numbers. A Dense layer on them is exactly Re(C s), with the
    kernel [Re C^T; -Im C^T]; with its bias and the skip connection D x it belongs to the layer.
    Parameters: `nu_log [H]`, `theta_log [H]`, `gamma_log [H]`, `real_kernel [D, H]`,
    `imaginary_kernel [D, H]`; the kernels are B.
    Source: Orvieto et al. 2023, "Resurrecting recurrent neural networks for long sequences",
    arXiv:2303.06349, sections 3.3 and 3.4; B is drawn as in NicolasZucchet/minimal-LRU.

    Args:
        features: H, the number of complex states.
        r_min, r_max: at initialisation lambda is uniform on the ring r_min <= |lambda| <= r_max ...
        max_phase: ... between the phases 0 and max_phase.
        kernel_init: initialiser of each of the two `[D, H]` parts of B, which are then divided by
            sqrt(2).
        dtype: the type in which the matmul is computed; None means the promoted type.
        param_dtype: type of the parameters and of the parts of the carry, which has 32 bits at
            least.

    Raises:
        ValueError: `features` is not a positive integer, 0 <= r_min <= r_max <= 1 and r_min < 1
            does not hold, or `max_phase` is not positive.
    """

    init_only = "r_min", "r_max", "max_phase", "kernel_init"

    features: int
    _: dataclasses.KW_ONLY
    r_min: float | int | Array = 0.0
    r_max: float | int | Array = 1.0
    max_phase: float | int | Array = 2 * math.pi
    kernel_init: Initializer = initializers.Gaussian()
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        check_size("features", self.features)
        radii = self.r_min, self.r_max
        known = all(isinstance(r, (float, int)) for r in radii)
        if known and not (0 <= self.r_min <= self.r_max <= 1 and self.r_min < 1):
            raise ValueError(
                f"r_min and r_max must satisfy 0 <= r_min <= r_max <= 1 and r_min < 1, got {radii}"
            )
        if isinstance(self.max_phase, (float, int)) and not self.max_phase > 0:
            raise ValueError(f"max_phase must be positive, got {self.max_phase}")

    def init(self, key: Array, input_size: int) -> LRUParams:
        """Draw the parameters for inputs `[*batch, input_size]`."""
        check_size("input_size", input_size)
        keys = jax.random.split(key, 4)
        wide = jnp.promote_types(self.param_dtype, jnp.float32)
        least, eps = jnp.finfo(wide).tiny, jnp.finfo(wide).eps
        ring, phase = (jax.random.uniform(k, (self.features,), wide, least) for k in keys[:2])
        square = self.r_min**2 + ring * (self.r_max**2 - self.r_min**2)  # of |lambda|
        nu = -jnp.log(jnp.clip(square, least, 1 - eps)) / 2
        gamma = jnp.sqrt(-jnp.expm1(-2 * nu))
        shape = input_size, self.features
        kernels = (self.kernel_init(k, shape, wide) / math.sqrt(2) for k in keys[2:])
        found = jnp.log(nu), jnp.log(self.max_phase * phase), jnp.log(gamma), *kernels
        return LRUParams(*(a.astype(self.param_dtype) for a in found))

    def prepare(self, params: LRUParams) -> LRUReady:
        """Return lambda and gamma B."""
        rate, phase = -jnp.exp(params.nu_log), jnp.exp(params.theta_log)
        parts = (params.real_kernel, params.imaginary_kernel)
        kernel = jnp.concatenate([jnp.exp(params.gamma_log) * part for part in parts], axis=-1)
        return LRUReady(jnp.exp(as_complex(rate, phase)), kernel)

    def initial_carry(self, batch_shape: Sequence[int]) -> LRUCarry:
        """Return s = 0."""
        return LRUCarry(complex_zeros(batch_shape, self.features, self.param_dtype))

    def coefficients(self, ready: LRUReady, x: Array) -> tuple[LRUCarry, LRUCarry]:
        """Return lambda and gamma B x."""
        check_inputs(x, ready.kernel.shape[0])
        return LRUCarry(ready.eigenvalues), LRUCarry(complex_matmul(x, ready.kernel, self.dtype))

    def output(self, carry: LRUCarry) -> Float[Array, "*batch parts"]:
        """Return [Re s, Im s]."""
        return side_by_side(carry.s)
