"""What every experiment shares: options, life cycle, verdict, tables, training, `--predict`."""

from rnnjax.experiment.application_options import (
    ApplicationOptions,
    CausalOptions,
    NetworkOptions,
    WriterOptions,
    make_layer,
    make_writer,
)
from rnnjax.experiment.baselines import beats_baseline, network_entries, report, show_report
from rnnjax.experiment.console import print_table
from rnnjax.experiment.drawing import draw, draw_curves, draw_heat_maps
from rnnjax.experiment.gradients import (
    gradient_table,
    log_gradients,
    log_shares,
    longest,
    loss_gradients,
    reach,
)
from rnnjax.experiment.lifecycle import Experiment
from rnnjax.experiment.options import (
    CellOptions,
    PredictOptions,
    RunOptions,
    SeedOptions,
    TrainingOptions,
    make_task,
    run_options,
)
from rnnjax.experiment.predict import lines, read_file, restore, save
from rnnjax.experiment.tables import loss_curve, profile_rows, quantile_band, select
from rnnjax.experiment.task_data import digit_sets, sampled_sets
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
    "ApplicationOptions",
    "CausalOptions",
    "CellOptions",
    "Experiment",
    "NetworkOptions",
    "Outcome",
    "PredictOptions",
    "RunOptions",
    "SeedOptions",
    "TrainingOptions",
    "Verdict",
    "WriterOptions",
    "beats_baseline",
    "digit_sets",
    "draw",
    "draw_curves",
    "draw_heat_maps",
    "evaluate",
    "fit",
    "gradient_table",
    "lines",
    "log_gradients",
    "log_shares",
    "longest",
    "loss_curve",
    "loss_gradients",
    "make_layer",
    "make_task",
    "make_writer",
    "member",
    "network_entries",
    "parameter_count",
    "print_table",
    "print_verdict",
    "profile_rows",
    "quantile_band",
    "reach",
    "read_file",
    "report",
    "restore",
    "run_options",
    "sampled_sets",
    "save",
    "select",
    "show_report",
    "shuffled_batches",
    "start",
]
