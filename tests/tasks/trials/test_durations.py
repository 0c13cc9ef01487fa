"""Durations: tables of steps against draws by NumPy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.tasks.trials import Choice, TruncatedExponential, Uniform
from rnnjax.tasks.trials.draws import index_at, one_of
from rnnjax.tasks.trials.durations import step_table, steps_at

MANY = 200_000


def truncated(rng, mean, low, high):
    drawn = rng.exponential(mean, 8 * MANY)
    return drawn[(low <= drawn) & (drawn < high)]


@pytest.mark.parametrize("dt", [20, 70, 100.0])
@pytest.mark.parametrize(
    ("duration", "draw"),
    [
        (Uniform(200, 500), lambda rng: rng.uniform(200, 500, MANY)),
        (Uniform(0, 1000.0), lambda rng: rng.uniform(0, 1000, MANY)),
        (Choice((200, 400, 600, 400)), lambda rng: rng.choice([200, 400, 600, 400], MANY)),
        (TruncatedExponential(600, 300, 3000), lambda rng: truncated(rng, 600, 300, 3000)),
        (TruncatedExponential(50, 130, 170), lambda rng: truncated(rng, 50, 130, 170)),
        (330, lambda rng: np.full(MANY, 330)),
    ],
    ids=lambda value: str(value).replace(" ", "") if not callable(value) else "draw",
)
def test_steps_have_the_odds_of_draws_by_numpy(duration, draw, dt):
    steps, odds = step_table(duration, dt)
    drawn = np.floor_divide(draw(np.random.default_rng(5)), dt).astype(int)
    assert steps.dtype == np.int32 and (np.diff(steps) > 0).all()
    assert odds.sum() == pytest.approx(1, abs=1e-12)
    counts = np.array([(drawn == k).sum() for k in steps])
    assert counts.sum() == len(drawn)
    expected = odds * len(drawn)
    square, freedom = ((counts - expected) ** 2 / expected).sum(), len(steps) - 1
    assert square <= freedom + 5 * math.sqrt(2 * freedom) + 1e-9


def test_a_quotient_is_not_rounded_down_by_its_own_rounding():
    assert step_table(0.3, 0.1)[0] == [3]  # .3 / .1 is 2.9999999999999996
    assert step_table(Choice((0.3, 0.6)), 0.1)[0].tolist() == [3, 6]


def test_quantiles_at_evenly_spaced_levels_have_the_odds_of_the_table():
    duration = TruncatedExponential(300, 100, 600)
    steps, odds = step_table(duration, 50)
    levels = np.float32((np.arange(7000) + 0.5) / 7000)
    drawn = jax.vmap(lambda level: steps_at(duration, 50, level))(levels)
    expected = steps[np.searchsorted(np.cumsum(odds)[:-1], levels, side="right")]
    assert drawn.dtype == jnp.int32
    assert (np.asarray(drawn) != expected).sum() <= len(steps)  # at the rounded edges alone
    shares = [(np.asarray(drawn) == k).mean() for k in steps]
    np.testing.assert_allclose(shares, odds, atol=2 / 7000)


def test_indices_and_values_at_levels():
    level = np.float32(1 - 2**-24)  # the largest below 1
    for count in (1, 2, 3, 7, 10, 51):
        assert int(index_at(count, jnp.float32(0))) == 0
        assert int(index_at(count, jnp.asarray(level))) == count - 1
    assert one_of((3, 5.5, 7), jnp.float32(0.5)) == 5.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Choice(()), r"values must hold at least one duration, got \(\)"),
        (lambda: Choice((100, -1)), "values must be a finite number of at least 0, got -1"),
        (lambda: Uniform(-1, 5), "low must be a finite number of at least 0, got -1"),
        (lambda: Uniform(5, 5), "high must be more than low = 5, got 5"),
        (lambda: Uniform(5, math.inf), "high must be a finite number of at least 0, got inf"),
        (lambda: TruncatedExponential(0, 1, 2), "mean must be positive, got 0"),
        (lambda: TruncatedExponential(5, 3, 2), "high must be more than low = 3, got 2"),
    ],
)
def test_wrong_durations_are_refused_in_a_sentence(make, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        make()
