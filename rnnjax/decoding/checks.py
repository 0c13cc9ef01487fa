"""What all decoders check and compute: tokens, batches, log probabilities."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rnnjax.recurrence.options import check_like, known

Step = Callable[[Any, Any], tuple[Any, Any]]


def begin(step, carry, start, end, copies=1):
    """Return the carry and first tokens, each repeated `copies` times, and V, after all checks."""
    tokens = jnp.asarray(start)
    batch = batch_size(carry, tokens if tokens.ndim == 1 else ())
    carry = jax.tree.map(lambda c: jnp.repeat(jnp.asarray(c), copies, axis=0), carry)
    fed = jax.ShapeDtypeStruct((batch * copies,), jnp.int32)
    after, logits = jax.eval_shape(step, carry, fed)
    if logits.ndim != 2 or logits.shape[0] != batch * copies or not logits.shape[1]:
        raise ValueError(
            f"the logits of step must have shape [B, V], V >= 1, B = {batch * copies}, "
            f"got {logits.shape}"
        )
    check_floating("the logits of step", logits)
    size = logits.shape[1]
    if end is not None:
        checked_token("end", end, size)
    first = jnp.broadcast_to(checked_token("start", start, size, batch), batch)
    carry = settled(carry, after, "the carry that step returns")
    return carry, jnp.repeat(first, copies), size


def batch_size(carry, start):
    """Return B, the size of the leading axis of every leaf."""
    found = {
        f"{name}{jax.tree_util.keystr(path)}": jnp.shape(leaf)
        for name, tree in (("carry", carry), ("start", start))
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
    for name, shape in found.items():
        if not shape:
            raise ValueError(f"{name} must have shape [B, ...], with a batch axis first, got ()")
    if not found:
        raise ValueError("B is not known: give start as [B] tokens where carry has no arrays")
    sizes = {shape[0] for shape in found.values()}
    if len(sizes) > 1:
        raise ValueError(f"carry and start must agree on their first axis, B; got shapes {found}")
    return sizes.pop()


def settled(tree, after, name):
    """Return `tree` in the types of `after`, so that a scan can carry it."""
    check_like(after, tree, name)
    return jax.tree.map(lambda a, n: a if a.dtype == n.dtype else a.astype(n.dtype), tree, after)


def checked_token(name, value, size, batch=None):
    """Return a token, or `[B]` of them where B is given, as int32; in 0..V-1 unless traced."""
    concrete, value = known(value), jnp.asarray(value)
    if not jnp.issubdtype(value.dtype, jnp.integer):
        raise TypeError(f"{name} must be an integer, a token, got {value.dtype}")
    if value.shape not in ((), (batch,)):
        form = "one token" if batch is None else f"one token or [B] = ({batch},) of them"
        raise ValueError(f"{name} must be {form}, got shape {value.shape}")
    if concrete is not None and concrete.size and not 0 <= concrete.min() <= concrete.max() < size:
        low, high = concrete.min(), concrete.max()
        given = low if concrete.ndim == 0 else f"{low}..{high}"
        raise ValueError(f"{name} must lie in 0..V-1 = 0..{size - 1}, got {given}")
    return value.astype(jnp.int32)


def check_floating(name, array):
    """Raise a TypeError unless `array` is floating."""
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{name} must be floating, got {array.dtype}")


def log_softmax(logits, where):
    """Return log probabilities, float32 or wider; where `where` is false they are uniform.

    The logits are masked before the softmax, so that no gradient is NaN.
    """
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    return jax.nn.log_softmax(jnp.where(where[..., None], logits, 0))


def at(values, index):
    """Return values `[B, N]` at an index `[B]` each."""
    return jnp.take_along_axis(values, index[:, None], axis=1)[:, 0]
