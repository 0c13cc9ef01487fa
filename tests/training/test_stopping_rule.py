"""Training until the last sequences are right: counted as the paper counts, and resumed."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax import training
from rnnjax.runs import Run
from rnnjax.training import ResumableTraining, StoppingRule, TrainState


def first_met(rule, stream):
    """Return after how many of the judgements the rule is met first, or None."""

    def step(judged, one):
        judged = rule.judge(judged, *one)
        return judged, rule.met(judged)

    correct, errors = (np.array(column) for column in zip(*stream, strict=True))
    columns = jnp.asarray(correct, bool), jnp.asarray(errors, jnp.float32)
    met = np.asarray(jax.lax.scan(step, jax.tree.map(jnp.asarray, rule.start()), columns)[1])
    return int(met.argmax()) + 1 if met.any() else None


def by_hand(rule, stream):
    """The same, with a list of all judgements so far."""
    for n in range(rule.window, len(stream) + 1):
        last = stream[n - rule.window : n]
        small = np.mean([error for _, error in last]) < rule.mean_error
        if small and all(right for right, _ in last):
            return n
    return None


def test_the_window_counts_and_starts_anew_after_every_wrong_sequence():
    rule = StoppingRule(0.1, window=2000)
    right, wrong = (True, 0.05), (False, 0.35)
    assert first_met(rule, [right] * 2500) == 2000
    assert first_met(rule, [right] * 1999) is None
    assert first_met(rule, [wrong, *[right] * 2500]) == 2001
    assert first_met(rule, [right] * 1999 + [wrong] + [right] * 2100) == 4000
    places = 7, 1500, 3499, 5000  # of wrong sequences, counted from 1
    stream = [wrong if k in places else right for k in range(1, 8001)]
    assert first_met(rule, stream) == 7000 == by_hand(rule, stream)


def test_the_mean_error_of_the_window_decides_too():
    rule = StoppingRule(0.1, window=4)
    assert first_met(rule, [(True, 0.1)] * 9) is None  # below, not at
    stream = [(True, e) for e in (0.5, 0.0, 0.0, 0.0, 0.25, 0.0, 0.125, 0.0)]
    assert [np.mean([e for _, e in stream[n - 4 : n]]) for n in range(4, 9)] == [
        *(0.125, 0.0625, 0.0625, 0.09375, 0.09375)
    ]
    assert first_met(rule, stream) == 5
    # A large error leaves nothing behind: a sum that is carried along would keep a rounding error.
    stream = [(True, 1e8), *[(True, 0.01)] * 4]
    judged = rule.start()
    for one in stream:
        judged = rule.judge(judged, *map(jnp.asarray, one))
    assert rule.recent(judged)["error"] == np.float32(0.01)
    assert judged.count == 5 and rule.met(judged)


@pytest.mark.parametrize("seed", range(3))
def test_random_judgements_are_counted_as_by_hand(seed):
    generator = np.random.default_rng(seed)
    rule = StoppingRule(0.25, window=3 + seed)
    errors = np.round(generator.uniform(0, 0.5, 400) * 1024) / 1024  # sums are exact
    right = generator.uniform(size=400) < 0.8
    stream = list(zip(right.tolist(), errors.tolist(), strict=True))
    assert first_met(rule, stream) == by_hand(rule, stream) is not None


def test_recent_judgements_before_the_window_is_full_and_of_a_population():
    rule = StoppingRule(0.1, window=4)
    judged = rule.start(members=2)
    assert [leaf.shape for leaf in judged] == [(2,), (2, 4), (2, 4)]
    assert {key: of.tolist() for key, of in rule.recent(judged).items()} == {
        "correct": [0.0, 0.0],
        "error": [0.0, 0.0],
    }
    judge = jax.vmap(rule.judge)
    for right, error in (([True, False], [0.5, 0.25]), ([True, True], [0.25, 0.0])):
        judged = judge(judged, jnp.array(right), jnp.array(error, jnp.float32))
    found = rule.recent(judged)
    assert found["correct"].tolist() == [1.0, 0.5] and found["error"].tolist() == [0.375, 0.125]
    assert rule.met(judged).tolist() == [False, False]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.1, 0), "window must be at least 1, got 0"),
        ((0.0,), "mean_error must be positive, got 0.0"),
        ((float("nan"),), "mean_error must be positive, got nan"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        StoppingRule(*arguments)


# --- a training that ends when all members have met their rule ----------------------------------


@dataclasses.dataclass(frozen=True)
class Config:
    steps: int = 20


def step(state, word):
    """Member m is right from step `settings` on; integers, so that every update shows."""
    rule, done = StoppingRule(0.5, window=2), state.step + 1

    def update(state):
        right = done >= state.settings["right"]
        judged = rule.judge(state.stream, right, jnp.float32(0))
        return state._replace(params=state.params * np.uint32(1664525) + word, stream=judged)

    state = jax.lax.cond(rule.met(state.stream), lambda state: state, update, state)
    loss = jnp.where(done == state.settings["stop"], jnp.inf, 1.0)
    return state._replace(step=done), {"loss": loss}


def train(path, right, stop=(0, 0, 0), observe=lambda state: state.params):
    rule = StoppingRule(0.5, window=2)
    settings = {"right": jnp.array(right), "stop": jnp.array(stop)}
    keys = jax.random.split(jax.random.key(0), 3)
    params = jnp.arange(3, dtype=jnp.uint32)
    state = TrainState(params, (), jnp.zeros(3, jnp.int32), keys, settings, rule.start(3))
    run = Run.resume_or_create(path, Config(), ignoring=())
    return ResumableTraining(run, {"cell": "x"}, (0, 1, 2), 1, 3).train_on_samples(
        step,
        state,
        lambda key: jax.random.key_data(key)[0],
        steps=20,
        chunk_size=4,
        observe=observe,
        until=lambda state: rule.met(state.stream),
    )


def test_training_ends_when_all_members_have_met_their_rule(tmp_path):
    found = train(tmp_path / "run", right=(1, 4, 6))
    assert found.state.stream.count.tolist() == [2, 5, 7]
    assert [chunk.step for chunk in found.chunks] == [4, 8] and found.state.step.tolist() == [8] * 3
    longer = train(tmp_path / "other", right=(1, 4, 30))
    assert longer.state.step.tolist() == [20] * 3
    assert longer.state.params[:2].tolist() == found.state.params[:2].tolist()  # unchanged since


def test_a_member_that_stopped_for_its_loss_is_not_waited_for(tmp_path, capfd):
    found = train(tmp_path / "run", right=(1, 4, 30), stop=(0, 0, 7))
    assert found.state.step.tolist() == [8, 8, 6]
    assert "member 2" in capfd.readouterr().err
    with pytest.raises(training.NonFiniteError):
        train(tmp_path / "all", right=(30, 30, 30), stop=(3, 2, 4))


def test_it_resumes_to_the_same_end_and_stays_there(tmp_path):
    whole = train(tmp_path / "whole", right=(1, 4, 6))
    calls = []

    def fails(state):
        calls.append(state)
        if len(calls) == 3:  # before training, after 4 steps, and now, with a checkpoint at 6
            raise KeyboardInterrupt
        return state.params

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", right=(1, 4, 6), observe=fails)
    for _ in range(2):  # resumed; and finished, when nothing is left to do
        found = train(tmp_path / "run", right=(1, 4, 6))
        assert found.state.step.tolist() == [8] * 3
        for ours, theirs in zip(found.state[:2], whole.state[:2], strict=True):
            assert np.asarray(ours).tolist() == np.asarray(theirs).tolist()
        assert len(found.chunks) == 2
    read = [(tmp_path / place / "metrics.jsonl").read_bytes() for place in ("run", "whole")]
    assert read[0] == read[1]
