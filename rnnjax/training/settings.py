"""The members of a population that differ in more than their seed, each with its own settings.

A setting is an array `[S]`, one number for each member; inside the mapped functions it is a scalar
that is traced, so one program trains them all:

    members = training.grid(learning_rate=[1e-3, 1e-2], gain=[0.9, 1.1], seed=range(4))   # S = 16

    def start(settings):
        cell = rnnjax.LSTM(32, recurrent_kernel_init=Orthogonal(settings["gain"]))
        params = cell.init(jax.random.key(settings["seed"]), 2)
        opt_state = optimizer(settings).init(params)
        return training.TrainState(params, opt_state, jnp.int32(0), key, settings)

    state = training.over_population(start)(members)

What training needs of them stays in `TrainState.settings`, from which `train_step` makes the
optimiser again: `optimizer(state.settings).update(...)`, with

    def optimizer(settings):
        clip = optax.clip_by_global_norm(settings["clip"])
        return optax.chain(clip, optax.sgd(settings["learning_rate"]))

(`optax.inject_hyperparams` would keep the same numbers in its own state, but only the optimiser's.)
What only the initialisation needs, a forget bias or a gain, is given to a cell that draws the
parameters and is then dropped; the network runs as a cell without traced numbers.

On a CPU a member's numbers are, to the last bit, those of a population whose settings are constants
of the program, where the settings enter as one factor or one term (`optax.sgd`, `optax.adam`,
clipping, `forget_bias`, the gain of `Orthogonal` and `Identity`). The gain of `Gaussian` and the
radius of `SpectralRadius` are then divided by sqrt(rows) in float32 rather than in Python: equal
to one unit in the last place.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np


def grid(**axes: Any) -> dict[str, np.ndarray]:
    """Cross axes, lists of numbers: return an array `[S]` for each, S the product of the lengths.

    The last axis changes fastest, as in nested loops in the order given, and as the digits of a
    counter: `grid(a=[1, 2], b=[3, 4])` is `{"a": [1, 1, 2, 2], "b": [3, 4, 3, 4]}`. Arrays of the
    same form from elsewhere, drawn at random say, do as well.

    Raises:
        ValueError: there are no axes, or one is empty, holds a value twice or one that is no number
            (infinity is one: no clipping is `clip=inf`).
    """
    if not axes:
        raise ValueError("a grid needs axes, such as learning_rate=[0.01, 0.1]")
    values = {name: _axis(name, axis) for name, axis in axes.items()}
    crossed = np.meshgrid(*values.values(), indexing="ij")
    return {name: value.ravel() for name, value in zip(values, crossed, strict=True)}


def aggregate_seeds(
    members: Mapping[str, Any], value: Any, *, seed: str = "seed"
) -> dict[str, np.ndarray]:
    """Return a table of what the members that differ in their seed alone reach.

    Args:
        members: of S entries each, as from `grid`.
        value: `[S]`; NaN for a member that stopped, which counts as the worst: as infinity.
        seed: the setting to leave out.

    Returns:
        The other settings as columns, a row for each combination in order of first appearance;
        `median`, `low` and `high` of the value over its seeds (infinite where so many stopped);
        `members`, how many there are; and `stopped`, how many of these stopped.

    Raises:
        ValueError: `seed` is none of the settings, or the lengths differ.
    """
    value = np.asarray(value, float)
    if seed not in members:
        raise ValueError(f"{seed!r} is none of the settings {', '.join(members)}")
    lengths = {name: np.shape(column) for name, column in members.items()}
    if {*lengths.values(), value.shape} != {(value.size,)}:
        raise ValueError(f"settings {lengths} and values {value.shape} must be of one length")
    columns = {name: np.asarray(column) for name, column in members.items() if name != seed}
    groups: dict[tuple[Any, ...], list[int]] = {}
    for member in range(value.size):
        place = tuple(column[member].item() for column in columns.values())
        groups.setdefault(place, []).append(member)
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
        raise ValueError(f"{name} must be numbers, each once, got {values.tolist()}")
    return values
