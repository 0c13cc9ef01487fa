"""A training loop around a pure `train_step(state, batch) -> (state, metrics)`.

`fit` trains one network in one call. `train_on_samples` and `train_on_batches` train a population
of members (seeds, for example) in one program; they are generators, and the caller acts between
chunks of steps. `ResumableTraining` trains within a run directory, saves checkpoints, and resumes
from them.
"""

from rnnjax.training.fit import FitResult, fit
from rnnjax.training.history import ChunkRecord
from rnnjax.training.iterators import ResumableIterator
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
from rnnjax.training.resumable import ResumableTraining, ResumeError, TrainingResult
from rnnjax.training.settings import aggregate_seeds, grid
from rnnjax.training.stopping_rule import Judged, StoppingRule
from rnnjax.training.termination import TerminatedError

__all__ = [
    "Chunk",
    "ChunkRecord",
    "FitResult",
    "Judged",
    "MemberStop",
    "MeshShape",
    "NonFiniteError",
    "ResumableIterator",
    "ResumableTraining",
    "ResumeError",
    "StoppingRule",
    "TerminatedError",
    "TrainState",
    "TrainStep",
    "TrainingResult",
    "aggregate_seeds",
    "any_process",
    "batch_mesh",
    "fit",
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
