"""How far back the gradient of trained networks reaches, layer by layer.

Entry t of a profile is about what enters step t, such as the carry s_t, and its lag is k = T - t, T
the length of the sequence. So tables begin with lag 1, the last step (see `rnnjax.diagnostics`).
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax import diagnostics, training

PyTree = Any


def log_gradients(
    model: Any, params: PyTree, loss: Callable[[Any], Any], *inputs: Any, **options: Any
) -> dict[str, np.ndarray]:
    """Return `diagnostics.log_gradient_by_layer` for every member: `[S, T, B]` by layer.

    The gradient with respect to embedded tokens appears under the name of their `Embed`, as that
    with respect to vectors appears under "inputs". Natural logs.

    Args:
        model: a Flax module.
        params: of all members, `[S, ...]`.
        loss: of the model's outputs: a scalar, the sum over the examples.
        inputs, options: arguments of the model, the same for all members.
    """
    from rnnjax.layers import Embed

    names: list[str] = []  # in the order of the computation, which jit does not keep

    def one(params):
        found = diagnostics.log_gradient_by_layer(
            model, {"params": params}, loss, *inputs, outputs_of=(Embed,), **options
        )
        names[:] = found
        return found

    with jax.default_matmul_precision("float32"):
        found = training.over_population(one)(params)
    return {name: np.asarray(found[name]) for name in names}


def loss_gradients(
    model: Any,
    params: PyTree,
    targets: Any,
    *inputs: Any,
    steps: Any = None,
    ends: Mapping[str, Any] | None = None,
    **options: Any,
) -> list[dict[str, Any]]:
    """Return the `gradient_table` of the loss of one output of each example:

        sum_b model.head.loss(y[b, steps[b]], targets[b])

    Lags count back from that step.

    Args:
        model: a Flax module with a head.
        params: of all members, `[S, ...]`.
        targets: `[B, ...]`, of the one output.
        inputs, options: arguments of the model, the same for all members.
        steps: `[B]`, or -1 for the last of all. None is for a model with one output per example:
            lags then count back from the end of the sequence, `seq_lengths` if they are given.
        ends: `[B]`, where lags count back from in other sequences, such as those of an encoder, by
            the first part of the names of their layers.
    """
    inputs, targets = jax.tree.map(jnp.asarray, (inputs, targets))
    last = isinstance(steps, int)

    def loss(outputs):
        if steps is None:
            return model.head.loss(outputs, targets).sum()
        ys = outputs[:, steps] if last else outputs[np.arange(len(steps)), steps]
        return model.head.loss(ys, targets).sum()

    profiles = log_gradients(model, params, loss, *inputs, **options)
    end = options.get("seq_lengths")
    if steps is not None:
        end = None if last else np.asarray(steps) + 1
    own = {layer: (ends or {}).get(layer.split("/")[0], end) for layer in profiles}
    return gradient_table(profiles, own)


def longest(lengths: Any, count: int = 32) -> np.ndarray:
    """Return the indices of the longest sequences, at most `count`; of equal ones the first."""
    return np.argsort(-np.asarray(lengths), kind="stable")[:count]


def log_shares(log_profile: Any, ends: Any) -> Any:
    """Return the log of each lag's share of the gradient, `[K, ...]`, entry k - 1 at lag k.

        share_k = ||g_k|| / sqrt(sum_j ||g_j||^2)

    over the lags 1 .. K, K the length of the shortest sequence.

    Args:
        log_profile: natural logs of norms, `[T, ...]`.
        ends: the length of each sequence; its shape is that of `log_profile` without the time.
    """
    ends = np.asarray(ends)
    rows = diagnostics.by_lag(jnp.asarray(log_profile), jnp.asarray(ends), int(ends.min()))
    return rows - jax.nn.logsumexp(2 * rows, axis=0) / 2


def gradient_table(profiles: Mapping[str, Any], lengths: Any = None) -> list[dict[str, Any]]:
    """Return the parts of a table: each lag's share of a layer's gradient, in natural logs.

    A share is the norm at one lag, counted from the sequence's own end, over the root of the sum of
    squares at all lags up to the length of the shortest sequence. Columns `layer`, `lag` (from 1),
    `median`, `q25` and `q75` over members and examples.

    Args:
        profiles: natural logs `[S, T, B]` by layer, as from `log_gradients`.
        lengths: of the sequences, `[B]` or `[S, B]`, or a mapping of layers to them; None means T.
    """
    parts = []
    for layer, profile in profiles.items():
        profile = np.moveaxis(np.asarray(profile), 0, 1)  # [T, S, B]
        own = lengths.get(layer) if isinstance(lengths, Mapping) else lengths
        ends = np.full(profile.shape[2], len(profile)) if own is None else np.asarray(own)
        shares = np.asarray(log_shares(profile, np.broadcast_to(ends, profile.shape[1:])))
        shares = shares.reshape(len(shares), -1)
        lags = np.arange(1, len(shares) + 1)
        parts.append({"layer": layer, "lag": lags, **diagnostics.quartiles(shares)})
    return parts


def reach(part: Mapping[str, Any]) -> float:
    """Return log10 of the median share at the earliest tenth of lags over that at the latest.

    About 0: the gradient reaches the beginning; -6: a millionth of it does; -inf: none does.

    Args:
        part: one layer's part of `gradient_table`.
    """
    middle = np.asarray(part["median"]) / np.log(10)
    tenth = max(1, len(middle) // 10)
    return float(np.median(middle[-tenth:]) - np.median(middle[:tenth]))
