"""A training that was stopped in any way resumes: every bit is that of an uninterrupted one."""

import dataclasses
import functools
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from moments import moments

from rnnjax import checkpoint, training
from rnnjax.runs import Run
from rnnjax.training import (
    NonFiniteError,
    ResumableTraining,
    ResumeError,
    TerminatedError,
    TrainState,
    history,
    platforms,
    resumable,
)
from rnnjax.training import stopped as stopped_members

STEPS, CHUNK, MEMBERS = 12, 5, (7, 8, 9)
STOPS = 0, 7, 0  # the step at which the loss of each member becomes infinite; 0: never


@dataclasses.dataclass(frozen=True)
class Config:
    steps: int = STEPS


@pytest.fixture(autouse=True)
def compiled_once(monkeypatch):
    cached = functools.cache(resumable.prepare_samples)
    monkeypatch.setattr(resumable, "prepare_samples", cached)


# Integer arithmetic: one word that is wrong, missing or used twice changes all that follow.


def step(state, word):
    new = state.params["word"] * np.uint32(1664525) + word
    done = state.step + 1
    loss = jnp.where(done == state.params["stop"], jnp.inf, (new >> 16).astype(jnp.float32))
    state = state._replace(params={**state.params, "word": new}, step=done)
    return state, {"loss": loss, "low": new & 255, "half": (new >> 24).astype(jnp.bfloat16)}


def sample(key):
    first, second = jax.random.key_data(key)
    return first ^ second


def start(stops=(0, 0, 0)):
    params = {"word": jnp.arange(3, dtype=jnp.uint32), "stop": jnp.array(stops, jnp.int32)}
    return TrainState(params, (), jnp.zeros(3, jnp.int32), jax.random.split(jax.random.key(0), 3))


def observe(state):
    return {"word": state.params["word"], "half": state.params["word"].astype(jnp.bfloat16)}


def generators():
    return [(np.uint32(977 * i + seed) for i in range(STEPS)) for seed in range(3)]


def pipelines():
    reading = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
    rows = (grain.MapDataset.range(99).shuffle(seed=seed).map(np.uint32) for seed in range(3))
    return [each.to_iter_dataset(reading) for each in rows]


def train(place, batches=None, *, stops=STOPS, every=4, observe: Any = observe, **labels):
    """Train in a run, or in its directory, for the first time or resuming."""
    run = place if isinstance(place, Run) else Run.resume_or_create(place, Config(), ignoring=())
    resumable_training = ResumableTraining(run, labels or {"cell": "x"}, MEMBERS, 2, every)
    options: Any = {"steps": STEPS, "chunk_size": CHUNK, "observe": observe}
    if batches is None:
        return resumable_training.train_on_samples(step, start(stops), sample, **options)
    return resumable_training.train_on_batches(step, start(stops), batches(), **options)


def words(tree):
    """The leaves as types, shapes and bytes; typed keys as their integers."""

    def plain(leaf):
        typed = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        leaf = np.asarray(jax.random.key_data(leaf) if typed else leaf)
        return leaf.dtype, leaf.shape, leaf.tobytes()

    return [plain(leaf) for leaf in jax.tree.leaves(tree)]


def outputs(path, trained):
    """Everything that a training returns and writes."""
    chunks = [(c.first_step, c.step, c.metrics, c.counts, c.observed) for c in trained.chunks]
    return {
        "state": words((trained.state, trained.before)),
        "chunks": words(chunks),
        "stops": repr([chunk.stops for chunk in trained.chunks]),
        **files(path),
    }


def files(path):
    one = jax.tree.map(lambda a: a[0], stopped_members.key_words(start()))
    kept = {p.name: words(checkpoint.load(p, one)) for p in sorted(path.glob("stopped/*"))}
    rows = {p.name: p.read_bytes() for p in path.glob("*.jsonl") if p.name != "times.jsonl"}
    return {**kept, **rows}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The outputs of uninterrupted trainings, by batches and stops."""

    @functools.cache
    def uninterrupted(batches=None, stops=STOPS):
        path = tmp_path_factory.mktemp("whole") / "run"
        return outputs(path, train(path, batches, stops=stops))

    return uninterrupted


class StoppedError(Exception):
    """Raised by tests, in the middle of something."""


def fails(function, calls, error: Any = StoppedError):
    """The function, which fails from its call number `calls` on, counted from 0."""
    left = [calls]

    def failing(*args, **options):
        left[0] -= 1
        if left[0] < 0:
            raise error
        return function(*args, **options)

    return failing


# --- uninterrupted trainings ------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("every", [1, 4, 5, 100])
def test_resumable_training_equals_the_loop_for_every_checkpoint_interval(every, tmp_path, whole):
    trained = train(tmp_path / "run", every=every)
    want = list(
        training.train_on_samples(step, start(STOPS), sample, steps=STEPS, chunk_size=CHUNK)
    )
    assert words(trained.state) == words(want[-1].state)
    assert words(trained.before) == words(observe(start(STOPS)))
    for record, chunk in zip(trained.chunks, want, strict=True):
        assert (record.first_step, record.step) == (chunk.first_step, chunk.step)
        assert words((record.metrics, record.counts)) == words((chunk.metrics, chunk.counts))
        assert words(record.observed) == words(observe(chunk.state))
        assert record.stops == chunk.stops
    assert outputs(tmp_path / "run", trained) == whole()


@pytest.mark.slow
def test_the_checkpoint_interval_does_not_change_any_float(tmp_path):
    """The same for a network: a chunk of another length is another program."""
    optimizer = optax.adam(0.1)

    def loss_fn(params, x):
        for _ in range(3):
            x = jnp.tanh(x @ params)
        return jnp.mean(x**2)

    def step(state, x):
        loss, gradient = jax.value_and_grad(loss_fn)(state.params, x)
        updates, opt_state = optimizer.update(gradient, state.opt_state)
        params = optax.apply_updates(state.params, updates)
        return TrainState(params, opt_state, state.step + 1, state.key), {"loss": loss}

    def trained(every):
        keys = jax.random.split(jax.random.key(0), 2)
        params = jnp.stack([jax.random.normal(key, (5, 5)) for key in keys])
        state = TrainState(params, jax.vmap(optimizer.init)(params), jnp.zeros(2, int), keys)
        rows = np.random.default_rng(0).normal(size=(2, 6, 4, 5)).astype(np.float32)
        resumable_training = ResumableTraining(
            Run.create(tmp_path / str(every), Config()), {}, (0, 1), 1, every
        )
        done = resumable_training.train_on_batches(
            step, state, [iter(r) for r in rows], steps=6, chunk_size=5
        )
        return words((done.state, [c.metrics for c in done.chunks]))

    assert trained(1) == trained(2) == trained(9)


# --- interrupted and resumed ------------------------------------------------------------------


@pytest.mark.slow
def test_killed_at_any_moment_it_resumes(tmp_path, whole, capfd):
    with moments(tmp_path / "run", tmp_path) as left:
        train(tmp_path / "run")
    capfd.readouterr()  # a member stopped
    seen = set()
    for copy in left[::2]:
        state = frozenset(
            (str(p.relative_to(copy)), p.read_bytes() if p.suffix != ".jsonl" else p.stat().st_size)
            for p in copy.rglob("*")
            if p.is_file() and "tmp" not in str(p.relative_to(copy)) and p.name != "times.jsonl"
        )
        if state not in seen:  # most changes are within Orbax's temporary directories
            seen.add(state)
            assert outputs(copy, train(copy)) == whole(), copy.name
            assert not (copy / "training" / "x" / "damaged").exists()
        shutil.rmtree(copy)
    assert len(seen) > 15


WRITES = {
    "append": (Run, 6),
    "write_arrays": (history, 5),
    "save": (checkpoint.Checkpoints, 3),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITES)
def test_when_any_write_fails_it_resumes(name, tmp_path, whole, monkeypatch):
    where, least = WRITES[name]
    function, calls, path = getattr(where, name), 0, tmp_path / "0"
    full = OSError(28, "No space left on device")
    while True:
        monkeypatch.setattr(where, name, fails(function, calls, full))
        try:
            trained = train(path)
        except OSError as error:
            assert error is full
            monkeypatch.setattr(where, name, function)
            assert outputs(path, train(path)) == whole()
            calls, path = calls + 1, tmp_path / str(calls + 1)
        else:
            break
    assert outputs(path, trained) == whole() and calls >= least


@pytest.mark.slow
@pytest.mark.parametrize(
    ("calls", "batches"), [(0, None), (1, None), (2, pipelines), (2, generators), (3, None)]
)
def test_an_error_in_what_is_observed(calls, batches, tmp_path, whole):
    with pytest.raises(StoppedError):
        train(tmp_path / "run", batches, observe=fails(observe, calls))
    assert outputs(tmp_path / "run", train(tmp_path / "run", batches)) == whole(batches)


@pytest.mark.slow
def test_an_error_in_the_batches(tmp_path, whole):
    def breaking():
        *others, last = generators()
        return [*others, map(fails(lambda word: word, 9), last)]

    with pytest.raises(StoppedError):
        train(tmp_path / "run", breaking)
    assert outputs(tmp_path / "run", train(tmp_path / "run", generators)) == whole(generators)


@pytest.mark.slow
def test_a_data_file_that_is_unreadable_for_a_while_damages_no_checkpoint(tmp_path, whole):
    path = tmp_path / "run"
    with pytest.raises(StoppedError):
        train(path, generators, observe=fails(observe, 3))

    def unreadable():
        *others, last = generators()
        return [*others, map(fails(lambda word: word, 2, OSError("no such disk")), last)]

    with pytest.raises(OSError, match="no such disk"):
        train(path, unreadable)
    assert not (path / "training" / "x" / "damaged").exists()
    assert outputs(path, train(path, generators)) == whole(generators)


@pytest.mark.slow
@pytest.mark.parametrize("every", [1, 3, 100])
def test_it_resumes_with_other_intervals(every, stopped, whole):
    assert outputs(stopped, train(stopped, every=every)) == whole()


@pytest.fixture(scope="module")
def stopped_once(tmp_path_factory):
    path = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.raises(StoppedError):
        train(path, observe=fails(observe, 2))
    return path


@pytest.fixture
def stopped(stopped_once, tmp_path):
    """A training that stopped after 10 of 12 steps: there are checkpoints 4 and 8 of 12."""
    path = Path(shutil.copytree(stopped_once, tmp_path / "stopped"))
    assert {p.name for p in path.glob("training/x/steps/*")} == {"4", "8"}
    return path


def test_it_may_be_stopped_repeatedly(stopped, whole):
    for _ in range(3):
        with pytest.raises(StoppedError):
            train(stopped, observe=fails(observe, 1))
    assert outputs(stopped, train(stopped)) == whole()
    assert outputs(stopped, train(stopped)) == whole()  # finished: it returns the same


@pytest.mark.slow
def test_several_trainings_of_a_run_stopped_in_the_second(tmp_path):
    def both(path, observe=observe):
        """Two whose labels are alike but for a sign."""
        run = Run.resume_or_create(path, Config(), ignoring=())
        first = train(run, rate="1e-05")
        second = train(run, rate="1e+05", stops=(3, 0, 0), observe=observe)
        return outputs(path, first), outputs(path, second)

    want = both(tmp_path / "whole")
    assert [want[0]["metrics.jsonl"].count(rate) for rate in (b"1e-05", b"1e+05")] == [15, 13]
    with pytest.raises(StoppedError):
        both(tmp_path / "run", fails(observe, 2))
    assert both(tmp_path / "run") == want
    assert len({p.name for p in (tmp_path / "run" / "training").iterdir()}) == 2


@pytest.mark.slow
@pytest.mark.parametrize("calls", [1, 2, 3])
def test_sigterm_saves_a_checkpoint(calls, tmp_path, whole):
    """In the middle, and after the last step."""
    path, before = tmp_path / "run", signal.getsignal(signal.SIGTERM)
    left = [calls]

    def terminated(state):
        left[0] -= 1
        if left[0] == -1:
            os.kill(os.getpid(), signal.SIGTERM)
        return observe(state)

    with pytest.raises(TerminatedError, match=r"^x: terminated after step \d+ of 12$") as caught:
        train(path, observe=terminated)
    assert signal.getsignal(signal.SIGTERM) == before
    after = int(str(caught.value).split()[4])
    assert after == {1: 8, 2: 12, 3: 12}[calls]
    assert (path / "training" / "x" / "steps" / str(after)).exists()
    assert outputs(path, train(path)) == whole()


# --- members that stop ------------------------------------------------------------------------


def test_members_stop_alone_before_and_after_an_interruption(tmp_path, capfd, whole):
    stops = 3, 11, 0
    want = whole(stops=stops)
    assert want["stopped.jsonl"].count(b"\n") == 2 and {"x-7", "x-8"} <= want.keys()
    with pytest.raises(StoppedError):
        train(tmp_path / "run", stops=stops, observe=fails(observe, 2))
    capfd.readouterr()
    trained = train(tmp_path / "run", stops=stops)
    assert outputs(tmp_path / "run", trained) == want
    assert capfd.readouterr().err.count("member 1") == 1  # the first was reported before
    steps = trained.state.step
    assert steps.tolist() == [2, 10, 12]
    assert np.isnan(trained.chunks[-1].metrics["half"][0, 1].astype(float))


def test_when_all_members_have_stopped_it_raises_each_time(tmp_path):
    path, stops = tmp_path / "run", (6, 11, 10)
    for _ in range(3):
        with pytest.raises(NonFiniteError, match=r"x: loss became inf at step 6 \(member 0\)"):
            train(path, stops=stops)
    rows = Run(path).read_rows("stopped.jsonl")
    assert [(row["seed"], row["step"]) for row in rows] == [(7, 6), (9, 10), (8, 11)]
    steps = [(row["seed"], row["step"]) for row in Run(path).read_rows("metrics.jsonl")]
    assert {s: max(t for seed, t in steps if seed == s) for s in MEMBERS} == {7: 4, 8: 10, 9: 8}


# --- damage -----------------------------------------------------------------------------------


def test_a_damaged_checkpoint_is_quarantined_and_the_previous_one_used(stopped, whole, capfd):
    (file,) = (stopped / "training/x/steps/8").glob("tree/_METADATA")
    file.write_bytes(file.read_bytes()[:-9])
    assert outputs(stopped, train(stopped)) == whole()
    assert [p.name for p in (stopped / "training/x/damaged").iterdir()] == ["8"]


def test_without_checkpoints_it_starts_again(stopped, whole):
    shutil.rmtree(stopped / "training")
    assert outputs(stopped, train(stopped)) == whole()


def test_all_checkpoints_damaged_is_an_error_that_says_what_to_do(stopped):
    before = (stopped / "metrics.jsonl").read_bytes()
    for file in (stopped / "training/x/steps").glob("*/tree/manifest.ocdbt"):
        file.unlink()
    for _ in range(2):
        with pytest.raises(
            ResumeError, match=r"all checkpoints of x in .* are damaged; .* or remove"
        ):
            train(stopped)
    assert (stopped / "metrics.jsonl").read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("damage", [lambda p: p.unlink(), lambda p: os.truncate(p, 40)])
def test_a_checkpoint_without_its_history_is_not_used(damage, stopped, whole, capfd):
    """Step 8's needs what was measured in steps 6 to 8; step 4's does not."""
    damage(stopped / ".history/x/000000006.npz")
    assert outputs(stopped, train(stopped)) == whole()
    assert capfd.readouterr().err.count("trying an earlier one") == 1
    (stopped / ".history/x/000000001-000000005.npz").unlink()
    with pytest.raises(ResumeError, match="all checkpoints of x"):
        train(stopped)


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage",
    [
        lambda p: p.unlink(),
        lambda p: os.truncate(p, 99),
        lambda p: p.write_bytes(p.read_bytes().replace(b"1", b"2") + b"more\n" * 99),
    ],
)
def test_changed_metrics_are_restored(damage, stopped, whole):
    damage(stopped / "metrics.jsonl")
    damage(stopped / "stopped.jsonl")
    run = Run.resume_or_create(stopped, Config(), ignoring=())
    train(run)
    run.finish()
    assert files(stopped) == {name: whole()[name] for name in files(stopped)}


def test_another_shape_or_structure_is_named(stopped):
    run = Run(stopped, resuming=True)
    resumable_training = ResumableTraining(run, {"cell": "x"}, MEMBERS, 2, 4)
    state = start()
    wider = state._replace(params={**state.params, "word": jnp.zeros((3, 2), jnp.uint32)})
    options: Any = {"steps": STEPS, "chunk_size": CHUNK, "observe": lambda state: ()}
    message = (
        r"steps/8 holds params/word as uint32 \(3,\), expected uint32 \(3, 2\): "
        r"the code has changed since; give another --out, or remove .* to start again"
    )
    with pytest.raises(ResumeError, match=message):
        resumable_training.train_on_samples(step, wider, sample, **options)
    with pytest.raises(ResumeError, match="holds 2 observed arrays, expected 0: the code has"):
        resumable_training.train_on_samples(step, state, sample, **options)
    assert {p.name for p in stopped.glob("training/x/steps/*")} == {"4", "8"}


def test_a_run_of_an_older_version_is_an_error_of_one_line(stopped, monkeypatch):
    names = (*resumable.METADATA, "layout")  # which this version's checkpoints must have
    monkeypatch.setattr(resumable, "METADATA", names)
    run = Run(stopped, resuming=True)
    message = r"begun by a version of rnnjax whose checkpoints have no 'layout'; give another --out"
    with pytest.raises(ResumeError, match=message):
        train(run)


def test_another_version_of_jax_is_reported(tmp_path, whole, monkeypatch, capsys):
    with pytest.raises(StoppedError):
        train(tmp_path / "run", observe=fails(observe, 2))
    monkeypatch.setattr(platforms, "platform", lambda: "JAX 99 on abacus")
    assert outputs(tmp_path / "run", train(tmp_path / "run")) == whole()
    line = next(line for line in capsys.readouterr().err.splitlines() if "started" in line)
    assert line.startswith("x: started with JAX ")
    assert line.endswith("resumes with JAX 99 on abacus; the last bits may differ")
