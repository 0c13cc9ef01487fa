"""How every layer is called, batch-major.

    outputs = layer(inputs, seq_lengths=None, deterministic=None)         [*batch, T, D] -> [.., H]
    carry, outputs = layer(inputs, initial_carry=carry, return_carry=True)

Steps past a sequence's end leave the carry unchanged and emit zeros. Recurrent layers (`RNN`, and
`Bidirectional` and `Stack` of them) also take `mask`, `resets`, `clip_adjoints` and
`return_carries`. Random masks (dropout,
zoneout) are drawn if `apply` receives `rngs={"dropout": key}`, unless `deterministic` is true.
"""

import inspect
from typing import Any, Protocol, runtime_checkable

import flax.linen as nn


@runtime_checkable
class Recurrent(Protocol):
    """A layer whose carry does not depend on its inputs: `RNN`, and a `Stack` of such layers."""

    def start_carry(self, batch_shape: tuple[int, ...], /) -> Any:
        """Return the carry that sequences start from, leaves `[*batch, ...]`."""


@runtime_checkable
class Composed(Protocol):
    """A layer made of layers: `Bidirectional`, `Stack`, `ResidualBlock`, `ResidualStack`."""

    def inner_layers(self) -> tuple[nn.Module, ...]:
        """Return the layers that it is made of, in the order in which they are called."""
        ...


def asked(layer: Any, **options: Any) -> dict[str, Any]:
    """Return the options that are not None, which `layer` must take.

    Raises:
        TypeError: it does not take one.
    """
    given = {name: value for name, value in options.items() if value is not None}
    taken = inspect.signature(type(layer).__call__).parameters
    for name in given:
        if name not in taken and not any(p.kind is p.VAR_KEYWORD for p in taken.values()):
            raise TypeError(f"{type(layer).__name__} takes no {name}")
    return given


def first_given(*values: Any) -> Any:
    """Return the first of the values that is not None."""
    return next((value for value in values if value is not None), None)


def without_noise(module: nn.Module, deterministic: bool | None) -> bool:
    """Return whether to draw no masks: `deterministic`, or if that is None, without a stream."""
    return not module.has_rng("dropout") if deterministic is None else deterministic
