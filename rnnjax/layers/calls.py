"""How every layer is called, batch-major.

    outputs = layer(inputs, seq_lengths=None, deterministic=None)         [*batch, T, D] -> [.., H]
    carry, outputs = layer(inputs, initial_carry=carry, return_carry=True)

Steps past a sequence's end leave the carry unchanged and emit zeros. Random masks (dropout,
zoneout) are drawn if `apply` receives `rngs={"dropout": key}`, unless `deterministic` is true.
"""

from typing import Any, Protocol, runtime_checkable

import flax.linen as nn


@runtime_checkable
class Recurrent(Protocol):
    """A layer whose carry does not depend on its inputs: `RNN`, and a `Stack` of such layers."""

    def start_carry(self, batch_shape: tuple[int, ...], /) -> Any:
        """Return the carry that sequences start from, leaves `[*batch, ...]`."""


def first_given(*values: Any) -> Any:
    """Return the first of the values that is not None."""
    return next((value for value in values if value is not None), None)


def without_noise(module: nn.Module, deterministic: bool | None) -> bool:
    """Return whether to draw no masks: `deterministic`, or if that is None, without a stream."""
    return not module.has_rng("dropout") if deterministic is None else deterministic
