"""Psychometric functions against loops, SciPy and the ideal observer."""

import math

import jax
import numpy as np
import pytest
from scipy import optimize, stats

from rnnjax.tasks import trials
from rnnjax.tasks.trials import fit_logistic, psychometric


def observer(seed, count):
    """Choices of an ideal observer between two directions, and the signed coherence."""
    task = trials.PerceptualDecision(stimulus_ms=500)
    drawn = jax.jit(task.sample_trials, static_argnums=1)(jax.random.key(seed), count)
    choice, coherence = drawn.conditions
    evidence = np.asarray(drawn.batch.inputs)[..., 1:].sum(0)
    towards = np.where(np.asarray(choice) == 0, coherence, -coherence)
    return evidence[:, 0] > evidence[:, 1], towards


def test_an_ideal_observer_is_right_as_often_as_signal_detection_says():
    chosen, strengths = observer(0, 8192)
    table = psychometric(chosen, strengths)
    assert table.strengths.tolist() == sorted(set(strengths.tolist())) and len(table.counts) == 9
    expected = stats.norm.cdf(table.strengths / 100 * math.sqrt(5 * 100 / 2))
    error = np.sqrt(expected * (1 - expected) / table.counts)
    assert (np.abs(table.shares - expected) < 4.5 * error + 1e-3).all()
    assert table.counts.sum() == 8192

    curve = fit_logistic(chosen, strengths)
    assert abs(curve.threshold) < 0.5
    np.testing.assert_allclose(curve(table.strengths), expected, atol=0.02)


def test_the_table_is_a_loop_over_strengths():
    rng = np.random.default_rng(2)
    strengths, chosen = rng.integers(-3, 4, 99) / 7, rng.random(99) < 0.4
    table = psychometric(chosen, strengths)
    for value, count, share in zip(*table, strict=True):
        picked = [bool(c) for c, s in zip(chosen, strengths, strict=True) if s == value]
        assert count == len(picked) and share == pytest.approx(sum(picked) / count)


def test_the_curve_has_the_greatest_likelihood():
    rng = np.random.default_rng(7)
    strengths = rng.choice([-51.2, -6.4, -3.2, 0, 3.2, 6.4, 51.2], 700)
    chosen = rng.random(700) < stats.logistic.cdf(0.15 * (strengths - 2.5))
    curve = fit_logistic(chosen, strengths)

    def surprise(point):
        slope, threshold = point
        return -stats.logistic.logcdf(
            np.where(chosen, 1, -1) * slope * (strengths - threshold)
        ).sum()

    best = optimize.minimize(surprise, (0.1, 0.0), method="Nelder-Mead", options={"xatol": 1e-9})
    assert (curve.slope, curve.threshold) == pytest.approx(tuple(best.x), rel=1e-5, abs=1e-5)
    assert surprise((curve.slope, curve.threshold)) <= best.fun + 1e-9


@pytest.mark.parametrize("chosen", [[0, 0, 1, 1], [1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]])
def test_choices_that_a_threshold_separates_have_no_curve(chosen):
    with pytest.raises(ValueError, match="strengths must not separate the two choices"):
        fit_logistic(np.array(chosen, bool), np.array([-2.0, -1.0, 1.0, 2.0]))


def test_no_trials_are_refused():
    with pytest.raises(ValueError, match=r"one shape \[B\] with B > 0, got \(0,\) and \(0,\)"):
        psychometric(np.zeros(0, bool), np.zeros(0))
