"""A training loop around a pure `train_step(state, batch) -> (state, metrics)`.

Chunks of steps run on the device as one loop, for a whole population of members (seeds, say) in
one program. The training loop is a generator: between chunks the caller does what it likes. A
`ResumableTraining` trains within a run directory, saves checkpoints, and resumes from them.
"""

from rnnjax.training.loop import (
    Chunk,
    MemberStop,
    NonFiniteError,
    TrainState,
    TrainStep,
    train_on_batches,
    train_on_samples,
)
from rnnjax.training.mesh import MeshShape, batch_mesh, use_all_cores, use_mesh_shape
from rnnjax.training.multihost import (
    any_process,
    initialize_distributed,
    is_first_process,
    on_first_process,
    report_lost_processes,
)
from rnnjax.training.population import (
    gather,
    over_population,
    population_sharding,
    shard_population,
    sharded_over_population,
)
from rnnjax.training.resumable import (
    ChunkRecord,
    ResumableTraining,
    ResumeError,
    TerminatedError,
    TrainingResult,
)
from rnnjax.training.settings import aggregate_seeds, grid

__all__ = [
    "Chunk",
    "ChunkRecord",
    "MemberStop",
    "MeshShape",
    "NonFiniteError",
    "ResumableTraining",
    "ResumeError",
    "TerminatedError",
    "TrainState",
    "TrainStep",
    "TrainingResult",
    "aggregate_seeds",
    "any_process",
    "batch_mesh",
    "gather",
    "grid",
    "initialize_distributed",
    "is_first_process",
    "on_first_process",
    "over_population",
    "population_sharding",
    "report_lost_processes",
    "shard_population",
    "sharded_over_population",
    "train_on_batches",
    "train_on_samples",
    "use_all_cores",
    "use_mesh_shape",
]
