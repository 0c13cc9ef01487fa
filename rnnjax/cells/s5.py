"""A diagonal state space model with a learned time step: S5."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rnnjax.cells import initializers
from rnnjax.cells.base import check_inputs, check_size, zeros
from rnnjax.cells.complex_states import as_complex, complex_matmul, complex_zeros, side_by_side
from rnnjax.cells.initializers import Initializer
from rnnjax.cells.kernels import matmul
from rnnjax.cells.linear import Linear

Spectrum = Literal["hippo", "s4d-lin", "s4d-real"]


class S5Params(NamedTuple):
    """Parameters of an S5, all real; those with "None" are None where A is real."""

    decay_log: Any  # [P], ln(-Re A)
    frequency: Any  # [P], Im A, or None
    step_log: Any  # [P], ln Delta
    real_kernel: Any  # [D, P], the real part of B
    imaginary_kernel: Any  # [D, P], the imaginary part of B, or None


class S5Ready(NamedTuple):
    """Effective parameters of an S5: those of the discrete recurrence."""

    factors: Any  # [P], exp(Delta A)
    kernel: Any  # (exp(Delta A) - 1) / A B: real [D, P], or [D, 2P], Re and Im side by side


class S5Carry(NamedTuple):
    """The state of an S5."""

    s: Any  # [*batch, P], complex unless A is real


@dataclasses.dataclass(frozen=True)
class S5(Linear):
    """s' = exp(Delta A) s + (exp(Delta A) - 1) / A * (B x): ds/dt = A s + B x over a time Delta,

    in which x is constant (zero-order hold), with a diagonal A whose real part is negative.

    The gradient that passes k steps back is exp(k Delta A): it decays as exp(-k Delta |Re A|), and
    one learned number Delta for each state stretches the memory without moving the spectrum A.
    Where every input is held for two steps, the cell with half the Delta passes through the same
    states, and its gradient of 2k steps is the other's of k.
    The outputs are [Re s, Im s], 2P numbers (s itself where A is real). A Dense layer on them is
    exactly Re(C s), or 2 Re(C s); with its bias and the skip connection D x it belongs to the
    layer, and so do activation and normalisation.
    Parameters: `decay_log [P]`, ln(-Re A); `frequency [P]`, Im A; `step_log [P]`, ln Delta;
    `real_kernel [D, P]` and `imaginary_kernel [D, P]`, which are B. Where A is real, `frequency`
    and `imaginary_kernel` are None.
    Source: Smith, Warrington, Linderman 2022, "Simplified state space layers for sequence
    modeling", arXiv:2208.04933, sections 2 and 3 (lindermanlab/S5); the spectra and Re A = -exp(.)
    are those of Gu et al. 2022, "On the parameterization and initialization of diagonal state space
    models", arXiv:2206.11893. S5 has Re A itself for a parameter, and draws a real B and multiplies
    it by the eigenvectors of HiPPO-LegS. These are unitary, so a Gaussian B becomes the complex
    Gaussian that is drawn here. HiPPO-LegS has one block (J = 1).

    Args:
        features: P, the number of states.
        a_init: what A is at initialisation, n = 0..P-1:
            "hippo": eigenvalues of the normal part of the HiPPO-LegS matrix of size 2P, those with
                a positive imaginary part; all real parts are -1/2;
            "s4d-lin": A_n = -1/2 + i pi n;
            "s4d-real": A_n = -(n + 1), a real state.
        dt_min, dt_max: Delta is drawn log-uniformly between them.
        kernel_init: initialiser of B `[D, P]`, or of each of its two parts, which are then divided
            by sqrt(2).
        dtype: the type in which the matmul is computed; None means the promoted type.
        param_dtype: type of the parameters and of the (parts of the) carry; complex parts have 32
            bits at least.

    Raises:
        ValueError: `features` is not a positive integer, `a_init` is none of these, or
            0 < dt_min <= dt_max does not hold.
    """

    init_only = "dt_min", "dt_max", "kernel_init"

    features: int
    _: dataclasses.KW_ONLY
    a_init: Spectrum = "hippo"
    dt_min: float | int | Array = 0.001
    dt_max: float | int | Array = 0.1
    kernel_init: Initializer = initializers.Gaussian()
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        check_size("features", self.features)
        if self.a_init not in get_args(Spectrum):
            known = ", ".join(map(repr, get_args(Spectrum)))
            raise ValueError(f"a_init must be one of {known}, got {self.a_init!r}")
        steps = self.dt_min, self.dt_max
        if all(isinstance(dt, (float, int)) for dt in steps) and not 0 < steps[0] <= steps[1]:
            raise ValueError(f"dt_min and dt_max must satisfy 0 < dt_min <= dt_max, got {steps}")

    @property
    def _real(self):
        return self.a_init == "s4d-real"

    def init(self, key: Array, input_size: int) -> S5Params:
        """Draw the parameters for inputs `[*batch, input_size]`."""
        check_size("input_size", input_size)
        step_key, *keys = jax.random.split(key, 3)
        start, shape = _spectrum(self.a_init, self.features), (input_size, self.features)
        low, high = jnp.log(self.dt_min), jnp.log(self.dt_max)
        where = jax.random.uniform(step_key, start.shape, jnp.promote_types(self.param_dtype, "f4"))
        decay, step = np.log(-start.real), low + where * (high - low)
        kernels = [self.kernel_init(k, shape, self.param_dtype) for k in keys]
        decay, step, frequency = (
            jnp.asarray(a, self.param_dtype) for a in (decay, step, start.imag)
        )
        if self._real:
            return S5Params(decay, None, step, kernels[0], None)
        return S5Params(decay, frequency, step, *(k / math.sqrt(2) for k in kernels))

    def prepare(self, params: S5Params) -> S5Ready:
        """Return exp(Delta A) and (exp(Delta A) - 1) / A B."""
        rate, step, kernel = (
            -jnp.exp(params.decay_log),
            jnp.exp(params.step_log),
            params.real_kernel,
        )
        if self._real:
            return S5Ready(jnp.exp(step * rate), jnp.expm1(step * rate) / rate * kernel)
        rate = as_complex(rate, params.frequency)
        kernel = jnp.expm1(step * rate) / rate * as_complex(kernel, params.imaginary_kernel)
        kernel = side_by_side(kernel).astype(params.real_kernel.dtype)
        return S5Ready(jnp.exp(step * rate), kernel)

    def initial_carry(self, batch_shape: Sequence[int]) -> S5Carry:
        """Return s = 0."""
        state = zeros if self._real else complex_zeros
        return S5Carry(state(batch_shape, self.features, self.param_dtype))

    def coefficients(self, ready: S5Ready, x: Array) -> tuple[S5Carry, S5Carry]:
        """Return exp(Delta A) and (exp(Delta A) - 1) / A B x."""
        check_inputs(x, ready.kernel.shape[0])
        multiply = matmul if self._real else complex_matmul
        return S5Carry(ready.factors), S5Carry(multiply(x, ready.kernel, self.dtype))

    def output(self, carry: S5Carry) -> Float[Array, "*batch parts"]:
        """Return [Re s, Im s], or s where A is real."""
        return carry.s if self._real else side_by_side(carry.s)


def _spectrum(name, features):
    """Return A at initialisation, complex `[P]` in NumPy."""
    n = np.arange(features)
    if name == "s4d-real":
        return -(n + 1.0) + 0j
    if name == "s4d-lin":
        return -0.5 + 1j * np.pi * n
    # HiPPO-LegS has A_nk = -sqrt(2n + 1) sqrt(2k + 1) for n > k and A_nn = -(n + 1). Plus half of
    # that outer product it is -I / 2 and a skew-symmetric matrix, whose eigenvalues are +-i omega.
    root = np.sqrt(2 * np.arange(2 * features) + 1)
    outer = np.outer(root, root) / 2
    return -0.5 + 1j * np.linalg.eigvalsh(1j * (np.tril(outer, -1) - np.triu(outer, 1)))[features:]
