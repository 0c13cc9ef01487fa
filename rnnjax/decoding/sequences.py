"""One sequence at a time: any choice, the most probable token, or a random token."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int32, PRNGKeyArray

from rnnjax.cells.base import check_size
from rnnjax.decoding.checks import Step, at, batch_size, begin, checked_token, log_softmax, settled
from rnnjax.recurrence.options import known

PyTree = Any
Tokens = Int32[Array, "B length"]


def generate(
    step: Step,
    carry: PyTree,
    start: PyTree,
    *,
    length: int,
    choose: Callable[[Any, Any], Any],
    key: PRNGKeyArray | None = None,
) -> PyTree:
    """Return what a model generates when each of its choices is its next input:

        s_{t+1}, y_t = step(s_t, x_t),    x_{t+1} = choose(key_t, y_t),    t = 0 .. length-1

    Args:
        step: `(carry, x) -> (carry, y)`, where y is any pytree: logits, or the parameters of a
            density over real vectors.
        carry: s_0, leaves `[B, ...]`.
        start: x_0, an array `[B, ...]` or a pytree of them; it is not part of the result.
        length: number of steps.
        choose: `(key, y) -> x`, of the structure and the shapes of `start`.
        key: split into one key per step; if None, `choose` receives None.

    Returns:
        x_1 .. x_length, `[B, length, ...]`, in the structure of `start`.

    Raises:
        ValueError: `length` is not a positive integer, a leaf of `carry` or `start` has no batch
            axis or a different B, or `step` or `choose` changes a structure or a shape.

    Source: Graves 2013, "Generating sequences with recurrent neural networks", section 2.
    """
    check_size("length", length)
    batch_size(carry, start)
    carry, start = jax.tree.map(jnp.asarray, (carry, start))

    def advance(state, key):
        carry, x = state
        carry, y = step(carry, x)
        x = choose(key, y)
        return (carry, x), x

    keys = None if key is None else jax.random.split(key, length)
    first = None if keys is None else keys[0]
    after, _ = jax.eval_shape(advance, (carry, start), first)
    carry = settled(carry, after[0], "the carry that step returns")
    start = settled(start, after[1], "what choose returns")
    _, written = lax.scan(advance, (carry, start), keys, length)
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), written)


def greedy(
    step: Step, carry: PyTree, start: Any, *, length: int, end: Any = None
) -> tuple[Tokens, Float[Array, " B"]]:
    """Return the sequence in which each token is the most probable one given those before it.

    After `end` a sequence is finished: all further tokens are `end` and do not count, whatever
    the model's outputs. Of equally probable tokens the lowest is chosen.

    Args:
        step, carry: the model and its initial carry, see above.
        start: the first input, an integer or `[B]`; it is not part of the result.
        length: number of tokens.
        end: the token that finishes a sequence; None for no such token.

    Returns:
        The tokens `[B, length]` and log p(tokens) `[B]`, in nats, up to and with `end`. The latter
        is differentiable with respect to what `step` closes over.

    Raises:
        ValueError: `length` is not a positive integer, `start` or `end` is outside 0..V-1, or an
            array does not have the shape above.
        TypeError: `start` or `end` is not an integer, or the logits are not floating.
    """
    return _decode(step, carry, start, lambda _, scores: scores.argmax(-1), length, end)


def sample(
    step: Step,
    carry: PyTree,
    start: Any,
    *,
    key: PRNGKeyArray,
    length: int,
    end: Any = None,
    temperature: ArrayLike = 1.0,
    top_k: int | None = None,
    never: int | None = None,
) -> tuple[Tokens, Float[Array, " B"]]:
    """Draw a sequence, each token from q(v) ~ p(v | tokens before)^(1 / temperature), v in top k.

    Args:
        step, carry, start, length, end: as for `greedy`.
        key: split into one key for each step.
        temperature: positive and finite; towards 0 this becomes `greedy`. It may be traced.
        top_k: draw from the k most probable tokens only, 1..V; with 1 this is `greedy`.
        never: a token whose probability is set to zero, such as the unknown one.

    Returns:
        The tokens `[B, length]` and log p(tokens) `[B]`: the model's own log probability, given
        that no token is `never`, without temperature and truncation.

    Raises:
        ValueError: as for `greedy`, or `temperature`, `top_k` or `never` is out of range.
        TypeError: as for `greedy`.

    Source: for `top_k` Fan, Lewis, Dauphin 2018, "Hierarchical neural story generation".
    """
    given = known(temperature)
    if jnp.shape(temperature) != () or (given is not None and not 0 < given < np.inf):
        raise ValueError(f"temperature must be a positive finite number, got {temperature}")
    if top_k is not None:
        check_size("top_k", top_k)

    def pick(key, scores):
        size = scores.shape[-1]
        if top_k is not None and top_k > size:
            raise ValueError(f"top_k must lie in 1..V = 1..{size}, got {top_k}")
        kept, tokens = (scores, None) if top_k is None else lax.top_k(scores, top_k)
        kept = (kept - kept.max(-1, keepdims=True)) / temperature  # the likeliest does not overflow
        place = jax.random.categorical(key, kept)
        return place if tokens is None else at(tokens, place)

    def allowed(carry, token):
        carry, logits = step(carry, token)
        banned = checked_token("never", never, logits.shape[-1])
        return carry, jnp.asarray(logits).at[:, banned].set(-jnp.inf)

    return _decode(step if never is None else allowed, carry, start, pick, length, end, key)


def _decode(step, carry, start, pick, length, end, key=None):
    """Generate tokens by `pick(key, log probabilities [B, V]) -> [B]`, and add up their own."""
    carry, first, _ = begin(step, carry, start, end)

    def scored(carry, value):
        token, *rest = value
        carry, logits = step(carry, token)
        return carry, (logits, *rest)

    def choose(key, outputs):
        logits, finished, total = outputs
        scores = log_softmax(logits, ~finished)
        token = pick(key, scores).astype(jnp.int32)
        total = total + jnp.where(finished, 0, at(scores, token))
        if end is not None:
            token = jnp.where(finished, end, token).astype(jnp.int32)
            finished = token == end
        return token, finished, total

    nothing = jnp.zeros(first.shape, bool), jnp.zeros(first.shape, jnp.float32)
    tokens, _, totals = generate(
        scored, carry, (first, *nothing), length=length, choose=choose, key=key
    )
    return tokens, totals[:, -1]
