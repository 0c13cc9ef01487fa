"""Trials on a grid of coherences, and psychometric tables against counting by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.experiment import add_psychometric_tables, coherence_trials
from rnnjax.tasks import trials

TASK = trials.ContextDecision(dt=50, stimulus_ms=200, delay_ms=0)


@pytest.mark.parametrize("context", [0, 1])
def test_each_relevant_coherence_comes_with_the_largest_other(context):
    found = coherence_trials(TASK, context)
    assert (found.start, found.end) == (6, 10)
    inputs, relevant = np.asarray(found.inputs), found.relevant
    np.testing.assert_array_equal(relevant, np.repeat([-50, -15, -5, 5, 15, 50], 2))
    stimulus = inputs[found.start : found.end]
    first, second = stimulus[..., 1] - stimulus[..., 2], stimulus[..., 3] - stimulus[..., 4]
    if context:
        first, second = second, first
    np.testing.assert_allclose(first, [relevant / 100] * 4, rtol=1e-6)
    np.testing.assert_allclose(second, [[-0.5, 0.5] * 6] * 4, rtol=1e-6)
    np.testing.assert_allclose(stimulus[..., 1:5].sum(-1), 2, rtol=1e-6)
    np.testing.assert_array_equal(inputs[:12, :, 5 + context], 1)
    np.testing.assert_array_equal(inputs[..., 6 - context], 0)
    cue_and_contexts = [1, *(0.5,) * 4, 1 - context, context]
    np.testing.assert_allclose(found.neutral, cue_and_contexts)


def test_shares_of_each_stimulus_are_those_of_its_context():
    drawn = dataclasses.replace(TASK, sigma=0).sample_trials(jax.random.key(0), 300)
    given = jax.tree.map(np.asarray, drawn.conditions)
    towards = [np.where(c == 0, 1, -1) for c in (given.choice_1, given.choice_2)]
    strengths = [towards[0] * given.coherence_1, towards[1] * given.coherence_2]
    always_motion = jax.nn.one_hot(1 + given.choice_1, 3)
    outputs = jnp.broadcast_to(always_motion, (*drawn.batch.mask.shape, 3))
    tables = {}
    add_psychometric_tables(tables, outputs, drawn, ("a", "b"), ("motion", "colour"))
    places = [(part["panel"], part["stimulus"]) for part in tables["psychometric"]]
    assert places == [("a", "motion"), ("a", "colour"), ("b", "motion"), ("b", "colour")]
    for part in tables["psychometric"]:
        here = given.context == "ab".index(part["panel"])
        strength = strengths[("motion", "colour").index(part["stimulus"])][here]
        for x, count, share in zip(part["strength"], part["count"], part["share"], strict=True):
            chosen = given.choice_1[here][strength == x] == 0
            assert (count, share) == (len(chosen), pytest.approx(chosen.mean()))
        if part["stimulus"] == "motion":
            np.testing.assert_array_equal(part["share"], part["strength"] > 0)
