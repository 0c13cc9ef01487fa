"""A training loop around a pure `train_step(state, batch) -> (state, metrics)`.

Chunks of steps run on the device as one loop, for a whole population of members (seeds, say) in
one program. The training loop is a generator: between chunks the caller does what it likes. A
`Journal` trains within a run directory, with checkpoints, and goes on where it was stopped.
"""

from rnnjax.training.devices import Shares, batch_mesh, sharing, use_all_cores
from rnnjax.training.hosts import agreed, is_first_process, join, noticing_others, on_first
from rnnjax.training.journal import Journal, Record, ResumeError, TerminatedError, Trained
from rnnjax.training.loop import (
    Chunk,
    NonFiniteError,
    Stop,
    TrainState,
    TrainStep,
    train_on_batches,
    train_on_samples,
)
from rnnjax.training.members import grid, over_seeds
from rnnjax.training.population import (
    gathered,
    over_population,
    place,
    population_sharding,
    spread_over_population,
)

__all__ = [
    "Chunk",
    "Journal",
    "NonFiniteError",
    "Record",
    "ResumeError",
    "Shares",
    "Stop",
    "TerminatedError",
    "TrainState",
    "TrainStep",
    "Trained",
    "agreed",
    "batch_mesh",
    "gathered",
    "grid",
    "is_first_process",
    "join",
    "noticing_others",
    "on_first",
    "over_population",
    "over_seeds",
    "place",
    "population_sharding",
    "sharing",
    "spread_over_population",
    "train_on_batches",
    "train_on_samples",
    "use_all_cores",
]
