"""A training loop around a pure `train_step(state, batch) -> (state, metrics)`.

Chunks of steps run on the device as one loop, for a whole population of members (seeds, say) in
one program. The training loop is a generator: between chunks the experiment does what it likes.
"""

from rnnjax.training.devices import Shares, batch_mesh, sharing, use_all_cores
from rnnjax.training.hosts import agreed, is_first_process, join, noticing_others, on_first
from rnnjax.training.loop import (
    Chunk,
    NonFiniteError,
    TrainState,
    TrainStep,
    train_on_batches,
    train_on_samples,
)
from rnnjax.training.population import (
    gathered,
    over_population,
    place,
    population_sharding,
    spread_over_population,
)

__all__ = [
    "Chunk",
    "NonFiniteError",
    "Shares",
    "TrainState",
    "TrainStep",
    "agreed",
    "batch_mesh",
    "gathered",
    "is_first_process",
    "join",
    "noticing_others",
    "on_first",
    "over_population",
    "place",
    "population_sharding",
    "sharing",
    "spread_over_population",
    "train_on_batches",
    "train_on_samples",
    "use_all_cores",
]
