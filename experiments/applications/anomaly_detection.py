"""Anomaly detection: find where a real series does what its past does not explain.

Claim: a recurrent network that predicts the next change of a series from those before it, and how
sure it is, finds anomalies that are no larger than what the season does to the series, which a rule
on the size of the change cannot. Many-to-one: after each window the last state gives the mean and
the variance of the next change; the score of a step is -ln p of what came (Malhotra et al. 2015,
"Long short term memory networks for anomaly detection in time series").

The series is cut in time: training, validation, test. The network learns from the first part, which
also gives the scaling; a step is flagged if its score exceeds a quantile of the scores of the
second part, which is as it is. What was flagged is not read afterwards: the expected change stands
in its place, twice in a row at most. Anomalies, synthetic ones, are put into copies of the third
part alone, a few of each kind (one standard deviation is that of the changes in training):

spike   one value is off, by 1 to 3 standard deviations; it and the step back are labelled
shift   all values from one on are off by as much; its step is labelled
stuck   six values repeat the one before; they and the step after are labelled

The default series has a strong season, and there the network is better. The weekly CO2 has little
season beside its noise: there it is not better by more than the spread over seeds.

Metric: F1 of the precision over steps and the recall over anomalies, of which each counts as found
if one of its labelled steps is flagged (Garg et al. 2021, "An evaluation of anomaly detection and
diagnosis in multivariate time series"), over all copies. Baselines: the same rule on the size of
the change (last value) and on how far the change is from that a season before (last season, which
is told the season's length and also reads no flagged change), and flagging every step.

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
from rnnjax.command_line import ArgumentError, at_least, main
from rnnjax.datasets import batches, series
from rnnjax.experiment import applications
from rnnjax.experiment.applications import NETWORKS, Options

SOURCES = {
    "elnino": "sea surface temperature, Nino 1+2, monthly, degrees Celsius",
    "co2": "CO2 in the air of Mauna Loa, weekly, ppm",
    "sunspots": "sunspot numbers, yearly",
}
UNITS = {"elnino": "degrees Celsius", "co2": "ppm", "sunspots": "sunspot number"}
SEASONS = {"elnino": 12, "co2": 52, "sunspots": 11}  # steps
KINDS = "spike", "shift", "stuck"
SIZES = 1.0, 3.0
STUCK = 6
REPLACED = 2  # a spike, and the step back


@dataclasses.dataclass(frozen=True)
class Config(Options):
    """Find anomalies that were put into a real series, and compare with simple rules.

    Prints and writes summary.json: F1 with precision and recall, the simple rules' beside it, and
    examples; the series with what was put in and what was found, and the gradient against the lag,
    as figures; and the trained networks, for `--predict FILE.csv`. The default run takes about
    twenty seconds on two CPU cores.
    """

    series: Literal[tuple(SOURCES)] = "elnino"  # pyright: ignore[reportInvalidTypeForm]
    """The series."""
    train_share: float = 0.5
    """Part of the series to learn from, its beginning."""
    validation_share: float = 0.2
    """Part after it that sets the threshold; the rest is the test."""
    quantile: float = 0.98
    """Of the validation scores: the threshold."""
    each: int = 3
    """Anomalies of each kind in a copy of the test part."""
    copies: int = 20
    """Copies of the test part, each with anomalies of its own."""
    window: int = 24
    """Changes that a prediction reads."""
    network: Literal[NETWORKS] = "gru"  # pyright: ignore[reportInvalidTypeForm]
    """What reads the window."""
    features: int = 32
    """Hidden units of each layer and direction."""
    steps: int = 120

    def __post_init__(self):
        super().__post_init__()
        at_least(1, self, "each", "copies", "window", "features")
        for name in ("train_share", "validation_share", "quantile"):
            if not 0 < getattr(self, name) < 1:
                value = getattr(self, name)
                raise ArgumentError(
                    f"--{name.replace('_', '-')} must lie between 0 and 1, got {value}"
                )
        if self.train_share + self.validation_share >= 1:
            raise ArgumentError(
                "--train-share and --validation-share must leave something to test, got "
                f"{self.train_share} and {self.validation_share}"
            )
        self.make_model()

    def make_model(self):
        from rnnjax.layers import GaussianHead
        from rnnjax.models import ManyToOne

        layer = applications.network(self.network, self.features, window=self.window)
        return ManyToOne(layer, GaussianHead())


class Anomaly(NamedTuple):
    """What was put in, and the steps `[start, end)` that are labelled."""

    kind: str
    start: int
    end: int


def inject(values, start, deviation, each, seed):
    """Return a copy of the values with anomalies from step `start` on, and what they are.

    The steps from `start` on are cut into equal parts, one for each anomaly; in which part a kind
    falls, where in it, the size and the sign are drawn.

    Args:
        values: `[T]`.
        start: first step that may change.
        deviation: the unit of the sizes.
        each: anomalies of each kind.
        seed: of the draw, the same for ever.

    Raises:
        ValueError: the steps are too few.
    """
    kinds = [KINDS[i % len(KINDS)] for i in batches.shuffled(each * len(KINDS), seed, 0)]
    room = (len(values) - start) // len(kinds)
    if room < 2 * STUCK:
        raise ValueError(
            f"{len(kinds)} anomalies need {2 * STUCK} steps each, there are {len(values) - start}"
        )
    drawn = np.random.PCG64((seed, 1)).random_raw((len(kinds), 3)) / 2.0**64
    changed, found = values.copy(), []
    for part, (kind, (where, size, sign)) in enumerate(zip(kinds, drawn, strict=True)):
        first = start + part * room + int(where * (room - STUCK))
        offset = deviation * (SIZES[0] + size * (SIZES[1] - SIZES[0])) * (1 if sign < 0.5 else -1)
        if kind == "spike":
            changed[first] += offset
            found.append(Anomaly(kind, first, first + 2))
        elif kind == "shift":
            changed[first:] += offset
            found.append(Anomaly(kind, first, first + 1))
        else:
            changed[first : first + STUCK] = changed[first - 1]
            found.append(Anomaly(kind, first, first + STUCK + 1))
    return changed, found


def quality(flagged, anomalies):
    """Return F1, precision over steps, recall over anomalies, and that of each kind.

    Args:
        flagged: for each copy, a set of steps.
        anomalies: for each copy, what was put in.
    """
    right = total = 0
    hits: dict[str, list[bool]] = {kind: [] for kind in KINDS}
    for steps, put_in in zip(flagged, anomalies, strict=True):
        labelled = {step for one in put_in for step in range(one.start, one.end)}
        right, total = right + len(steps & labelled), total + len(steps)
        for one in put_in:
            hits[one.kind].append(not steps.isdisjoint(range(one.start, one.end)))
    precision = right / total if total else 0.0
    recall = float(np.mean([hit for found in hits.values() for hit in found]))
    f1 = 2 * precision * recall / (precision + recall) if right else 0.0
    kinds = {kind: float(np.mean(found)) for kind, found in hits.items()}
    return {"f1": f1, "precision": precision, "recall": recall, "recall_of_kinds": kinds}


class Parts(NamedTuple):
    """A series cut in time. Step t of the changes is what leads to value t + 1."""

    values: Any  # [T], what is missing carried forward
    changes: Any  # [T - 1]
    scaling: series.Scaling  # of the changes, fitted on the training part
    train: Any  # origins: the changes to predict
    validation: Any
    test: Any


def cut(config, values):
    """Return the parts of a series.

    Changes to or from a value that is missing are not learned, nor used for the threshold.

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
    """Return what predictions read, `[N, W, 1]`, and are about, `[N, 1]`: scaled."""
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


def train(config, run, model, parts):
    import optax

    columns = questions(config, parts.changes, parts.scaling, parts.train)
    pipelines = experiment.shuffled_batches(config, columns)
    optimizer = optax.chain(
        optax.clip_by_global_norm(config.clip), optax.adam(config.learning_rate)
    )
    state = experiment.start(config, optimizer, functools.partial(initialise, config, model))
    step = make_train_step(model, optimizer)
    return experiment.fit(config, run, step, state, pipelines, label=config.network).params


def initialise(config, model, key):
    return model.init(key, jnp.zeros((1, config.window, 1)))["params"]


def network_rule(model, window, params, past, change):
    """Return scores -ln p, in nats, and the expected changes: `[C]` of `past [C, K]`, scaled."""
    outputs = model.apply({"params": params}, past[:, -window:, None])
    return model.head.loss(outputs, change[:, None]), model.head.mode(outputs)[:, 0]


def last_value_rule(past, change):
    """Return the size of each change as its score; none is expected."""
    return jnp.abs(change), jnp.zeros_like(past[:, 0])


def last_season_rule(season, past, change):
    """Return how far each change is from that a season before, which is expected."""
    return jnp.abs(change - past[:, -season]), past[:, -season]


def watch(rule, threshold, past, changes):
    """Return the scores `[C, N]` of changes that come one after the other; also what was expected.

    A change whose score is above the threshold is not read afterwards: what was expected stands in
    its place, so that an anomaly raises no alarm when it has passed. But no more than `REPLACED`
    changes in a row are: a rule that is often wrong must see what there is.

    Args:
        rule: `(past [C, K], change [C])` to scores and expected changes, `[C]`.
        threshold: infinite to replace nothing.
        past: the changes before the first, `[C, K]`.
        changes: `[C, N]`.
    """

    def step(carry, change):
        past, in_a_row = carry
        score, expected = rule(past, change)
        in_a_row = jnp.where(score > threshold, in_a_row + 1, 0)
        replaced = (in_a_row > 0) & (in_a_row <= REPLACED)
        read = jnp.where(replaced, expected, change)
        past = jnp.concatenate([past[:, 1:], read[:, None]], 1)
        return (past, in_a_row), (score, expected)

    start = past, jnp.zeros(len(past), jnp.int32)
    return jax.tree.map(jnp.transpose, jax.lax.scan(step, start, changes.T)[1])


def detect(rule, config, parts, changes, copies):
    """Return a rule's threshold, and its scores of the test steps of the copies, `[C, N]`.

    Args:
        rule: as for `watch`.
        changes: of the series as it is, `[T]`: its validation part gives the threshold.
        copies: changes `[C, T]`.
    """
    reach = max(config.window, SEASONS[config.series])

    def watched(threshold, changes, origins):
        first, last = origins[0], origins[-1]
        past, coming = changes[:, first - reach : first], changes[:, first : last + 1]
        return watch(rule, threshold, past, coming)[0][:, origins - first]

    quiet = watched(jnp.inf, jnp.asarray(changes)[None], parts.validation)
    threshold = jnp.quantile(quiet, config.quantile)
    return threshold, watched(threshold, jnp.asarray(copies), parts.test)


def above(scores, threshold, origins):
    """Return the steps of the values that each copy's scores flag, as sets; scores `[C, N]`."""
    return [{*(origins[row] + 1).tolist()} for row in np.asarray(scores) > threshold]


def simple_rules(config, parts, copies):
    """Return what the baselines flag in each copy, by name."""
    season = functools.partial(last_season_rule, SEASONS[config.series])
    found = {}
    for name, rule in {"last value": last_value_rule, "last season": season}.items():
        threshold, scores = detect(
            rule, config, parts, np.float32(parts.changes), np.float32(copies)
        )
        found[name] = above(scores, float(threshold), parts.test)
    return found | {"every step": [{*(parts.test + 1).tolist()}] * len(copies)}


def measure(config, run):
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
    params = train(config, run, model, parts)

    scaled = [
        parts.scaling.apply(own[..., None])[..., 0].astype(np.float32)
        for own in (parts.changes, changes)
    ]

    def detected(params):
        rule = functools.partial(network_rule, model, config.window, params)
        return detect(rule, config, parts, *scaled)

    thresholds, scores = training.over_population(detected)(params)
    found = [
        above(own, float(threshold), parts.test)
        for own, threshold in zip(scores, thresholds, strict=True)
    ]
    simple = simple_rules(config, parts, changes)
    quiet = questions(config, parts.changes, parts.scaling, parts.validation)
    probe = {name: jnp.asarray(column[:32]) for name, column in quiet.items()}
    profiles = experiment.log_gradients(
        model,
        params,
        lambda outputs: model.head.loss(outputs, probe["targets"]).sum(),
        probe["inputs"],
    )
    table = experiment.gradient_table(profiles)
    run.write_table("gradients", table)
    write_found(run, parts, dates, copies[0], anomalies[0], found[0][0], simple["last value"][0])
    kept = {name: value.tolist() for name, value in parts.scaling._asdict().items()}
    experiment.save(run, params, kept | {"threshold": float(thresholds[0])})
    results = [quality(own, anomalies) for own in found]
    return experiment.report(
        "F1",
        [result["f1"] for result in results],
        {name: quality(own, anomalies)["f1"] for name, own in simple.items()},
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
        details={
            "network": results,
            **{name: quality(own, anomalies) for name, own in simple.items()},
        },
    )


def write_found(run, parts, dates, values, anomalies, network, simple):
    """Write the table of the figure: a copy of the test part, and below it marks of steps."""
    steps = parts.test + 1
    labelled = {step for one in anomalies for step in range(one.start, one.end)}
    marks = {"put in": labelled, "network": network, "last value": simple}
    low, unit = values[steps].min(), np.ptp(values[steps]) / 16
    years = dates[steps].astype("datetime64[M]").astype(int) / 12 + 1970
    if len(np.unique(years)) < len(steps):  # weeks
        years = dates[steps].astype(int) / 365.25 + 1970
    lines = {"series": values[steps]}
    for row, (name, marked) in enumerate(marks.items(), 1):
        there = np.isin(steps, [*marked])
        lines[name] = np.where(there, low - row * unit, np.nan)
    table = [{"series": name, "year": years, "median": line} for name, line in lines.items()]
    run.write_table("found", table)


def draw(run):
    """Draw the figures of a run from its tables."""
    from rnnjax import figures

    applications.draw(run)
    figure = figures.curves(
        run.read_table("found"),
        x="year",
        series="series",
        names={"put in": "put in (marks below)", "network": "flagged by the network"}
        | {"last value": "flagged by the last value"},
        xlabel="year",
        ylabel=UNITS[run.read_json("config.json")["series"]],
    )
    run.save_figure("found", figure)


def answer(config, run, asked):
    """Yield a line for each step of a file that is flagged."""
    path = experiment.existing(asked, "a file of numbers")
    try:
        values = series.read_file(path).values
    except ValueError as error:
        raise ArgumentError(f"--predict: {error}") from None
    if len(values) < config.window + 2:
        raise ArgumentError(
            f"--predict needs at least {config.window + 2} values, {path} has {len(values)}"
        )
    kept = run.read_json("preprocessing.json")
    scaling = series.Scaling(np.array(kept["mean"]), np.array(kept["std"]))
    changes = scaling.apply(np.diff(values)[:, None])[None, :, 0].astype(np.float32)
    model: Any = config.make_model()
    init = functools.partial(initialise, config, model)
    params = experiment.restore(run, init, members=config.seeds)
    rule = functools.partial(network_rule, model, config.window, params)
    past, coming = changes[:, : config.window], jnp.asarray(changes[:, config.window :])
    scores, expected = (np.asarray(a)[0] for a in watch(rule, kept["threshold"], past, coming))
    foreseen = scaling.undo(expected[:, None].astype(np.float64))[:, 0]
    expected = values[config.window : -1] + foreseen
    places = np.flatnonzero(scores > kept["threshold"])
    first = config.window + 2  # counted from 1
    yield f"{len(places)} of the steps {first} to {len(values)} are anomalies; the first are read"
    for place in places:
        value = values[place + first - 1]
        yield f"step {place + first}: {value:.6g}, {expected[place]:.6g} was expected"


def run(config: Config) -> Any:
    """Run the application and return its summary, or the answers with `--predict`."""
    measured = functools.partial(measure, config)
    return applications.in_application("anomaly_detection", config, measured, answer, draw)


if __name__ == "__main__":
    main(Config, run)
