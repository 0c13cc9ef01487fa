"""Stock forecasting: simple forecasts by hand, no look-ahead, and the same answers afterwards."""

import dataclasses
import json

import numpy as np
import pytest
from scripts import ROOT, load

from rnnjax.datasets import series
from rnnjax.runs import Run

pytestmark = pytest.mark.slow
application = load(ROOT / "experiments" / "applications" / "stock_forecasting.py")
TINY = application.Config(
    years=(2017, 2018), window=8, horizon=3, features=4, steps=4, record_every=2, seeds=2
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("tiny") / "run"
    return out, application.run(dataclasses.replace(TINY, out=out))


@pytest.fixture(scope="module")
def prices():
    return series.load("sp500")


def test_the_summary_has_its_metric_its_baselines_and_its_source(finished, prices):
    """The baselines by a loop over days."""
    out, summary = finished
    assert json.loads((out / "summary.json").read_text()) == summary
    assert summary["verdict"]["outcome"] == "quick run only"
    assert "percent" in summary["metric"] and not summary["higher_is_better"]
    assert len(summary["values"]) == 2 and "demonstration scale" in summary["source"]
    days = prices.dates.astype(str).tolist()
    steps = zip(days[1:], prices.values[:-1], prices.values[1:], strict=True)
    returns = {day: 100 * np.log(after / before) for day, before, after in steps}
    squares = {"no change": [], "training mean": []}
    for year in (2017, 2018):
        within = [d for d in returns if d.startswith(str(year))]
        mean = np.mean([r for d, r in returns.items() if d < str(year)])
        for first in range(len(within) - 2):
            for day in within[first : first + 3]:
                squares["no change"].append(returns[day] ** 2)
                squares["training mean"].append((returns[day] - mean) ** 2)
    for name, errors in squares.items():
        np.testing.assert_allclose(summary["baselines"][name], np.mean(errors) ** 0.5, rtol=1e-9)
    rising = [r > 0 for y in (2017, 2018) for r in of_year(returns, y)[:-2]]
    np.testing.assert_allclose(summary["rising_days"], np.mean(rising))
    for name in ("gradients", "training", "forecasts"):
        assert (out / f"{name}.png").stat().st_size > 1000


def of_year(returns, year):
    return [r for day, r in returns.items() if day.startswith(str(year))]


def test_the_table_has_the_last_forecasts_beside_what_came(finished, prices):
    out, summary = finished
    table = Run(out).read_table("forecasts")
    rows = {n: table["median"][table["series"] == n] for n in ("true value", "network")}
    returns = 100 * np.diff(np.log(prices.values))
    np.testing.assert_allclose(rows["true value"], returns[-122:-2], rtol=1e-9)  # 3 days ahead
    assert len(rows["network"]) == 120 and np.std(rows["network"]) > 0

    def mean_square(values):
        return np.mean(np.square(values))

    by_day = mean_square(summary["value_of_days_ahead"])
    np.testing.assert_allclose(by_day, mean_square(summary["values"]), rtol=1e-9)


def test_the_scaling_is_that_of_what_lies_before_the_last_year(finished, prices):
    kept = json.loads((finished[0] / "preprocessing.json").read_text())
    before = np.diff(np.log(prices.values[prices.dates < np.datetime64("2018-01-01")]))
    np.testing.assert_allclose(kept["mean"], [before.mean()], rtol=1e-12)
    np.testing.assert_allclose(kept["std"], [before.std()], rtol=1e-12)


@pytest.mark.parametrize("target", ["returns", "volatility"])
def test_what_comes_changes_no_forecast_made_before(target, prices, tmp_path):
    """Of the network, trained anew, and of the simple rules."""
    config = dataclasses.replace(TINY, target=target, seeds=1, steps=2)
    model = config.make_model()
    folds = series.walk_forward(prices.dates[1:], config.years, config.window, config.horizon)
    origin = folds[1].test[20]

    def forecasts(prices, place):
        values = application.quantities(config, prices)
        params = application.train(
            config, Run.create(tmp_path / place, config), model, values, folds
        )
        return (
            application.forecast(config, model, params, values, folds),
            [config.quantity.simple_forecasts(values[:, 0], fold, 3) for fold in folds],
        )

    drawn = np.random.default_rng(0).uniform(0.5, 2, len(prices.values) - origin - 1)
    changed = [column.copy() for column in prices[1:]]
    for column in changed:  # return o is known with price o + 1
        column[origin + 1 :] *= drawn
    changed[2][origin + 1 :] *= 1.5  # the high, so that ranges change too
    (ours, simple), (theirs, others) = (
        forecasts(prices, "a"),
        forecasts(prices._replace(values=changed[0], low=changed[1], high=changed[2]), "b"),
    )
    np.testing.assert_array_equal(ours[0], theirs[0])
    np.testing.assert_array_equal(ours[1][:, :21], theirs[1][:, :21])
    assert np.all(ours[1][:, 21] != theirs[1][:, 21])
    for name in simple[0]:
        np.testing.assert_array_equal(simple[0][name], others[0][name])
        np.testing.assert_array_equal(simple[1][name][:21], others[1][name][:21])


def test_it_answers_about_a_file_as_in_the_test(finished, prices, tmp_path):
    out, _ = finished
    table = Run(out).read_table("forecasts")
    rows = table["series"] == "network"
    for day, expected in list(zip(table["day"][rows], table["median"][rows], strict=True))[::60]:
        lines = map(repr, prices.values[: int(day) + 1].tolist())
        (tmp_path / "prices.csv").write_text("\n".join(lines))
        asked = dataclasses.replace(TINY, out=out, predict=str(tmp_path / "prices.csv"))
        answers = application.run(asked)
        assert [a.split(":")[0] for a in answers] == ["day 1", "day 2", "day 3"]
        assert answers[0].split()[4] == f"{expected:+.3f}"


def test_prices_that_never_change_have_a_forecast(finished, tmp_path):
    (tmp_path / "flat.csv").write_text("Close\n" + "7\n" * 9)
    answers = application.run(
        dataclasses.replace(TINY, out=finished[0], predict=str(tmp_path / "flat.csv"))
    )
    assert len(answers) == 3 and "nan" not in "".join(answers)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("7\n" * 8, ("at least 9 days", "has 8")),
        ("7\nnan\n" * 9, ("line 2", "finite number", "'nan'")),
        ("7\n0\n" * 9, ("prices must be positive, got 0",)),
        ("Date,Open\n1,2\n", ("header with Close or Value",)),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(text, words, finished, tmp_path, refuses):
    (tmp_path / "f.csv").write_text(text)
    refuses(application, f"--out {finished[0]} --predict {tmp_path / 'f.csv'}", words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--series gold", ("--series", "gold", "nasdaq")),
        ("--years 2018 2017", ("--years", "rising order", "2018, 2017")),
        ("--years 1999", ("--years", "1999", "65 steps before it")),
        ("--years 2018 2019", ("--years", "2019", "within it")),
        ("--series wti --target volatility", ("--target volatility", "low and high")),
        ("--batch-size 5000", ("--batch-size", "at most", "5000")),
        ("--window 0", ("--window", "at least 1")),
        ("--weight-decay -1", ("--weight-decay", "at least 0")),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, words, refuses):
    refuses(application, arguments, words)


def test_without_the_package_one_line_names_the_extra(tmp_path, monkeypatch, refuses):
    monkeypatch.setenv("RNNJAX_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("rnnjax.datasets.builders.importlib.util.find_spec", lambda *_: None)
    refuses(application, "--steps 1", ("arch", "rnnjax[series]"))


@pytest.mark.parametrize(
    ("target", "beats", "outcome"),
    [
        ("returns", False, "reproduced"),
        ("returns", True, "not reproduced"),
        ("volatility", True, "reproduced"),
        ("volatility", False, "not reproduced"),
    ],
)
def test_the_verdict_on_returns_is_that_nothing_beats_the_baseline(target, beats, outcome):
    config = application.Config(target=target)
    assert application.verdict(config, {"beats_baseline": beats}).outcome == outcome
    for option in ({"steps": 299}, {"seeds": 2}):
        quick = application.verdict(
            dataclasses.replace(config, **option), {"beats_baseline": beats}
        )
        assert quick.outcome == "quick run only"
