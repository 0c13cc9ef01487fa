"""Complex states of linear cells, whose parameters are real arrays."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Complex, Float

from rnnjax.cells.kernels import matmul


def as_complex(real: Array, imaginary: Array) -> Complex[Array, "..."]:
    """Return real + i imaginary, in 32 bits each for narrower types."""
    wide = jnp.promote_types(jnp.result_type(real, imaginary), jnp.float32)
    return lax.complex(real.astype(wide), imaginary.astype(wide))


def complex_zeros(batch_shape: Sequence[int], features: int, dtype: Any) -> Array:
    """Return a zero state `[*batch_shape, features]` with parts of `dtype`, at least 32 bits."""
    return jnp.zeros((*batch_shape, features), jnp.promote_types(dtype, jnp.complex64))


def complex_matmul(x: Array, kernel: Array, dtype: Any) -> Complex[Array, "*batch H"]:
    """Return `x [*batch, D]` times a complex kernel, as one product with `[D, 2H]`: Re, then Im."""
    return as_complex(*jnp.split(matmul(x, kernel, dtype), 2, axis=-1))


def side_by_side(state: Complex[Array, "*batch H"]) -> Float[Array, "*batch parts"]:
    """Return [Re s, Im s]."""
    return jnp.concatenate([state.real, state.imag], axis=-1)
