"""Which tokens a sample may be drawn from: temperature, the k most probable, the nucleus."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int32

from rnnjax.cells.base import check_size
from rnnjax.recurrence.options import known


def check_truncation(temperature: Any, top_k: int | None, top_p: Any) -> None:
    """Check the arguments of `truncated` whose values are known.

    Raises:
        ValueError: one of them is out of range.
    """
    given = known(temperature)
    if jnp.shape(temperature) != () or (given is not None and not 0 < given < np.inf):
        raise ValueError(f"temperature must be a positive finite number, got {temperature}")
    if top_k is not None:
        check_size("top_k", top_k)
    if top_p is not None:
        given = known(top_p)
        if jnp.shape(top_p) != () or (given is not None and not 0 < given <= 1):
            raise ValueError(f"top_p must be a number above 0 and at most 1, got {top_p}")


def truncated(
    scores: Float[Array, "B V"], temperature: ArrayLike, top_k: int | None, top_p: ArrayLike | None
) -> tuple[Float[Array, "B N"], Int32[Array, "B N"] | None]:
    """Return the logits of the tokens that may be drawn, and these tokens; None if they are all V.

    First the scores are divided by the temperature, then the k most probable tokens are kept, then
    the nucleus of what is left. Tokens outside the nucleus have a logit of -inf.

    Raises:
        ValueError: `top_k` is larger than V.
    """
    size = scores.shape[-1]
    if top_k is not None and top_k > size:
        raise ValueError(f"top_k must lie in 1..V = 1..{size}, got {top_k}")
    kept, tokens = (scores, None) if top_k is None else lax.top_k(scores, top_k)
    kept = (kept - kept.max(-1, keepdims=True)) / temperature  # the likeliest does not overflow
    if top_p is not None:
        kept = jnp.where(nucleus(kept, top_p), kept, -jnp.inf)
    return kept, tokens


def nucleus(logits: Float[Array, "B N"], top_p: ArrayLike) -> Bool[Array, "B N"]:
    """Return which tokens are in the smallest set of most probable ones that has probability p.

    A token is in the set if those before it, more probable ones and equally probable lower ones,
    have a probability below p. The first is always in the set, and with p = 1 all are.
    Source: Holtzman et al. 2020, "The curious case of neural text degeneration", arXiv:1904.09751,
    equations 2 and 3.
    """
    order = jnp.argsort(logits, axis=-1, descending=True, stable=True)
    ranked = jnp.take_along_axis(jax.nn.softmax(logits), order, axis=-1)
    before = jnp.cumsum(ranked[..., :-1], axis=-1)
    first = jnp.ones((*before.shape[:-1], 1), bool)
    inside = jnp.concatenate([first, (before < top_p) | (jnp.asarray(top_p) >= 1)], axis=-1)
    return jnp.take_along_axis(inside, jnp.argsort(order, axis=-1), axis=-1)
