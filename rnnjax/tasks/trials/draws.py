"""Random conditions from levels, numbers uniform over [0, 1): one call draws all of a trial."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray


def draw_levels(key: PRNGKeyArray, count: int) -> Float[Array, " K"]:
    """Draw so many levels."""
    return jax.random.uniform(key, (count,), jnp.float32)


def index_at(count: int, level: Float[Array, ""]) -> Int[Array, ""]:
    """Return floor(count level), uniform over 0 .. count - 1."""
    return jnp.minimum(level * count, count - 1).astype(jnp.int32)


def one_of(values: Sequence[int | float], level: Float[Array, ""]) -> Float[Array, ""]:
    """Return one of some numbers with equal odds, float32."""
    return jnp.array(values, jnp.float32)[index_at(len(values), level)]
