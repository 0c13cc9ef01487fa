"""One sequence at a time: any choice, the most probable token, or a random token."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int32, PRNGKeyArray

from rnnjax.cells.base import check_size
from rnnjax.decoding.checks import Step, at, batch_size, begin, checked_token, log_softmax, settled
from rnnjax.decoding.truncation import check_truncation, truncated

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

    def best(_, scores):
        token = scores.argmax(-1)
        return token, jnp.zeros(token.shape, scores.dtype)

    found = _decode(step, carry, start, best, length, end)
    return found.tokens, found.log_probs


class Samples(NamedTuple):
    """What `sample` draws. All log probabilities are in nats.

    The last two are 0 after a sequence's end, and differentiable with respect to what `step` closes
    over, as is their sum.
    """

    tokens: Tokens  # after `end` they are all `end`
    log_probs: Float[Array, " B"]  # log p(tokens), the sum of `token_log_probs`
    lengths: Int32[Array, " B"]  # tokens up to and with `end`
    token_log_probs: Float[Array, "B length"]  # of the model itself
    drawn_log_probs: Float[Array, "B length"]  # of q, which the tokens are drawn from


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
    top_p: ArrayLike | None = None,
    never: int | None = None,
) -> Samples:
    """Draw a sequence, each token from a sharpened and truncated distribution of the model:

        q(v) ~ p(v | tokens before)^(1 / temperature),    v in top k, then in the nucleus of top p

    The nucleus is the smallest set of the most probable tokens with a probability of at least
    `top_p` together, after temperature and `top_k`. At least one token is always kept; of equally
    probable ones the lowest come first.

    Args:
        step, carry, start, length, end: as for `greedy`.
        key: split into one key for each step.
        temperature: positive and finite; towards 0 this becomes `greedy`. It may be traced.
        top_k: draw from the k most probable tokens only, 1..V; with 1 this is `greedy`.
        top_p: draw from the nucleus only, above 0, at most 1; towards 0 this becomes `greedy`, and
            1 draws the same tokens as None. It may be traced.
        never: a token whose probability is set to zero, such as the unknown one.

    Returns:
        `Samples`: tokens, log probabilities and lengths. `token_log_probs` are those of the model
        itself, given that no token is `never`, without temperature and truncation: what a
        teacher-forced pass over the tokens gives. `drawn_log_probs` are those of q, for importance
        weights, say.

    Raises:
        ValueError: as for `greedy`, or `temperature`, `top_k`, `top_p` or `never` is out of range.
        TypeError: as for `greedy`.

    Sources: for `top_k` Fan, Lewis, Dauphin 2018, "Hierarchical neural story generation"; for
    `top_p` Holtzman et al. 2020, arXiv:1904.09751.
    """
    check_truncation(temperature, top_k, top_p)

    def pick(key, scores):
        kept, tokens = truncated(scores, temperature, top_k, top_p)
        place = jax.random.categorical(key, kept)
        drawn = at(jax.nn.log_softmax(kept), place)
        return (place if tokens is None else at(tokens, place)), drawn

    def allowed(carry, token):
        carry, logits = step(carry, token)
        banned = checked_token("never", never, logits.shape[-1])
        return carry, jnp.asarray(logits).at[:, banned].set(-jnp.inf)

    return _decode(step if never is None else allowed, carry, start, pick, length, end, key)


def _decode(step, carry, start, pick, length, end, key=None):
    """Generate tokens by `pick(key, log probabilities [B, V]) -> tokens [B], log q [B]`."""
    carry, first, _ = begin(step, carry, start, end)

    def scored(carry, value):
        token, *rest = value
        carry, logits = step(carry, token)
        return carry, (logits, *rest)

    def choose(key, outputs):
        logits, finished, _, _ = outputs
        scores = log_softmax(logits, ~finished)
        token, drawn = pick(key, scores)
        token = token.astype(jnp.int32)
        own, drawn = (jnp.where(finished, 0, a) for a in (at(scores, token), drawn))
        if end is not None:
            token = jnp.where(finished, end, token).astype(jnp.int32)
            finished = token == end
        return token, finished, own, drawn

    nothing = jnp.zeros(first.shape, jnp.float32)
    tokens, finished, own, drawn = generate(
        scored,
        carry,
        (first, jnp.zeros(first.shape, bool), nothing, nothing),
        length=length,
        choose=choose,
        key=key,
    )
    lengths = 1 + (~finished[:, :-1]).sum(1, dtype=jnp.int32)
    return Samples(tokens, own.sum(1), lengths, own, drawn)
