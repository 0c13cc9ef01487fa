"""How every layer is called.

    outputs = layer(inputs, seq_lengths=None, deterministic=None)         [*batch, T, D] -> [.., H]
    carry, outputs = layer(inputs, initial_carry=carry, return_carry=True)

Steps past a sequence's end leave the carry unchanged and emit zeros. Random masks (dropout,
zoneout) are drawn if `apply` gets `rngs={"dropout": key}`, unless `deterministic` says otherwise.
"""

from typing import Any

import flax.linen as nn


def first_given(*values: Any) -> Any:
    """Return the first of the values that is not None."""
    return next((value for value in values if value is not None), None)


def without_noise(module: nn.Module, deterministic: bool | None) -> bool:
    """Return whether to draw no masks: what `deterministic` says, or if there is no stream."""
    return not module.has_rng("dropout") if deterministic is None else deterministic
