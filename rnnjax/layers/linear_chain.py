"""A linear chain over classes: the sum over all paths, the best path, marginals and samples.

    score(y) = start[y_1] + sum_{t=1}^n logits[t, y_t] + sum_{t=2}^n A[y_{t-1}, y_t] + end[y_n]
    p(y) = exp(score(y)) / Z,   Z = sum_y exp(score(y))

over the K^n paths y of a sequence of n steps; the only path of no steps has a score of 0. Every
function takes time proportional to T K^2, and its scan over time keeps what is of size T K.

A score of -inf rules out what it belongs to. Within the recursions it is a large finite number, so
that no gradient is NaN.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from rnnjax.layers.padding import valid_steps, zero_padding

RULED_OUT = 1e30


class CRFOutputs(NamedTuple):
    """The scores of a linear chain for a batch of sequences: what `CRFHead` returns."""

    logits: Any  # [*batch, T, K]
    transitions: Any  # [K, K], A: from the class of the row to that of the column
    start: Any  # [K]
    end: Any  # [K]
    seq_lengths: Any = None  # [*batch], integers in 0..T; None means all T


class _Chain(NamedTuple):
    """The same with time first, bounded scores, zeros in the padding, and the valid steps."""

    logits: Any  # [T, *batch, K]
    transitions: Any
    start: Any
    end: Any
    valid: Any  # [T, *batch]
    nothing: Any  # [*batch, K], zeros


def log_partition(outputs: CRFOutputs) -> Float[Array, "*batch"]:
    """Return ln Z by the forward recursion; 0 without steps, -inf if every path is ruled out."""
    chain = _chain(outputs)
    last, _ = _forward(chain)
    total = jax.nn.logsumexp(last + chain.end, axis=-1)
    total = jnp.where(chain.valid.any(0), total, 0)
    return jnp.where(total <= -RULED_OUT / 2, -jnp.inf, total)


def path_score(outputs: CRFOutputs, path: Int[Array, "*batch T"]) -> Float[Array, "*batch"]:
    """Return the score of a path of classes 0..K-1; -inf if it is ruled out."""
    chain = _chain(outputs)
    path = jnp.where(chain.valid, jnp.moveaxis(path, -1, 0), 0)
    emitted = _entry(chain.logits, path)
    moved = _entry(_row(chain.transitions, path[:-1]), path[1:])
    entered = jnp.concatenate([_entry(chain.start, path[:1]), moved])
    left = jnp.where(_is_last(chain), _entry(chain.end, path), 0)
    total = (jnp.where(chain.valid, emitted + entered, 0) + left).sum(0)
    return jnp.where(total <= -RULED_OUT / 2, -jnp.inf, total)


def viterbi(
    outputs: CRFOutputs,
) -> tuple[Int[Array, "*batch T"], Float[Array, "*batch"]]:
    """Return the path with the highest score, with zeros in the padding, and its score.

    Of equally good paths the one with the lowest last class is chosen, then with the lowest class
    before it, and so on. The score is differentiable, as is that of any given path.
    Source: Viterbi 1967, "Error bounds for convolutional codes and an asymptotically optimum
    decoding algorithm".
    """
    chain = _chain(lax.stop_gradient(outputs))
    classes = jnp.arange(chain.transitions.shape[0])

    def advance(best, inputs):
        t, logits, valid = inputs
        every = best[..., :, None] + chain.transitions
        before = jnp.where(t == 0, chain.start, every.max(-2))
        here = valid[..., None]
        back = jnp.where(here & (t > 0), every.argmax(-2), classes)
        return jnp.where(here, before + logits, best), back

    times = jnp.arange(len(chain.logits))
    best, back = lax.scan(advance, chain.nothing, (times, chain.logits, chain.valid))

    def retrace(here, inputs):
        back, valid = inputs
        before = jnp.take_along_axis(back, here[..., None], axis=-1)[..., 0]
        return before, jnp.where(valid, here, 0)

    last = (best + chain.end).argmax(-1)
    _, path = lax.scan(retrace, last, (back, chain.valid), reverse=True)
    path = jnp.moveaxis(path, 0, -1)
    return path, path_score(outputs, path)


def marginals(outputs: CRFOutputs) -> Float[Array, "*batch T K"]:
    """Return p(y_t = k) for every step, the gradient of ln Z by the logits; 0 in the padding.

    If every path is ruled out, all are 0.
    """

    def total(logits):
        return log_partition(outputs._replace(logits=logits)).sum()

    return jax.grad(total)(jnp.asarray(outputs.logits, _dtype(outputs)))


def sample_path(outputs: CRFOutputs, key: Array) -> Int[Array, "*batch T"]:
    """Draw a path from p, from its last step to its first, with zeros in the padding."""
    chain = _chain(outputs)
    _, sums = _forward(chain)

    def draw(after, inputs):
        key, sums, valid, is_last = inputs
        onwards = jnp.where(is_last[..., None], chain.end, _row(chain.transitions.T, after))
        here = jnp.where(valid, jax.random.categorical(key, sums + onwards), after)
        return here, jnp.where(valid, here, 0)

    keys = jax.random.split(key, len(sums))
    nothing = chain.nothing.argmax(-1)
    steps = keys, sums, chain.valid, _is_last(chain)
    _, path = lax.scan(draw, nothing, steps, reverse=True)
    return jnp.moveaxis(path, 0, -1)


def _chain(outputs):
    logits = jnp.asarray(outputs.logits, _dtype(outputs))
    valid = valid_steps(outputs.seq_lengths, logits.shape[:-1])
    logits = jnp.moveaxis(zero_padding(logits, valid), -2, 0)
    there = jnp.ones(logits.shape[:-1], bool) if valid is None else jnp.moveaxis(valid, -1, 0)
    scores = logits, outputs.transitions, outputs.start, outputs.end
    logits, transitions, start, end = (
        jnp.maximum(jnp.asarray(a, logits.dtype), -RULED_OUT) for a in scores
    )
    return _Chain(logits, transitions, start, end, there, logits[:0].sum(0))


def _dtype(outputs):
    """Return the type to compute in, float32 or wider."""
    return jnp.result_type(jnp.float32, *outputs[:4])


def _forward(chain):
    """Return the log of the sum over all paths that end in each class: at the end, and so far.

    They are `[*batch, K]`, at each sequence's last step, and `[T, *batch, K]`.
    """

    def advance(sums, inputs):
        t, logits, valid = inputs
        before = jax.nn.logsumexp(sums[..., :, None] + chain.transitions, axis=-2)
        new = jnp.where(t == 0, chain.start, before) + logits
        sums = jnp.where(valid[..., None], new, sums)
        return sums, sums

    steps = jnp.arange(len(chain.logits)), chain.logits, chain.valid
    return lax.scan(jax.checkpoint(advance, prevent_cse=False), chain.nothing, steps)


def _entry(values, index):
    """Return one of the last axis of values, `[..., K]` or `[K]`, at each index `[...]`."""
    return _row(values[..., None], index)[..., 0]


def _row(values, index):
    """Return a row of values, `[..., K, N]` or `[K, N]`, at each index `[...]`, as `[..., N]`.

    By masks: a gather would have to be told how its result is split along explicit axes of a mesh.
    """
    chosen = index[..., None] == jnp.arange(values.shape[-2])
    return jnp.where(chosen[..., None], values, 0).sum(-2)


def _is_last(chain):
    """Return which steps are the last of their sequence, `[T, *batch]`."""
    none = jnp.zeros_like(chain.valid[:1])
    return chain.valid & ~jnp.concatenate([chain.valid[1:], none])
