"""The recurrent network whose recurrent kernel is orthogonal, or unitary, all through training."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import expm
from jaxtyping import Array

from rnnjax.cells import initializers
from rnnjax.cells.base import zeros
from rnnjax.cells.gated import INITIALISERS, Gated, GatedParams
from rnnjax.cells.initializers import Initializer


class OrthogonalRNNParams(NamedTuple):
    """Parameters of an OrthogonalRNN."""

    input_kernel: Any  # [D, H]
    recurrent_kernel: Any  # raw [H, H], or [H/2, H] if unitary; [H, H] once prepared
    activation_bias: Any  # [H], or [H/2] if unitary


class OrthogonalRNNCarry(NamedTuple):
    """The state of an OrthogonalRNN: if unitary, H/2 real parts and then H/2 imaginary ones."""

    h: Any  # [*batch, H]


@dataclasses.dataclass(frozen=True, kw_only=True)
class OrthogonalRNN(Gated):
    """h' = phi(W x + U h),   U = expm(S)   or   U = (I + S)^-1 (I - S),   S = A - A^T.

    S is antisymmetric, so U is orthogonal whatever A is: every singular value of U is 1, and only
    phi and its bias change the norm of a gradient. In a linear network it is the same at every lag.
    phi is modReLU, z / |z| max(0, |z| + b), unless `activation_fn` is given: it keeps the phase of
    z, a real one has slope 1 where it is active, and with b = 0 it is the identity. The slope at
    z = 0 is set to 1 for b >= 0, and to 0 otherwise.

    If `unitary`, h is H/2 complex numbers, U the real form of a unitary matrix, with

        S = [[Sr, -Si], [Si, Sr]],   Sr = Ar - Ar^T,   Si = Ai + Ai^T,   A = [Ar, Ai]

    and |z| the modulus of each complex number.
    Parameters: `input_kernel [D, H]`, `recurrent_kernel [H, H]` ([H/2, H] if unitary), which is A,
    and `activation_bias [H]` ([H/2] if unitary), the only bias. `prepare` makes U.
    Source: Lezcano-Casado, Martinez-Rubio 2019, "Cheap orthogonal constraints in neural networks",
    arXiv:1901.08428, section 3 (expm); Helfrich, Willmott, Ye 2018, "Orthogonal recurrent neural
    networks with scaled Cayley transform", arXiv:1707.09520 (there with a fixed diagonal of +-1
    more); Arjovsky, Shah, Bengio 2016, "Unitary evolution recurrent neural networks",
    arXiv:1511.06464 (modReLU).

    Args:
        parametrization: "expm", or "cayley", which reaches no U with an eigenvalue -1.
        unitary: whether h is complex; H must then be even.
        activation_fn: phi(z + b) instead of modReLU, any elementwise function of real numbers.
        recurrent_kernel_init: initialiser of A; `initializers.Rotations` by default, which suits
            both; the authors also use `initializers.CayleyRotations`.
        bias_init: initialiser of the bias; by default U[-0.01, 0.01], as in the authors' code.

    Raises:
        ValueError: there is no such parametrization; H is odd or there is an `activation_fn`, and
            U is unitary; or as in `Gated`.
    """

    gate_names = ("h",)
    init_only = INITIALISERS

    recurrent_kernel_init: Initializer | tuple[Initializer, ...] = initializers.Rotations()
    bias_init: Initializer | tuple[Initializer, ...] = initializers.Uniform(0.01)
    parametrization: str = "expm"
    unitary: bool = False
    activation_fn: Callable[[Array], Array] | None = None

    def __post_init__(self):
        Gated.__post_init__(self)
        if self.parametrization not in _ORTHOGONAL:
            raise ValueError(
                f"parametrization must be {' or '.join(_ORTHOGONAL)}, got {self.parametrization!r}"
            )
        if self.unitary and self.features % 2:
            raise ValueError(f"features must be even if unitary, got {self.features}")
        if self.unitary and self.activation_fn is not None:
            raise ValueError("activation_fn must be None, which is modReLU, if unitary")

    def init(self, key: Array, input_size: int) -> OrthogonalRNNParams:
        """Draw the parameters for inputs `[*batch, input_size]`."""
        count = self.features // 2 if self.unitary else self.features
        drawn = self.init_blocks(key, input_size, count)
        return OrthogonalRNNParams(drawn.input_kernel, drawn.recurrent_kernel, drawn.bias[:count])

    def prepare(self, params: OrthogonalRNNParams) -> OrthogonalRNNParams:
        """Return the parameters with U in place of A."""
        raw = params.recurrent_kernel
        wide = raw.astype(jnp.promote_types(raw.dtype, jnp.float32))  # no solver in 16 bits
        if self.unitary:
            real, imaginary = jnp.split(wide, 2, axis=-1)
            real, imaginary = real - real.T, imaginary + imaginary.T
            skew = jnp.block([[real, -imaginary], [imaginary, real]])
        else:
            skew = wide - wide.T
        u = _ORTHOGONAL[self.parametrization](skew)
        return params._replace(recurrent_kernel=u.astype(raw.dtype))

    def initial_carry(self, batch_shape: Sequence[int]) -> OrthogonalRNNCarry:
        """Return h = 0."""
        return OrthogonalRNNCarry(zeros(batch_shape, self.features, self.param_dtype))

    def project(self, ready: OrthogonalRNNParams, x: Array) -> tuple[Array, ...]:
        """Return `x W`."""
        return Gated.project(self, GatedParams(ready.input_kernel, None, 0), x)

    def elementwise(self, ready: OrthogonalRNNParams) -> OrthogonalRNNParams:
        """Return the bias alone."""
        return ready._replace(input_kernel=None, recurrent_kernel=None)

    def gates(
        self,
        params: OrthogonalRNNParams,
        carry: OrthogonalRNNCarry,
        u: tuple[Array, ...],
        v: tuple[Array, ...],
    ) -> OrthogonalRNNCarry:
        """Return phi(u + v)."""
        del carry
        z, bias = u[0] + v[0], params.activation_bias
        if self.activation_fn is not None:
            return OrthogonalRNNCarry(self.activation_fn(z + bias))
        if not self.unitary:
            return OrthogonalRNNCarry(_modrelu(z, jnp.sign(z), jnp.abs(z), z != 0, bias))
        parts = jnp.split(z, 2, axis=-1)
        square = parts[0] ** 2 + parts[1] ** 2
        some = square > jnp.finfo(square.dtype).tiny
        modulus = jnp.sqrt(jnp.where(some, square, 1))
        parts = [_modrelu(part, part / modulus, modulus, some, bias) for part in parts]
        return OrthogonalRNNCarry(jnp.concatenate(parts, axis=-1))


def _modrelu(z: Array, phase: Array, modulus: Array, some: Array, bias: Array) -> Array:
    """Return the phase times max(0, |z| + b); z or 0 where z is zero, not `some`."""
    return jnp.where(some, phase * jax.nn.relu(modulus + bias), jnp.where(bias >= 0, z, 0))


def _cayley(skew: Array) -> Array:
    """Return (I + S)^-1 (I - S)."""
    one = jnp.eye(len(skew), dtype=skew.dtype)
    return jnp.linalg.solve(one + skew, one - skew)


_ORTHOGONAL: dict[str, Callable[[Array], Array]] = {"expm": expm, "cayley": _cayley}
