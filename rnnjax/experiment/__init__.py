"""What every experiment shares: options, life cycle, verdict, tables, training, `--predict`."""

from rnnjax.experiment.application_options import (
    ApplicationOptions,
    NetworkOptions,
    WriterOptions,
    make_layer,
    make_writer,
)
from rnnjax.experiment.baselines import beats_baseline, report, show_report
from rnnjax.experiment.console import estimate_text, print_table
from rnnjax.experiment.drawing import draw, draw_curves, draw_heat_maps
from rnnjax.experiment.gradients import gradient_table, log_gradients, log_shares, reach
from rnnjax.experiment.lifecycle import Experiment
from rnnjax.experiment.options import (
    CellOptions,
    InitialisationOptions,
    PredictOptions,
    RunOptions,
    SeedOptions,
    SurfaceOptions,
    TrainingOptions,
    make_task,
    run_options,
)
from rnnjax.experiment.predict import lines, read_file, restore, save
from rnnjax.experiment.tables import (
    loss_curve,
    nested,
    profile_rows,
    quantile_band,
    rates_by_lag,
    select,
    surface_columns,
)
from rnnjax.experiment.task_data import digit_sets, end_to_end_inputs, sampled_sets
from rnnjax.experiment.training import (
    evaluate,
    fit,
    member,
    parameter_count,
    shuffled_batches,
    start,
    train_and_observe,
)
from rnnjax.experiment.verdict import Outcome, Verdict, print_verdict

__all__ = [
    "ApplicationOptions",
    "CellOptions",
    "Experiment",
    "InitialisationOptions",
    "NetworkOptions",
    "Outcome",
    "PredictOptions",
    "RunOptions",
    "SeedOptions",
    "SurfaceOptions",
    "TrainingOptions",
    "Verdict",
    "WriterOptions",
    "beats_baseline",
    "digit_sets",
    "draw",
    "draw_curves",
    "draw_heat_maps",
    "end_to_end_inputs",
    "estimate_text",
    "evaluate",
    "fit",
    "gradient_table",
    "lines",
    "log_gradients",
    "log_shares",
    "loss_curve",
    "make_layer",
    "make_task",
    "make_writer",
    "member",
    "nested",
    "parameter_count",
    "print_table",
    "print_verdict",
    "profile_rows",
    "quantile_band",
    "rates_by_lag",
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
    "surface_columns",
    "train_and_observe",
]
