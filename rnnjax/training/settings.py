"""Populations whose members differ in more than their seed: each member has its own settings.

A setting is an array `[S]`, one number per member. Inside the mapped functions it is a traced
scalar, so one program trains all members:

    members = training.grid(learning_rate=[1e-3, 1e-2], gain=[0.9, 1.1], seed=range(4))   # S = 16

    def start(settings):
        cell = rnnjax.LSTM(32, recurrent_kernel_init=Orthogonal(settings["gain"]))
        params = cell.init(jax.random.key(settings["seed"]), 2)
        opt_state = optimizer(settings).init(params)
        return training.TrainState(params, opt_state, jnp.int32(0), key, settings)

    state = training.over_population(start)(members)

Settings that training needs stay in `TrainState.settings`. From them `train_step` creates the
optimiser, `optimizer(state.settings).update(...)`, with

    def optimizer(settings):
        clip = optax.clip_by_global_norm(settings["clip"])
        return optax.chain(clip, optax.sgd(settings["learning_rate"]))

(`optax.inject_hyperparams` would keep the same numbers in the optimiser's state, but only those of
the optimiser.) Settings that only the initialisation needs, such as a forget bias or a gain, go to
a cell that draws the parameters and is then dropped; the network runs as a cell without traced
numbers.

On a CPU a member's numbers are, to the last bit, those of a population whose settings are constants
of the program, if each setting enters as one factor or one term (`optax.sgd`, `optax.adam`,
clipping, `forget_bias`, the gain of `Orthogonal` and `Identity`). The gain of `Gaussian` and the
radius of `SpectralRadius` are divided by sqrt(rows) in float32 rather than in Python: equal to one
unit in the last place.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np


def grid(**axes: Any) -> dict[str, np.ndarray]:
    """Return the Cartesian product of axes: one array `[S]` per axis, S the product of the lengths.

    The last axis changes fastest, as in nested loops:
    `grid(a=[1, 2], b=[3, 4])` is `{"a": [1, 1, 2, 2], "b": [3, 4, 3, 4]}`. Arrays of the same form
    from another source, such as random draws, can be used in its place.

    Raises:
        ValueError: there are no axes; or an axis is empty, repeats a value, or holds something that
            is not a number (infinity is allowed: `clip=inf` means no clipping).
    """
    if not axes:
        raise ValueError("a grid needs axes, such as learning_rate=[0.01, 0.1]")
    values = {name: _axis(name, axis) for name, axis in axes.items()}
    crossed = np.meshgrid(*values.values(), indexing="ij")
    return {name: value.ravel() for name, value in zip(values, crossed, strict=True)}


def aggregate_seeds(
    members: Mapping[str, Any], value: Any, *, seed: str = "seed"
) -> dict[str, np.ndarray]:
    """Return statistics of a value over members that differ only in their seed.

    Args:
        members: settings, arrays of S entries, as from `grid`.
        value: `[S]`; NaN for a member that stopped, which counts as infinite, the worst value.
        seed: name of the setting to aggregate over.

    Returns:
        Columns with one row per combination of the other settings, in order of first appearance:
        these settings; `median`, `low` and `high` of the value over the seeds (infinite if enough
        members stopped); `members`, the number of members; and `stopped`, the number that stopped.

    Raises:
        ValueError: `seed` is not one of the settings, or the lengths differ.
    """
    value = np.asarray(value, float)
    if seed not in members:
        raise ValueError(f"{seed!r} is not one of the settings {', '.join(members)}")
    lengths = {name: np.shape(column) for name, column in members.items()}
    if {*lengths.values(), value.shape} != {(value.size,)}:
        raise ValueError(f"settings {lengths} and values {value.shape} must have the same length")
    columns = {name: np.asarray(column) for name, column in members.items() if name != seed}
    groups: dict[tuple[Any, ...], list[int]] = {}
    for member in range(value.size):
        combination = tuple(column[member].item() for column in columns.values())
        groups.setdefault(combination, []).append(member)
    firsts = [group[0] for group in groups.values()]
    reached = [
        np.sort(np.where(np.isnan(v), np.inf, v)) for v in map(value.__getitem__, groups.values())
    ]
    return {
        **{name: column[firsts] for name, column in columns.items()},
        "median": np.array([(v[(len(v) - 1) // 2] + v[len(v) // 2]) / 2 for v in reached]),
        "low": np.array([v[0] for v in reached]),
        "high": np.array([v[-1] for v in reached]),
        "members": np.array([len(v) for v in reached]),
        "stopped": np.array([int(np.isnan(value[group]).sum()) for group in groups.values()]),
    }


def _axis(name, axis):
    values = np.asarray(axis)
    if values.ndim != 1 or not values.size or values.dtype.kind not in "iuf":
        raise ValueError(f"{name} must be a list of numbers, got {axis!r}")
    if np.isnan(values).any() or len(np.unique(values)) < len(values):
        raise ValueError(f"{name} must be distinct numbers, got {values.tolist()}")
    return values
