"""The figures that every application has."""

from rnnjax.runs import Run


def draw(run: Run) -> None:
    """Draw `gradients`, the gradient against the lag, and `training`, the training loss."""
    from rnnjax import figures

    figure = figures.curves(
        run.read_table("gradients"),
        x="lag",
        series="layer",
        xlabel="lag k = T - t (steps before the end)",
        ylabel="share of the gradient",
        natural_logs=True,
    )
    run.save_figure("gradients", figure)
    losses = run.read_table("training")
    if len(losses["step"]):  # else the run is shorter than `record_every`
        figure = figures.curves(losses, x="step", series="series", xlabel="update", ylabel="loss")
        run.save_figure("training", figure)
