"""Options that applications on real data share, on top of those of every experiment."""

import dataclasses
from typing import Any, ClassVar

from rnnjax import networks
from rnnjax.command_line import ArgumentError, at_least
from rnnjax.experiment.options import PredictOptions, TrainingOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class ApplicationOptions(TrainingOptions, PredictOptions):
    """How an application is trained, and `--predict`; abstract."""

    seeds: int = 3
    """Networks to train, all in one program; the spread is over their results."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkOptions(ApplicationOptions):
    """Which network an application trains; abstract. A subclass may change the defaults."""

    title: ClassVar[str] = "network"

    network: str = "gru"
    """The network: tcn, transformer, elman, lstm, gru, another cell of the library (mingru, slstm)
    or one of your own (./mine.py:MyCell or package.module:MyCell); a cell also after deep_,
    bidirectional_, deep_bidirectional_ or residual_."""
    features: int = 64
    """Hidden units of each layer and direction."""

    def __post_init__(self):
        super().__post_init__()
        at_least(1, self, "features")
        self.make_layer(window=1)

    def make_layer(self, *, window: int) -> Any:
        """Return the layer, `[B, T, D] -> [B, T, H]`; it looks back at least `window` steps."""
        return make_layer("--network", self.network, self.features, window=window)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CausalOptions(NetworkOptions):
    """Which network an application trains to predict what comes next; abstract."""

    title: ClassVar[str] = "network"

    def __post_init__(self):
        super().__post_init__()
        if not networks.causal(self.network):
            raise ArgumentError(
                f"--network must read forwards only, got {self.network}: it would see the answer"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class WriterOptions(NetworkOptions):
    """Which network an application writes with, one step after another; abstract."""

    title: ClassVar[str] = "network"

    network: str = "gru"
    """The network: elman, lstm, gru, another cell of the library (mingru, slstm) or one of your own
    (./mine.py:MyCell or package.module:MyCell); also after deep_ or residual_."""

    def make_layer(self, *, window: int = 1) -> Any:
        """Return the layer; `window` has no effect on a recurrent network."""
        return make_writer("--network", self.network, self.features)


def make_layer(
    option: str, name: str, features: int, *, window: int, blocks: int | None = None
) -> Any:
    """Return the layer `[B, T, D] -> [B, T, H]` with this name.

    Args:
        option: that gave the name, for the message: "--network".
        name: as in `rnnjax.networks`.
        features: H.
        window, blocks: as for `networks.network`.

    Raises:
        ArgumentError: there is no such network, or it cannot have so many features.
    """
    if name == "transformer" and features % 4:
        raise ArgumentError(
            f"--features must be a multiple of 4 for {option} transformer, got {features}"
        )
    try:
        return networks.network(name, features, window=window, blocks=blocks)
    except ValueError as error:
        raise ArgumentError(f"{option} {error}") from None


def many_to_one(option: str, name: str, features: int, outputs: int, **options: Any) -> Any:
    """Return the layer with this name, read at the end of a sequence by a linear head.

    Args:
        outputs: of the head.
        option, name, features, options: as for `make_layer`.

    Raises:
        ArgumentError: as `make_layer`.
    """
    from rnnjax.layers import LinearHead
    from rnnjax.models import ManyToOne

    return ManyToOne(make_layer(option, name, features, **options), LinearHead(outputs))


def many_to_many(option: str, name: str, features: int, outputs: int, **options: Any) -> Any:
    """Return the layer with this name, read at every step by a linear head.

    Args:
        outputs: of the head.
        option, name, features, options: as for `make_layer`.

    Raises:
        ArgumentError: as `make_layer`; or the network reads the future.
    """
    from rnnjax.layers import LinearHead
    from rnnjax.models import ManyToMany

    layer = make_layer(option, name, features, **options)
    if not networks.causal(name):
        raise ArgumentError(f"{option} must answer from the past alone, got {name}")
    return ManyToMany(layer, LinearHead(outputs))


def make_writer(option: str, name: str, features: int) -> Any:
    """Return the layer with this name, for a network that reads what it has written.

    Raises:
        ArgumentError: as `make_layer`; or the network is not recurrent, or reads backwards too.
    """
    if name in ("tcn", "transformer") or not networks.causal(name):
        raise ArgumentError(
            f"{option} must be elman, lstm, gru or another cell, alone or after deep_ or residual_ "
            f"(as in deep_gru), got {name}"
        )
    return make_layer(option, name, features, window=1)
