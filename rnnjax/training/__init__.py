"""A training loop around a pure `train_step(state, batch) -> (state, metrics)`.

Chunks of steps run on the device as one loop, for a whole population of members (seeds, say) in
one program. The training loop is a generator: between chunks the caller does what it likes. A
`Journal` trains within a run directory, with checkpoints, and goes on where it was stopped.
"""

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
from rnnjax.training.population import batch_mesh, over_population, use_all_cores

__all__ = [
    "Chunk",
    "Journal",
    "NonFiniteError",
    "Record",
    "ResumeError",
    "Stop",
    "TerminatedError",
    "TrainState",
    "TrainStep",
    "Trained",
    "batch_mesh",
    "grid",
    "over_population",
    "over_seeds",
    "train_on_batches",
    "train_on_samples",
    "use_all_cores",
]
