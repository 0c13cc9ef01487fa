"""What every experiment shares: options, life cycle, verdict, tables, training, `--predict`."""

from rnnjax.experiment.baselines import report
from rnnjax.experiment.console import print_table
from rnnjax.experiment.gradients import gradient_table, log_gradients, log_shares, reach
from rnnjax.experiment.lifecycle import Experiment, in_run
from rnnjax.experiment.options import (
    CellOptions,
    PredictOptions,
    RunOptions,
    SeedOptions,
    TrainingOptions,
    make_task,
    run_options,
)
from rnnjax.experiment.predict import existing, lines, restore, save
from rnnjax.experiment.tables import loss_curve, profile_rows, quantile_band
from rnnjax.experiment.training import (
    evaluate,
    fit,
    member,
    parameter_count,
    shuffled_batches,
    start,
)
from rnnjax.experiment.verdict import Outcome, Verdict, print_verdict

__all__ = [
    "CellOptions",
    "Experiment",
    "Outcome",
    "PredictOptions",
    "RunOptions",
    "SeedOptions",
    "TrainingOptions",
    "Verdict",
    "evaluate",
    "existing",
    "fit",
    "gradient_table",
    "in_run",
    "lines",
    "log_gradients",
    "log_shares",
    "loss_curve",
    "make_task",
    "member",
    "parameter_count",
    "print_table",
    "print_verdict",
    "profile_rows",
    "quantile_band",
    "reach",
    "report",
    "restore",
    "run_options",
    "save",
    "shuffled_batches",
    "start",
]
