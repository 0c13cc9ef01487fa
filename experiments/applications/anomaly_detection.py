"""Anomaly detection: find where a real series does what its past does not explain.

Claim: a recurrent network that predicts the mean and the variance of the next change of a seasonal
series finds anomalies that are no larger than the seasonal changes, which a rule on the size of
the change cannot find. Many-to-one: the last state after a window of changes gives the prediction;
the score of a step is -ln p of the change that came. Source: Malhotra et al. 2015, "Long short term
memory networks for anomaly detection in time series".

The series is cut in time into training, validation and test. The network learns from the first
part, which also gives the scaling. A step is flagged if its score exceeds a quantile of the scores
of the second part, which is left unchanged. A flagged change is not read: its prediction takes its
place, at most twice in a row. Synthetic anomalies are added to copies of the third part alone, a
few of each kind: `rnnjax.datasets.series.anomalies` (sizes in standard deviations of the changes in
training).

Metric: F1 of the precision over steps and the recall over anomalies, each of which counts as found
if one of its labelled steps is flagged (Garg et al. 2021, "An evaluation of anomaly detection and
diagnosis in multivariate time series"), over all copies. Baselines: the same rule on the size of
the change (last value) and on its distance from the change one season earlier (last season, which
knows the length of the season and does not read flagged changes either), and flagging every step.

Verdict: `reproduced` if the network beats the best baseline by more than the spread over seeds;
`quick run only` if --steps or --seeds is below its default. It is reproduced with the default
series, which has a strong season, and not with the weekly CO2, which has little beside its noise.

This file has more than 200 lines because the cut in time, the threshold and the replacement of
flagged changes are all part of the method, and none of them may look ahead.

    python experiments/applications/anomaly_detection.py --out runs/elnino
    python experiments/applications/anomaly_detection.py --out runs/elnino --predict new.csv
    python experiments/applications/anomaly_detection.py --series co2 --window 56 --steps 400
"""

import dataclasses
import functools
from typing import Any, Literal

from rnnjax import experiment, training
from rnnjax.command_line import ArgumentError, as_argument_error, at_least, fraction
from rnnjax.datasets import series
from rnnjax.datasets.series import MEASUREMENTS
from rnnjax.datasets.series.anomalies import inject_copies, labelled, quality
from rnnjax.datasets.series.detection import detect, find, flagged, marks_table, simple_rules
from rnnjax.experiment import beats_baseline, show_report

import jax
import jax.numpy as jnp
import numpy as np

REPLACED = 2  # flagged changes in a row: a spike, and the step back


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(experiment.NetworkOptions):
    """Find synthetic anomalies in a real series, and compare with simple rules.

    Prints and writes summary.json: F1 with precision and recall beside those of the simple rules,
    and examples. Draws the series with its anomalies and what was flagged, and the gradient against
    the lag. Saves the trained networks for `--predict FILE.csv`. The default run takes about twenty
    seconds on two CPU cores.
    """

    series: Literal[tuple(MEASUREMENTS)] = "elnino"  # pyright: ignore[reportInvalidTypeForm]
    """The series."""
    train_share: float = 0.5
    """Fraction of the series to learn from, its beginning."""
    validation_share: float = 0.2
    """Fraction after it that sets the threshold; the rest is the test."""
    quantile: float = 0.98
    """The threshold as a quantile of the validation scores."""
    each: int = 3
    """Anomalies of each kind in a copy of the test part."""
    copies: int = 20
    """Copies of the test part, each with its own anomalies."""
    window: int = 24
    """Changes that a prediction reads."""
    features: int = 32
    steps: int = 120

    def __post_init__(self):
        super().__post_init__()
        at_least(1, self, "each", "copies", "window")
        fraction(self, "train_share", "validation_share", "quantile")
        if self.train_share + self.validation_share >= 1:
            raise ArgumentError(
                "--train-share and --validation-share must leave something to test, got "
                f"{self.train_share} and {self.validation_share}"
            )

    def make_model(self):
        from rnnjax.layers import GaussianHead
        from rnnjax.models import ManyToOne

        return ManyToOne(self.make_layer(window=self.window), GaussianHead())


def cut(config, values):
    """Return the series cut in time into training, validation and test."""
    shares = {"train_share": config.train_share, "validation_share": config.validation_share}
    season = MEASUREMENTS[config.series].season
    with as_argument_error(f"--window {config.window}"):
        return series.cut(values, window=config.window, season=season, **shares)


def make_train_step(model, optimizer):
    import optax

    def train_step(state, batch):
        def loss_fn(params):
            outputs = model.apply({"params": params}, batch["inputs"])
            return model.head.loss(outputs, batch["targets"]).mean()

        loss, gradient = jax.value_and_grad(loss_fn)(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        state = state._replace(params=params, opt_state=opt_state, step=state.step + 1)
        return state, {"loss": loss, "grad_norm": optax.tree.norm(gradient)}  # before clipping

    return train_step


def initialise(config, model, key):
    return model.init(key, jnp.zeros((1, config.window, 1)))["params"]


def network_rule(model, window, params, past, change):
    """Return the scores -ln p, in nats, and the predicted means, `[C]` each; all is scaled.

    Args:
        past: `[C, K]`, at least `window` changes.
        change: `[C]`.
    """
    outputs = model.apply({"params": params}, past[:, -window:, None])
    return model.head.loss(outputs, change[:, None]), model.head.mode(outputs)[:, 0]


def measure(config, run):
    import optax

    about, source = MEASUREMENTS[config.series], series.load(config.series)
    dates = source.dates[int(np.isfinite(source.values).argmax()) :]
    parts = cut(config, source.values)
    first, unit = parts.test[0] + 1, parts.scaling.std[0]
    with as_argument_error("--each"):
        copies, anomalies = inject_copies(parts.values, first, unit, config.each, config.copies)
    changes = np.diff(copies)  # [C, T - 1]

    model: Any = config.make_model()
    clip, adam = optax.clip_by_global_norm(config.clip), optax.adam(config.learning_rate)
    optimizer = optax.chain(clip, adam)
    questions = functools.partial(series.questions_at, parts.changes[:, None], parts.scaling)
    inputs, targets, _ = questions(parts.train, config.window, horizon=1)
    examples = experiment.shuffled_batches(config, {"inputs": inputs, "targets": targets})
    state = experiment.start(config, optimizer, functools.partial(initialise, config, model))
    step = make_train_step(model, optimizer)
    params = experiment.fit(config, run, step, state, examples, label=config.network).params

    reach = max(config.window, about.season)
    options = {"quantile": config.quantile, "reach": reach, "replaced": REPLACED}
    scaled = parts.scaled(parts.changes), parts.scaled(changes)

    def detected(params):
        rule = functools.partial(network_rule, model, config.window, params)
        return detect(rule, parts, *scaled, **options)

    thresholds, scores = training.over_population(detected)(params)
    found = [flagged(*own, parts.test + 1) for own in zip(scores, thresholds, strict=True)]
    simple = simple_rules(parts, changes, about.season, **options)
    probe = questions(parts.validation[:32], config.window, horizon=1)
    table = experiment.loss_gradients(model, params, probe.targets, probe.inputs)
    run.write_table("gradients", table)
    marks = {"put in": labelled(anomalies[0]), "network": found[0][0]}
    marks |= {"last value": simple["last value"][0]}
    run.write_table("found", marks_table(parts.test + 1, dates, copies[0], marks))
    experiment.save(run, params, parts.scaling.as_lists() | {"threshold": float(thresholds[0])})
    results = [quality(own, anomalies) for own in found]
    rules = {name: quality(own, anomalies) for name, own in simple.items()}
    return experiment.report(
        "F1",
        [result["f1"] for result in results],
        {name: result["f1"] for name, result in rules.items()},
        higher_is_better=True,
        source=f"{about.description}, {str(dates[0])[:4]} to {str(dates[-1])[:4]} (from the "
        "package statsmodels; demonstration scale); the anomalies are synthetic",
        examples=[
            {"anomaly": one.kind, "at": str(dates[one.start])}
            | {"found": "no" if found[0][0].isdisjoint(range(one.start, one.end)) else "yes"}
            for one in anomalies[0][:6]
        ],
        **experiment.network_entries(config, params, table),
        details={"network": results, **rules},
    )


def draw(run):
    """Draw the figures of every application, and what was found."""
    experiment.draw(run)
    unit = MEASUREMENTS[run.read_json("config.json")["series"]].unit
    names = {"put in": "synthetic anomalies (marks below)", "network": "flagged by the network"}
    names |= {"last value": "flagged by the last value"}
    experiment.draw_curves(run, "found", "year", "series", names=names, xlabel="year", ylabel=unit)


def answer(config, run, asked):
    """Yield a line for each flagged step of a file."""
    values = experiment.read_file(asked, "a file of numbers", series.read_file).values
    if len(values) < config.window + 2:
        raise ArgumentError(
            f"--predict needs at least {config.window + 2} values, {asked} has {len(values)}"
        )
    kept = run.read_json("preprocessing.json")
    scaling = series.Scaling.from_lists(kept)
    model: Any = config.make_model()
    init = functools.partial(initialise, config, model)
    params = experiment.restore(run, init, members=config.seeds)
    rule = functools.partial(network_rule, model, config.window, params)
    options = {"threshold": kept["threshold"], "window": config.window, "replaced": REPLACED}
    steps, expected = find(rule, values, scaling, **options)
    first, last = config.window + 2, len(values)  # counted from 1
    yield f"{len(steps)} of the steps {first} to {last} are anomalies; the first are read"
    for step in steps:
        yield f"step {step + 1}: {values[step]:.6g}, {expected[step]:.6g} was expected"


run = experiment.Experiment(
    "anomaly_detection", Config, measure, beats_baseline, draw, show=show_report, answer=answer
)

if __name__ == "__main__":
    run.main()
