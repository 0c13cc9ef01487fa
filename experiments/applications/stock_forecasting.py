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
"Efficient capital markets").

This file has more than 200 lines because the data are split and scaled anew for every test year,
and the two targets have different inputs and baselines.

    python experiments/applications/stock_forecasting.py --out runs/sp500
    python experiments/applications/stock_forecasting.py --out runs/sp500 --predict prices.csv
    python experiments/applications/stock_forecasting.py --target volatility
"""

import dataclasses
import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax import experiment, training
from rnnjax.command_line import ArgumentError, at_least
from rnnjax.datasets import series

SOURCES = {
    "sp500": "S&P 500",
    "nasdaq": "NASDAQ Composite",
    "wti": "West Texas Intermediate crude oil",
}
LEVEL_DECAY = 0.9
DECAYS = 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.94, 0.97, 0.99
METRICS = {"returns": "RMSE of log returns in percent", "volatility": "RMSE of log ranges"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(experiment.NetworkOptions):
    """Forecast the returns or the volatility of the next days, and compare with simple forecasts.

    Prints and writes summary.json: the error over the test years beside those of simple forecasts,
    and examples. Draws forecasts, and the gradient against the lag. Saves the trained networks of
    the last year for `--predict FILE.csv`. The default run takes about twenty seconds on two CPU
    cores.
    """

    series: Literal[tuple(SOURCES)] = "sp500"  # pyright: ignore[reportInvalidTypeForm]
    """Daily prices, of trading days."""
    target: Literal[tuple(METRICS)] = "returns"  # pyright: ignore[reportInvalidTypeForm]
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

    def make_model(self):
        from rnnjax.layers import LinearHead
        from rnnjax.models import ManyToOne

        return ManyToOne(self.make_layer(window=self.window), LinearHead(self.horizon))


def quantities(config, prices):
    """Return what is read, `[T - 1, D]`, of T days; the first column is what is forecast.

    Raises:
        ArgumentError: prices are not positive, or there are no low and high ones.
    """
    try:
        returns = series.log_returns(prices.values)
        if config.target == "returns":
            return returns[:, None]
        if not len(prices.low):
            raise ArgumentError("--target volatility needs low and high prices, there are none")
        return np.stack([series.log_ranges(prices.low, prices.high)[1:], returns], 1)
    except ValueError as error:
        raise ArgumentError(str(error)) from None


def scaling_of(values, fold):
    return series.Scaling.fit(values[: fold.start])  # the days before the test year


def questions(config, values, scaling, origins):
    """Return what forecasts read, `[N, W, D]`, and predict, `[N, H]`: scaled, minus their level.

    The levels, `[N, 1]`, are to be added to the forecasts.
    """
    scaled = scaling.apply(values).astype(np.float32)
    inputs = series.inputs(scaled, origins, config.window)
    levels = level(config, inputs)
    inputs[:, :, 0] -= levels
    targets = series.targets(scaled[:, 0], origins, config.horizon)
    return {"inputs": inputs, "targets": targets - levels, "levels": levels}


def level(config, windows):
    """Return the value from which the first column of each window is measured, `[N, 1]`.

    For volatility it is the exponential average of the window with decay `LEVEL_DECAY`, so that
    what was learned in volatile years also fits calm ones. For returns it is 0.
    """
    if config.target == "returns":
        return np.zeros((len(windows), 1), np.float32)
    weights = LEVEL_DECAY ** np.arange(config.window, dtype=np.float32)[::-1]
    return windows[:, :, 0] @ (weights / weights.sum())[:, None]


def simple_forecasts(config, values, fold):
    """Return the baselines' forecasts for each test origin, `[N]`: the same for all days ahead."""
    last, mean = values[fold.test - 1], np.full(len(fold.test), values[: fold.start].mean())
    if config.target == "returns":
        return {"no change": np.zeros(len(last)), "training mean": mean}

    def error(decay):
        ahead = series.targets(values, fold.train, config.horizon)
        return np.square(ahead - average(values, decay)[fold.train - 1, None]).mean()

    best = average(values, min(DECAYS, key=error))[fold.test - 1]
    return {"last value": last, "training mean": mean, "exponential average": best}


def average(values, decay):
    """Return a_t = decay a_{t-1} + (1 - decay) x_t, starting with a_0 = x_0."""
    from scipy.signal import lfilter

    return lfilter([1 - decay], [1, -decay], values, zi=[decay * values[0]])[0]


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
    columns = 1 if config.target == "returns" else 2
    return model.init(key, jnp.zeros((1, config.window, columns)))["params"]


def train(config, run, model, values, folds):
    """Return the parameters of all folds and seeds, `[F * S, ...]`, those of a fold together."""
    import optax

    examples = []
    for fold in folds:
        columns = questions(config, values, scaling_of(values, fold), fold.train)
        del columns["levels"]
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
    inputs, levels = [], []
    for fold in folds:
        padded = fold.test[np.minimum(np.arange(most), len(fold.test) - 1)]  # one shape for all
        columns = questions(config, values, scaling_of(values, fold), padded)
        inputs += [columns["inputs"]] * config.seeds
        levels += [columns["levels"]] * config.seeds
    ahead = training.over_population(lambda params, xs: model.apply({"params": params}, xs))
    outputs = np.asarray(ahead(params, np.stack(inputs)), np.float64) + np.stack(levels)
    outputs = outputs.reshape(len(folds), config.seeds, most, config.horizon)
    return [
        unscaled(own[:, : len(fold.test)], scaling_of(values, fold))
        for own, fold in zip(outputs, folds, strict=True)
    ]


def unscaled(outputs, scaling):
    return outputs * scaling.std[0] + scaling.mean[0]


def measure(config, run):
    prices = series.load(config.series)
    values, days = quantities(config, prices), prices.dates[1:]
    try:
        folds = series.walk_forward(days, config.years, config.window, config.horizon)
    except ValueError as error:
        raise ArgumentError(f"--years: {error}") from None
    model: Any = config.make_model()
    params = train(config, run, model, values, folds)
    forecasts = forecast(config, model, params, values, folds)

    last, scaling = folds[-1], scaling_of(values, folds[-1])
    params = jax.tree.map(lambda leaf: leaf[-config.seeds :], params)  # of the last fold
    probe = jax.tree.map(jnp.asarray, questions(config, values, scaling, last.test[:32]))

    def loss(outputs):
        return model.head.loss(outputs, probe["targets"]).sum()

    table = experiment.gradient_table(
        experiment.log_gradients(model, params, loss, probe["inputs"])
    )
    run.write_table("gradients", table)
    kept = {name: value.tolist() for name, value in scaling._asdict().items()}
    experiment.save(run, params, kept)
    more = {
        "network": config.network,
        "parameters": experiment.parameter_count(params),
        "gradient_reach": experiment.reach(table[0]),
    }
    return compare(config, run, days, values[:, 0], folds, forecasts, more)


def compare(config, run, days, values, folds, forecasts, more):
    """Write the table of forecasts and true values, and return the summary."""
    unit = 100 if config.target == "returns" else 1  # percent
    origins = np.concatenate([fold.test for fold in folds])
    true = unit * series.targets(values, origins, config.horizon)  # [N, H]
    ahead = unit * np.concatenate(forecasts, 1)  # [S, N, H]
    parts = [simple_forecasts(config, values, fold) for fold in folds]
    simple = {
        name: unit * np.concatenate([part[name] for part in parts])[:, None] for name in parts[0]
    }
    if config.target == "returns":  # of the next day
        rises = true[:, 0] > 0
        right = (ahead[:, :, 0] > 0) == rises
        more |= {"right_direction": right.mean(1).tolist(), "rising_days": float(rises.mean())}
    more["value_of_days_ahead"] = np.sqrt(np.square(ahead - true).mean((0, 1))).tolist()
    errors = {name: root_mean_square(line - true) for name, line in simple.items()}
    best = min(errors, key=lambda name: errors[name])
    lines = {"true value": true[:, 0], best: simple[best][:, 0], "network": ahead[0, :, 0]}
    shown = slice(-120, None)  # the last days
    part = {"day": origins[shown], "date": days[origins[shown]].astype(str)}
    table = [{"series": name, **part, "median": line[shown]} for name, line in lines.items()]
    run.write_table("forecasts", table)
    return experiment.report(
        METRICS[config.target],
        [root_mean_square(own - true) for own in ahead],
        errors,
        higher_is_better=False,
        source=f"{SOURCES[config.series]}, daily, test years {', '.join(map(str, config.years))} "
        "(from the package arch; demonstration scale)",
        examples=[
            {
                "forecast on": str(days[origins[row] - 1]),
                "of the next days": written(ahead[0, row]),
                "true values": written(true[row]),
            }
            for row in np.linspace(0, len(origins) - 1, 4).astype(int)
        ],
        **more,
    )


def root_mean_square(errors):
    return float(np.sqrt(np.square(errors).mean()))


def written(values):
    return " ".join(f"{value:.2f}" for value in values)


def verdict(config, summary):
    if config.target == "volatility":
        return experiment.beats_baseline(config, summary)
    condition = "the network does not beat the best baseline by more than the spread over seeds"
    found = experiment.Verdict.judge({condition: not summary["beats_baseline"]})
    return found.unless_quick(config, "steps", "seeds")


def draw(run):
    """Draw the figures of every application, and the forecasts of the last days."""
    from rnnjax import figures

    experiment.draw(run)
    target = run.read_json("config.json")["target"]
    figure = figures.curves(
        run.read_table("forecasts"),
        x="day",
        series="series",
        xlabel="trading day of the series",
        ylabel="log return in percent" if target == "returns" else "log range",
    )
    run.save_figure("forecasts", figure)


def answer(config, run, asked):
    """Yield the forecast of each day after those in a file, by a network of the last year."""
    prices = experiment.read_file(asked, "a CSV file of closing prices", series.read_file)
    if len(prices.values) <= config.window:
        raise ArgumentError(
            f"--predict needs at least {config.window + 1} days, {asked} has {len(prices.values)}"
        )
    kept = run.read_json("preprocessing.json")
    scaling = series.Scaling(np.array(kept["mean"]), np.array(kept["std"]))
    inputs = scaling.apply(quantities(config, prices))[None, -config.window :].astype(np.float32)
    levels = level(config, inputs)
    inputs[:, :, 0] -= levels
    model: Any = config.make_model()
    init = functools.partial(initialise, config, model)
    params = experiment.restore(run, init, members=config.seeds)
    ahead = unscaled((np.asarray(model.apply({"params": params}, inputs)) + levels)[0], scaling)
    price = prices.values[-1]
    for day, value in enumerate(ahead, 1):
        if config.target == "returns":
            price *= np.exp(value)
            yield f"day {day}: log return {100 * value:+.3f} %, price {price:.2f}"
        else:
            above = 100 * np.expm1(np.exp(value))
            yield f"day {day}: log range {value:.3f}, the high {above:.2f} % above the low"


run = experiment.Experiment(
    "stock_forecasting",
    Config,
    measure,
    verdict,
    draw,
    show=experiment.show_report,
    answer=answer,
)

if __name__ == "__main__":
    run.main()
