"""Units on a ring: unit i of R prefers the angle 2 pi i / R."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rnnjax.tasks.base import check_integer


def angles(size: int) -> np.ndarray:
    """Return the preferred angles `[R]`, radians."""
    return 2 * np.pi * np.arange(size) / size


def cosines(size: int) -> Float[Array, "R R"]:
    """Return cos(theta_i - theta_j) in row j: the tuning of all units to stimulus j."""
    theta = angles(size)
    return jnp.asarray(np.cos(theta - theta[:, None]), jnp.float32)


def bumps(size: int) -> Float[Array, "R R"]:
    """Return in row j the response of all units to a stimulus at angle j, as Yang et al. 2019 do.

    .8 exp(-(d / (pi / 8))^2 / 2),  with d the distance on the ring.
    """
    theta = angles(size)
    distance = np.abs(theta - theta[:, None])
    distance = np.minimum(distance, 2 * np.pi - distance)
    return jnp.asarray(0.8 * np.exp(-((distance / (np.pi / 8)) ** 2) / 2), jnp.float32)


def columns(*parts: Any) -> Float[Array, "T D"]:
    """Return features `[T]` and groups of features `[T, K]`, side by side."""
    parts = tuple(part[:, None] if part.ndim == 1 else part for part in parts)
    return jnp.concatenate([part.astype(jnp.float32) for part in parts], axis=1)


def shown(mask: Any, values: Any) -> Any:
    """Return features `[T, K]` that have these values `[K]` where the mask `[T]` is true."""
    return jnp.where(mask[:, None], values, 0)


def check_even(name: str, value: Any) -> None:
    """Raise a ValueError unless `value` is an even number of units, at least 2."""
    check_integer(name, value, 2)
    if value % 2:
        raise ValueError(f"{name} must be even, got {value!r}")
