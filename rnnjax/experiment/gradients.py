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
from rnnjax.experiment.tables import profile_rows

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


def record_shares(
    parts: list[dict[str, Any]], network: str, phase: str, shares: Mapping[str, Any]
) -> dict[str, Any]:
    """Add a network's shares of the gradient at every layer to a table, and summarise its inputs'.

    Columns `network`, `phase`, `layer`, `lag` (from 1), and `median`, `q25` and `q75` over members
    and examples.

    Args:
        parts: of the table, as `Run.write_table` takes them.
        phase: of the training, such as `before`.
        shares: natural logs `[S, K, B]` by layer, entry k - 1 at lag k; `inputs` among them.

    Returns:
        The `reach` of the inputs, and their `zero_lags`, at which no gradient arrives at all.
    """
    rows = {layer: profile_rows(values) for layer, values in shares.items()}
    labels = {"network": network, "phase": phase}
    parts += [{**labels, "layer": layer, **band} for layer, band in rows.items()]
    nothing = np.isneginf(np.asarray(shares["inputs"])).all((0, 2))
    return {"reach": reach(rows["inputs"]), "zero_lags": (1 + np.flatnonzero(nothing)).tolist()}


def layer_label(path: str) -> str:
    """Return what figures call the layer of a path: of `layer/layers_1/carry`, `layer 2`.

    A direction is named too: `layer/layers_1/backward_rnn/carry` is `layer 2 backward`.
    """
    if path == "inputs":
        return path
    parts = path.split("/")
    numbers = [int(p.split("_")[1]) + 1 for p in parts if p.startswith(("layers_", "block_"))]
    directions = [p.split("_")[0] for p in parts if p.endswith("_rnn")]
    return " ".join([f"layer {numbers[0] if numbers else 1}", *directions])


def reach(part: Mapping[str, Any]) -> float:
    """Return log10 of the median share at the earliest tenth of lags over that at the latest.

    About 0: the gradient reaches the beginning; -6: a millionth of it does; -inf: none does.

    Args:
        part: one layer's part of `gradient_table`.
    """
    middle = np.asarray(part["median"]) / np.log(10)
    tenth = max(1, len(middle) // 10)
    return float(np.median(middle[-tenth:]) - np.median(middle[:tenth]))
