"""What every experiment shares: options, life cycle, verdict, tables."""

from rnnjax.experiment.baselines import report
from rnnjax.experiment.gradients import gradient_table, log_gradients, log_shares, reach
from rnnjax.experiment.predict import existing, lines, restore, save
from rnnjax.experiment.training import (
    evaluate,
    fit,
    member,
    parameter_count,
    shuffled_batches,
    start,
)

__all__ = [
    "evaluate",
    "existing",
    "fit",
    "gradient_table",
    "lines",
    "log_gradients",
    "log_shares",
    "member",
    "parameter_count",
    "reach",
    "report",
    "restore",
    "save",
    "shuffled_batches",
    "start",
]
