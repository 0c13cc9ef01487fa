"""Stock forecasting: the returns or the volatility of the next days, from the days before.

Claim: past daily returns of a share index hold no useful information on the next ones, and a
recurrent network does not change that; but much of the volatility can be predicted. Many-to-one,
several steps ahead: the last state gives the forecasts of all the next days (direct forecasts).

Every test year is forecast by networks trained on the years before it alone, scaling included (walk
forward); all years and seeds are trained in one program. With `--target returns` the networks read
the log returns of closing prices in the window; the baselines are no change (the last price stays)
and the mean return of the training part. With `--target volatility` they forecast the log range
ln(ln(high / low)) of a day (Alizadeh, Brandt, Diebold 2002) from returns and log ranges, the latter
as distances from an exponential average of the window (a choice made on the years 2004 to 2013,
before those of the default test); the baselines are the last value, the mean of the training part,
and an exponential average whose decay fits that part best.

Metric: root mean squared error over all days ahead of all forecasts of all years.

Verdict: `reproduced` if the network beats the best baseline by more than the spread over seeds with
`--target volatility`, and if it does not with `--target returns`, as theory expects (Fama 1970,
"Efficient capital markets"); `quick run only` if --steps or --seeds is below its default.

This file has more than 200 lines because the data are split and scaled anew for every test year,
and the two targets have different inputs, baselines and verdicts.

    python experiments/applications/stock_forecasting.py --out runs/sp500
    python experiments/applications/stock_forecasting.py --out runs/sp500 --predict prices.csv
    python experiments/applications/stock_forecasting.py --target volatility
"""

import dataclasses
import functools
from typing import Any, Literal

from rnnjax import experiment, training
from rnnjax.command_line import ArgumentError, as_argument_error, at_least
from rnnjax.datasets import series
from rnnjax.datasets.series import PRICES
from rnnjax.experiment import show_report

import jax
import jax.numpy as jnp
import numpy as np

DECAYS = 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.94, 0.97, 0.99  # of the exponential average
TARGETS = {"returns": series.Returns(), "volatility": series.Volatility(decay=0.9, decays=DECAYS)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(experiment.NetworkOptions):
    """Forecast the returns or the volatility of the next days, and compare with simple forecasts.

    Prints and writes summary.json: the error over the test years beside those of simple forecasts,
    and examples. Draws forecasts, and the gradient against the lag. Saves the trained networks of
    the last year for `--predict FILE.csv`. The default run takes about twenty seconds on two CPU
    cores.
    """

    series: Literal[tuple(PRICES)] = "sp500"  # pyright: ignore[reportInvalidTypeForm]
    """Daily prices, of trading days."""
    target: Literal[tuple(TARGETS)] = "returns"  # pyright: ignore[reportInvalidTypeForm]
    """What to forecast; volatility needs low and high prices, which wti lacks."""
    years: tuple[int, ...] = (2014, 2015, 2016, 2017, 2018)
    """Test years; each is forecast by networks trained on everything before it."""
    window: int = 60
    """Days that a forecast reads."""
    horizon: int = 5
    """Days ahead to forecast."""
    network: str = "lstm"
    features: int = 16
    weight_decay: float = 0.0
    """Weight decay of Adam, decoupled from the gradient."""
    steps: int = 300
    batch_size: int = 64

    def __post_init__(self):
        super().__post_init__()
        at_least(1, self, "window", "horizon")
        at_least(0, self, "weight_decay")
        if not self.years or sorted(set(self.years)) != list(self.years):
            raise ArgumentError(f"--years must be years in rising order, got {self.years}")

    @property
    def quantity(self):
        """What is forecast."""
        return TARGETS[self.target]

    def make_model(self):
        from rnnjax.layers import LinearHead
        from rnnjax.models import ManyToOne

        return ManyToOne(self.make_layer(window=self.window), LinearHead(self.horizon))


def quantities(config, prices):
    """Return what is read, `[T - 1, D]`, of T days; the first column is what is forecast."""
    with as_argument_error(f"--target {config.target}"):
        return config.quantity.values(prices)


def questions(config, values, fold, origins):
    """Return what forecasts read and predict, scaled by the days before the test year."""
    sizes = config.window, config.horizon, config.quantity.decay
    return series.questions_at(values, fold.scaling(values), origins, *sizes)


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
    inputs = jnp.zeros((1, config.window, config.quantity.columns))
    return model.init(key, inputs)["params"]


def train(config, run, model, values, folds):
    """Return the parameters of all folds and seeds, `[F * S, ...]`, those of a fold together."""
    import optax

    examples = []
    for fold in folds:
        inputs, targets, _ = questions(config, values, fold, fold.train)
        columns = {"inputs": inputs, "targets": targets}
        examples += experiment.shuffled_batches(config, columns)
    adam = optax.adamw(config.learning_rate, weight_decay=config.weight_decay)
    optimizer = optax.chain(optax.clip_by_global_norm(config.clip), adam)
    state = experiment.start(config, optimizer, functools.partial(initialise, config, model))
    repeated = np.tile(np.arange(config.seeds), len(folds))  # folds start from the same networks
    return experiment.fit(
        config,
        run,
        make_train_step(model, optimizer),
        jax.tree.map(lambda leaf: leaf[repeated], state),
        examples,
        members=[f"{seed} before {fold.year}" for fold in folds for seed in config.members],
        label=config.network,
    ).params


def forecast(config, model, params, values, folds):
    """Return the forecasts of each fold for its test origins, `[S, N, H]`, unscaled."""
    most = max(len(fold.test) for fold in folds)
    asked = [questions(config, values, fold, fold.padded_test(most)) for fold in folds]
    inputs = np.repeat([one.inputs for one in asked], config.seeds, axis=0)  # [F * S, N, W, D]
    levels = np.repeat([one.levels for one in asked], config.seeds, axis=0)
    ahead = training.over_population(lambda params, xs: model.apply({"params": params}, xs))
    outputs = np.asarray(ahead(params, inputs), np.float64) + levels
    outputs = outputs.reshape(len(folds), config.seeds, most, config.horizon)
    return [
        fold.scaling(values).first.undo(own[:, : len(fold.test)])
        for own, fold in zip(outputs, folds, strict=True)
    ]


def measure(config, run):
    prices = series.load(config.series)
    values, days = quantities(config, prices), prices.dates[1:]
    with as_argument_error("--years"):
        folds = series.walk_forward(days, config.years, config.window, config.horizon)
    model: Any = config.make_model()
    params = train(config, run, model, values, folds)
    quantity, unit = config.quantity, config.quantity.unit
    ahead = unit * np.concatenate(forecast(config, model, params, values, folds), 1)  # [S, N, H]
    origins = np.concatenate([fold.test for fold in folds])
    true = unit * series.targets(values[:, 0], origins, config.horizon)  # [N, H]
    parts = [quantity.simple_forecasts(values[:, 0], fold, config.horizon) for fold in folds]
    simple = {name: unit * np.concatenate([part[name] for part in parts]) for name in parts[0]}
    errors = {name: series.root_mean_square(line[:, None] - true) for name, line in simple.items()}
    best = min(errors, key=lambda name: errors[name])
    lines = {"true value": true[:, 0], best: simple[best], "network": ahead[0, :, 0]}
    run.write_table("forecasts", series.last_days(lines, origins, days, 120))

    scaling = folds[-1].scaling(values)
    params = jax.tree.map(lambda leaf: leaf[-config.seeds :], params)  # of the last fold
    probe = questions(config, values, folds[-1], folds[-1].test[:32])
    table = experiment.loss_gradients(model, params, probe.targets, probe.inputs)
    run.write_table("gradients", table)
    experiment.save(run, params, scaling.as_lists())
    more = experiment.network_entries(config, params, table) | quantity.entries(ahead, true)
    more["value_of_days_ahead"] = np.sqrt(np.square(ahead - true).mean((0, 1))).tolist()
    years = ", ".join(map(str, config.years))
    return experiment.report(
        quantity.metric,
        [series.root_mean_square(own - true) for own in ahead],
        errors,
        higher_is_better=False,
        source=f"{PRICES[config.series]}, daily, test years {years} (from the package arch; "
        "demonstration scale)",
        examples=series.forecast_examples(ahead[0], true, origins, days, 4),
        **more,
    )


def verdict(config, summary):
    if config.target == "volatility":
        return experiment.beats_baseline(config, summary)
    condition = "the network does not beat the best baseline by more than the spread over seeds"
    found = experiment.Verdict.judge({condition: not summary["beats_baseline"]})
    return found.unless_quick(config, "steps", "seeds")


def draw(run):
    """Draw the figures of every application, and the forecasts of the last days."""
    experiment.draw(run)
    quantity = TARGETS[run.read_json("config.json")["target"]]
    experiment.draw_curves(
        run, "forecasts", "day", "series", xlabel="trading day of the series", ylabel=quantity.label
    )


def answer(config, run, asked):
    """Yield the forecast of each day after those in a file, by a network of the last year."""
    prices = experiment.read_file(asked, "a CSV file of closing prices", series.read_file)
    if len(prices.values) <= config.window:
        raise ArgumentError(
            f"--predict needs at least {config.window + 1} days, {asked} has {len(prices.values)}"
        )
    scaling = series.Scaling.from_lists(run.read_json("preprocessing.json"))
    values, decay = quantities(config, prices), config.quantity.decay
    inputs, levels = series.last_question(values, scaling, config.window, decay)
    model: Any = config.make_model()
    init = functools.partial(initialise, config, model)
    params = experiment.restore(run, init, members=config.seeds)
    outputs = np.asarray(model.apply({"params": params}, inputs)) + levels
    ahead = scaling.first.undo(outputs[0].astype(np.float64))
    yield from config.quantity.sentences(ahead, prices.values[-1])


run = experiment.Experiment(
    "stock_forecasting", Config, measure, verdict, draw, show=show_report, answer=answer
)

if __name__ == "__main__":
    run.main()
