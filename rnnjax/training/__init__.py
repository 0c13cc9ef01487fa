"""A training loop around a pure `train_step(state, batch) -> (state, metrics)`.

Chunks of steps run on the device as one loop, for a whole population of members (seeds, say) in
one program. The training loop is a generator: between chunks the experiment does what it likes.
"""

from rnnjax.training.loop import (
    Chunk,
    NonFiniteError,
    TrainState,
    TrainStep,
    train_on_batches,
    train_on_samples,
)
from rnnjax.training.members import grid, over_seeds
from rnnjax.training.population import batch_mesh, over_population, use_all_cores

__all__ = [
    "Chunk",
    "NonFiniteError",
    "TrainState",
    "TrainStep",
    "batch_mesh",
    "grid",
    "over_population",
    "over_seeds",
    "train_on_batches",
    "train_on_samples",
    "use_all_cores",
]
