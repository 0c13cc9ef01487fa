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

Verdict: `reproduced` if the network beats the best baseline by more than the spread over seeds.
That holds for the default series, which has a strong season. The weekly CO2 has little season
beside its noise, and there it does not hold.

This file has more than 200 lines because the cut in time, the threshold and the replacement of
flagged changes are all part of the method, and none of them may look ahead.

    python experiments/applications/anomaly_detection.py --out runs/elnino
    python experiments/applications/anomaly_detection.py --out runs/elnino --predict new.csv
    python experiments/applications/anomaly_detection.py --series co2 --window 56 --steps 400
"""

import dataclasses
import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax import experiment, training
from rnnjax.command_line import ArgumentError, at_least, option
from rnnjax.datasets import series
from rnnjax.datasets.series.anomalies import inject, quality
from rnnjax.datasets.series.detection import flagged, last_season_rule, last_value_rule, watch

SOURCES = {
    "elnino": "sea surface temperature, Nino 1+2, monthly, degrees Celsius",
    "co2": "CO2 in the air of Mauna Loa, weekly, ppm",
    "sunspots": "sunspot numbers, yearly",
}
UNITS = {"elnino": "degrees Celsius", "co2": "ppm", "sunspots": "sunspot number"}
SEASONS = {"elnino": 12, "co2": 52, "sunspots": 11}  # steps
REPLACED = 2  # flagged changes in a row: a spike, and the step back


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(experiment.NetworkOptions):
    """Find synthetic anomalies in a real series, and compare with simple rules.

    Prints and writes summary.json: F1 with precision and recall beside those of the simple rules,
    and examples. Draws the series with its anomalies and what was flagged, and the gradient against
    the lag. Saves the trained networks for `--predict FILE.csv`. The default run takes about twenty
    seconds on two CPU cores.
    """

    series: Literal[tuple(SOURCES)] = "elnino"  # pyright: ignore[reportInvalidTypeForm]
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
        for name in ("train_share", "validation_share", "quantile"):
            value = getattr(self, name)
            if not 0 < value < 1:
                raise ArgumentError(f"{option(name)} must lie between 0 and 1, got {value}")
        if self.train_share + self.validation_share >= 1:
            raise ArgumentError(
                "--train-share and --validation-share must leave something to test, got "
                f"{self.train_share} and {self.validation_share}"
            )

    def make_model(self):
        from rnnjax.layers import GaussianHead
        from rnnjax.models import ManyToOne

        return ManyToOne(self.make_layer(window=self.window), GaussianHead())


class Parts(NamedTuple):
    """A series cut in time. Change t leads to value t + 1."""

    values: Any  # [T], missing values carried forward
    changes: Any  # [T - 1]
    scaling: series.Scaling  # of the changes, fitted on the training part
    train: Any  # origins: the changes to predict
    validation: Any
    test: Any


def cut(config, values):
    """Return the parts of a series; changes to or from a missing value are neither learned nor
    used for the threshold.

    Raises:
        ArgumentError: a part is too short.
    """
    there = ~np.isnan(values)
    first = int(there.argmax())
    values, there = series.carried_forward(values[first:]), there[first:]
    changes, known = np.diff(values), there[1:] & there[:-1]
    ends = [round(len(changes) * config.train_share)]
    ends.append(round(len(changes) * (config.train_share + config.validation_share)))
    after = (max(end, SEASONS[config.series]) for end in ends)
    train, validation, test = (
        series.origins(start, end, config.window, 1)
        for start, end in zip((0, *after), (*ends, len(changes)), strict=True)
    )
    train, validation = train[known[train]], validation[known[validation]]
    if min(map(len, (train, validation, test))) < 2:
        raise ArgumentError(
            f"--window {config.window} leaves too little to learn from or to test: "
            f"{len(train)}, {len(validation)} and {len(test)} steps"
        )
    scaling = series.Scaling.fit(changes[: ends[0], None])
    return Parts(values, changes, scaling, train, validation, test)


def questions(config, changes, scaling, origins):
    """Return scaled changes: what predictions read, `[N, W, 1]`, and predict, `[N, 1]`."""
    scaled = scaling.apply(changes[:, None]).astype(np.float32)
    return {
        "inputs": series.inputs(scaled, origins, config.window),
        "targets": series.targets(scaled[:, 0], origins, 1),
    }


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


def detect(rule, config, parts, changes, copies):
    """Return a rule's threshold, and its scores of the test steps of the copies, `[C, N]`.

    Args:
        rule: as for `series.detection.watch`.
        changes: of the unchanged series, `[T]`: its validation part gives the threshold.
        copies: changes `[C, T]`.
    """
    reach = max(config.window, SEASONS[config.series])

    def watched(threshold, changes, origins):
        first, last = origins[0], origins[-1]
        past, coming = changes[:, first - reach : first], changes[:, first : last + 1]
        return watch(rule, threshold, past, coming, replaced=REPLACED)[0][:, origins - first]

    quiet = watched(jnp.inf, jnp.asarray(changes)[None], parts.validation)
    threshold = jnp.quantile(quiet, config.quantile)
    return threshold, watched(threshold, jnp.asarray(copies), parts.test)


def simple_rules(config, parts, copies):
    """Return what the baselines flag in each copy, by name."""
    season = functools.partial(last_season_rule, SEASONS[config.series])
    changes, found = (np.float32(parts.changes), np.float32(copies)), {}
    for name, rule in {"last value": last_value_rule, "last season": season}.items():
        threshold, scores = detect(rule, config, parts, *changes)
        found[name] = flagged(scores, threshold, parts.test + 1)
    return found | {"every step": [{*(parts.test + 1).tolist()}] * len(copies)}


def measure(config, run):
    import optax

    source = series.load(config.series)
    dates = source.dates[int(np.isfinite(source.values).argmax()) :]
    parts = cut(config, source.values)
    try:
        copies, anomalies = zip(
            *(
                inject(parts.values, parts.test[0] + 1, parts.scaling.std[0], config.each, copy)
                for copy in range(config.copies)
            ),
            strict=True,
        )
    except ValueError as error:
        raise ArgumentError(f"--each: {error}") from None
    changes = np.diff(copies)  # [C, T - 1]

    model: Any = config.make_model()
    clip, adam = optax.clip_by_global_norm(config.clip), optax.adam(config.learning_rate)
    optimizer = optax.chain(clip, adam)
    columns = questions(config, parts.changes, parts.scaling, parts.train)
    examples = experiment.shuffled_batches(config, columns)
    state = experiment.start(config, optimizer, functools.partial(initialise, config, model))
    step = make_train_step(model, optimizer)
    params = experiment.fit(config, run, step, state, examples, label=config.network).params

    scaled = [
        parts.scaling.apply(own[..., None])[..., 0].astype(np.float32)
        for own in (parts.changes, changes)
    ]

    def detected(params):
        rule = functools.partial(network_rule, model, config.window, params)
        return detect(rule, config, parts, *scaled)

    thresholds, scores = training.over_population(detected)(params)
    found = [flagged(*own, parts.test + 1) for own in zip(scores, thresholds, strict=True)]
    simple = simple_rules(config, parts, changes)
    unchanged = questions(config, parts.changes, parts.scaling, parts.validation)
    inputs, targets = (jnp.asarray(column[:32]) for column in unchanged.values())
    profiles = experiment.log_gradients(
        model, params, lambda outputs: model.head.loss(outputs, targets).sum(), inputs
    )
    table = experiment.gradient_table(profiles)
    run.write_table("gradients", table)
    marks = {"network": found[0][0], "last value": simple["last value"][0]}
    run.write_table("found", found_table(parts, dates, copies[0], anomalies[0], marks))
    kept = {name: value.tolist() for name, value in parts.scaling._asdict().items()}
    experiment.save(run, params, kept | {"threshold": float(thresholds[0])})
    results = [quality(own, anomalies) for own in found]
    rules = {name: quality(own, anomalies) for name, own in simple.items()}
    return experiment.report(
        "F1",
        [result["f1"] for result in results],
        {name: result["f1"] for name, result in rules.items()},
        higher_is_better=True,
        source=f"{SOURCES[config.series]}, {str(dates[0])[:4]} to {str(dates[-1])[:4]} (from the "
        "package statsmodels; demonstration scale); the anomalies are synthetic",
        examples=[
            {"anomaly": one.kind, "at": str(dates[one.start])}
            | {"found": "no" if found[0][0].isdisjoint(range(one.start, one.end)) else "yes"}
            for one in anomalies[0][:6]
        ],
        network=config.network,
        parameters=experiment.parameter_count(params),
        gradient_reach=experiment.reach(table[0]),
        details={"network": results, **rules},
    )


def found_table(parts, dates, values, anomalies, marks):
    """Return the table of a figure: a copy of the test part, and below it marks of its steps."""
    steps = parts.test + 1
    labelled = {step for one in anomalies for step in range(one.start, one.end)}
    low, unit = values[steps].min(), np.ptp(values[steps]) / 16
    years = dates[steps].astype("datetime64[M]").astype(int) / 12 + 1970
    if len(np.unique(years)) < len(steps):  # weeks
        years = dates[steps].astype(int) / 365.25 + 1970
    lines = {"series": values[steps]}
    for row, (name, marked) in enumerate({"put in": labelled, **marks}.items(), 1):
        there = np.isin(steps, [*marked])
        lines[name] = np.where(there, low - row * unit, np.nan)
    return [{"series": name, "year": years, "median": line} for name, line in lines.items()]


def draw(run):
    """Draw the figures of every application, and what was found."""
    from rnnjax import figures

    experiment.draw(run)
    figure = figures.curves(
        run.read_table("found"),
        x="year",
        series="series",
        names={"put in": "synthetic anomalies (marks below)", "network": "flagged by the network"}
        | {"last value": "flagged by the last value"},
        xlabel="year",
        ylabel=UNITS[run.read_json("config.json")["series"]],
    )
    run.save_figure("found", figure)


def answer(config, run, asked):
    """Yield a line for each flagged step of a file."""
    values = experiment.read_file(asked, "a file of numbers", series.read_file).values
    if len(values) < config.window + 2:
        raise ArgumentError(
            f"--predict needs at least {config.window + 2} values, {asked} has {len(values)}"
        )
    kept = run.read_json("preprocessing.json")
    scaling = series.Scaling(np.array(kept["mean"]), np.array(kept["std"]))
    changes = scaling.apply(np.diff(values)[:, None])[None, :, 0].astype(np.float32)
    model: Any = config.make_model()
    init = functools.partial(initialise, config, model)
    params = experiment.restore(run, init, members=config.seeds)
    rule = functools.partial(network_rule, model, config.window, params)
    past, coming = changes[:, : config.window], jnp.asarray(changes[:, config.window :])
    watched = watch(rule, kept["threshold"], past, coming, replaced=REPLACED)
    scores, expected = (np.asarray(a)[0] for a in watched)
    predicted = scaling.undo(expected[:, None].astype(np.float64))[:, 0]
    expected = values[config.window : -1] + predicted
    places = np.flatnonzero(scores > kept["threshold"])
    first = config.window + 2  # counted from 1
    yield f"{len(places)} of the steps {first} to {len(values)} are anomalies; the first are read"
    for place in places:
        value = values[place + first - 1]
        yield f"step {place + first}: {value:.6g}, {expected[place]:.6g} was expected"


run = experiment.Experiment(
    "anomaly_detection",
    Config,
    measure,
    experiment.beats_baseline,
    draw,
    show=experiment.show_report,
    answer=answer,
)

if __name__ == "__main__":
    run.main()
