"""The training loop against Python loops, to the last bit; stops; progress."""

import functools
import io
import itertools
import os
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax import training
from rnnjax.training import (
    NonFiniteError,
    TrainState,
    loop,
    over_population,
    sharded_over_population,
    train_on_batches,
    train_on_samples,
)

S, STEPS = 3, 10
COMPILED = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, _, **kwargs: COMPILED.append(event) if "backend_compile" in event else None
)


def keys(members):
    return jax.random.split(jax.random.key(0), members)


def numbers(tree):
    """The leaves as NumPy arrays, typed keys as their integers."""
    typed = lambda a: jnp.issubdtype(a.dtype, jax.dtypes.prng_key)  # noqa: E731
    return [np.asarray(jax.random.key_data(a) if typed(a) else a) for a in jax.tree.leaves(tree)]


def assert_same_bits(got, want):
    for a, b in zip(numbers(got), numbers(want), strict=True):
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


def take(tree, member):
    return jax.tree.map(lambda a: a[member], tree)


def stack(trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


# Arithmetic without rounding, so that every order of operations gives the same bits.


def mix(word, bits):
    return word * np.uint32(1664525) + bits


def exact_sample(key):
    first, second = jax.random.key_data(key)  # cheap to compile
    return first ^ second


def exact_step(state, bits):
    word = mix(state.params, bits)
    metrics = {"low": (word & np.uint32(0xFFFF)).astype(np.float32), "high": word >> 16}
    return state._replace(params=word, step=state.step + 1), metrics


def exact_state(members=S):
    words = jnp.arange(members, dtype=jnp.uint32)
    return TrainState(words, (), jnp.zeros(members, jnp.int32), keys(members))


@functools.cache
def loop_over_samples(steps=STEPS, members=S):
    """The documented loop of `train_on_samples` in Python: states after every step, and metrics."""
    split, draw = jax.jit(jax.random.split), jax.jit(exact_sample)
    states, metrics = [], {"low": np.zeros((steps, members), np.float32)}
    metrics["high"] = np.zeros((steps, members), np.uint32)
    now = [take(exact_state(members), m) for m in range(members)]
    for step in range(steps):
        for m in range(members):
            key, sampling_key = split(now[m].key)
            word = np.asarray(mix(np.asarray(now[m].params), np.asarray(draw(sampling_key))))
            now[m] = TrainState(word, (), np.int32(step + 1), key)
            metrics["low"][step, m] = word & 0xFFFF
            metrics["high"][step, m] = word >> 16
        states.append(stack(now))
    return states, metrics


def consume(iterator):
    """Return the chunks; one program must serve all, also the shorter last one."""
    chunks, before = [next(iterator)], len(COMPILED)
    chunks += iterator
    assert before > 0 and len(COMPILED) == before
    return chunks


def join(chunks):
    names = chunks[0].metrics
    return {name: np.concatenate([c.metrics[name] for c in chunks]) for name in names}


# A network with rounding: tanh, matmuls and their gradients.


def network_sample(key):
    start, stride = jax.random.key_data(key) % 97
    return jnp.sin(start + stride * jnp.arange(21.0)).reshape(7, 3)


def network_step(state, xs):
    def loss_fn(params):
        ys = jnp.tanh(jnp.tanh(xs @ params["W"]) @ params["U"])
        return jnp.mean((ys.sum(1) - xs[:, 0]) ** 2)

    loss, gradient = jax.value_and_grad(loss_fn)(state.params)
    params = jax.tree.map(lambda p, g: p - 0.1 * g, state.params, gradient)
    return state._replace(params=params, step=state.step + 1), {"loss": loss}


def network_state(members):
    rng = np.random.default_rng(0)
    params = {"W": rng.standard_normal((5, 3, 5), "f4"), "U": rng.standard_normal((5, 5, 5), "f4")}
    params = {name: value[:members] for name, value in params.items()}
    return TrainState(params, (), np.zeros(members, np.int32), keys(5)[:members])


@functools.cache
def train_network(members, chunk_size):
    options = {"steps": 7, "chunk_size": chunk_size}
    state = network_state(members)
    chunks = consume(train_on_samples(network_step, state, network_sample, **options))
    return chunks[-1].state, join(chunks)


@pytest.mark.parametrize("members", [1, 2, 3, 5])
def test_a_population_is_a_loop_over_its_members(members):
    def member(key, tree):
        bits = jax.random.key_data(key) ^ 1
        return {"key": jax.random.wrap_key_data(bits), "bits": bits, "tree": (tree["a"] * 3, None)}

    args = keys(members), {"a": np.arange(members * 7, dtype=np.float32).reshape(members, 7)}
    got = over_population(member)(*args)
    one = jax.jit(member)
    assert_same_bits(got, stack([one(*take(args, m)) for m in range(members)]))
    assert got["key"].dtype == args[0].dtype
    devices = got["bits"].sharding.device_set
    assert len(devices) == min(members, jax.device_count()) or members % 2


@pytest.mark.slow
def test_a_members_numbers_do_not_depend_on_the_others():
    state, metrics = train_network(5, 7)
    for members in (2, 3):
        fewer, its_metrics = train_network(members, 7)
        assert_same_bits(
            (fewer, its_metrics["loss"].T), take((state, metrics["loss"].T), slice(members))
        )


def test_a_population_is_close_to_a_loop_with_rounding():
    state, metrics = train_network(5, 7)
    for member in (0, 4):
        one, step = take(network_state(5), member), jax.jit(network_step)
        for t in range(7):
            key, now = jax.random.split(one.key)
            one, want = step(one._replace(key=key), network_sample(now))
            np.testing.assert_allclose(metrics["loss"][t, member], want["loss"], rtol=1e-5)
        np.testing.assert_allclose(state.params["U"][member], one.params["U"], rtol=1e-4, atol=1e-6)


def test_accelerators_vmap_members(monkeypatch):
    state, metrics = train_network(3, 7)
    monkeypatch.setattr(training.population, "_platform", lambda sharding: "gpu")
    monkeypatch.setattr(training.population, "_one_by_one", None)
    at_once, its_metrics = train_network.__wrapped__(3, 7)
    np.testing.assert_allclose(its_metrics["loss"], metrics["loss"], rtol=1e-5)
    for a, b in zip(numbers(at_once), numbers(state), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_members_share_keyword_arguments_and_may_be_on_any_device():
    scale = over_population(lambda a, *, by: a * by)
    five = scale(np.arange(5), by=3)
    assert_same_bits(five, jnp.arange(5) * 3)
    assert_same_bits(scale(five[:1], by=2), jnp.array([0]))  # it was on two devices
    assert_same_bits(scale(jax.device_put(jnp.arange(4), jax.devices()[1]), by=1), jnp.arange(4))
    before = len(COMPILED)
    scale(scale(scale(np.arange(5), by=5), by=6), by=7)
    assert len(COMPILED) == before


@pytest.mark.parametrize("wrong", [((2,), (3,)), ((2,), ()), ((0,), (0,)), ()], ids=str)
def test_leaves_without_a_common_leading_axis(wrong):
    with pytest.raises(ValueError, match="an entry per member"):
        over_population(lambda *args: args)(*map(np.zeros, wrong))


@pytest.mark.slow
@pytest.mark.parametrize("chunk_size", [25, 4, 3, 1])
def test_training_on_samples_is_the_documented_loop(chunk_size):
    states, metrics = loop_over_samples()
    options = {"steps": STEPS, "chunk_size": chunk_size}
    chunks = consume(train_on_samples(exact_step, exact_state(), exact_sample, **options))
    firsts = range(1, STEPS + 1, chunk_size)
    assert [c.first_step for c in chunks] == list(firsts)
    assert [c.step for c in chunks] == [min(f + chunk_size - 1, STEPS) for f in firsts]
    for chunk in chunks:
        assert_same_bits(chunk.state, states[chunk.step - 1])
        rows = slice(chunk.first_step - 1, chunk.step)
        assert_same_bits(chunk.metrics, {name: v[rows] for name, v in metrics.items()})


def test_the_chunk_size_changes_no_bit():
    whole = train_network(3, 7)
    assert_same_bits(train_network(3, 3), whole)
    assert_same_bits(train_network(3, 1), whole)


def batches_of(member, steps=STEPS):
    rng = np.random.default_rng(member)
    return [{"a": rng.integers(0, 2**16, 3, np.uint32), "b": (np.uint32(t),)} for t in range(steps)]


def batch_step(state, batch):
    return exact_step(state, batch["a"][0] * batch["a"][1] + batch["a"][2] ^ batch["b"][0])


@pytest.mark.parametrize("chunk_size", [STEPS, 3])
def test_training_on_batches_is_a_loop_and_takes_only_what_it_needs(chunk_size):
    iterators = [iter(batches_of(m, STEPS + 1)) for m in range(S)]
    options = {"steps": STEPS, "chunk_size": chunk_size}
    chunks = consume(train_on_batches(batch_step, exact_state(), iterators, **options))
    assert [len(list(rest)) for rest in iterators] == [1] * S
    metrics, one = join(chunks), jax.jit(batch_step)
    for m in range(S):
        state = take(exact_state(), m)
        for t, batch in enumerate(batches_of(m)):
            state, want = one(state, batch)
            assert_same_bits({name: v[t, m] for name, v in metrics.items()}, want)
        assert_same_bits(take(chunks[-1].state, m), state)


def test_batches_that_end_early():
    batches = [batches_of(0), batches_of(1), batches_of(2, 7)]
    chunks = train_on_batches(batch_step, exact_state(), batches, steps=STEPS, chunk_size=4)
    assert next(chunks).step == 4
    with pytest.raises(ValueError, match="batches of member 2 ended before the last step"):
        next(chunks)
    chunks = train_on_batches(batch_step, exact_state(), batches[:2], steps=3, chunk_size=3)
    with pytest.raises(ValueError, match="an entry per member"):
        next(chunks)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"steps": -3}, {"chunk_size": 0}], ids=str)
def test_too_few_steps_are_an_immediate_error(wrong):
    (name, value), options = *wrong.items(), {"steps": 3, "chunk_size": 2} | wrong
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got {value}"):
        train_on_samples(exact_step, exact_state(), exact_sample, **options)
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got {value}"):
        train_on_batches(batch_step, exact_state(), [], **options)


def test_a_metric_must_be_a_scalar():
    def step(state, _):
        return state, {"each": jnp.zeros(5)}

    chunks = train_on_samples(step, exact_state(), exact_sample, steps=2, chunk_size=2)
    with pytest.raises(ValueError, match=r"metric each must be a scalar, got shape \(5,\)"):
        next(chunks)


def test_there_may_be_no_metrics():
    def step(state, _):
        return state._replace(step=state.step + 1), {}

    (chunk,) = train_on_samples(step, exact_state(), exact_sample, steps=2, chunk_size=2)
    assert chunk.metrics == {} and chunk.state.step.tolist() == [2] * S


# After how many steps of which member a metric is what.
SUDDEN = {
    "later": ((7, 0, np.nan), (8, 1, np.inf)),
    "first of a chunk": ((5, 2, np.inf),),
    "two at once": ((6, 1, -np.inf), (6, 2, np.nan)),
    "the last": ((10, 1, np.nan),),
    "again": ((3, 1, np.nan), (4, 1, np.inf), (9, 1, np.inf)),
}


@pytest.mark.parametrize(
    ("which", "train"), [*((w, "samples") for w in SUDDEN), ("later", "batches")]
)
def test_a_member_stops_before_its_first_non_finite_metric(which, train):
    def step(state, bits):
        word, done = state.params["word"] + bits, state.step + 1
        state = state._replace(params=state.params | {"word": word}, step=done)
        metrics = {"word": word, "odd": jnp.float32(0), "even": jnp.float32(0)}
        for at, member, value in SUDDEN[which]:
            name = "odd" if at % 2 else "even"
            here = (done == at) & (state.params["member"] == member)
            metrics[name] = jnp.where(here, value, metrics[name])
        return state, metrics

    last = np.full(S, 12)  # good updates of each member
    stops = {}
    for at, member, value in SUDDEN[which]:
        if at <= last[member]:
            last[member] = at - 1
            stops[member] = (at, "odd" if at % 2 else "even", value)
    state = exact_state()._replace(params={"word": jnp.zeros(S, "u4"), "member": jnp.arange(S)})
    options = {"steps": 12, "chunk_size": 4, "label": "elman"}
    seen, reached, compiled = {}, [], []

    if train == "samples":
        chunks = train_on_samples(step, state, lambda key: np.uint32(3), **options)
    else:
        batches = [itertools.repeat(np.uint32(3))] * S
        chunks = train_on_batches(step, state, batches, **options)
    for chunk in chunks:
        reached.append(chunk)
        compiled.append(len(COMPILED))
    assert len(set(compiled)) == 1
    assert [chunk.step for chunk in reached] == [4, 8, 12]
    for chunk in reached:
        seen |= {stop.member: (stop.step, stop.metric, stop.value) for stop in chunk.stops}
        at = np.arange(chunk.first_step, chunk.step + 1)[:, None]
        done = at <= last
        np.testing.assert_array_equal(chunk.counts, done.sum(0))
        np.testing.assert_array_equal(chunk.metrics["word"], np.where(done, 3 * at, 0))
        np.testing.assert_array_equal(np.isnan(chunk.metrics["odd"]), ~done)
        assert chunk.state.step.tolist() == np.minimum(chunk.step, last).tolist()
        assert chunk.state.params["word"].tolist() == (3 * np.minimum(chunk.step, last)).tolist()
    np.testing.assert_equal(seen, stops)


def test_a_member_that_stops_changes_no_bit_of_the_others():
    def stopping(state, xs):
        state, metrics = network_step(state, xs)
        marked = state.params["mark"] > 0
        bad = (state.step == 5) & marked
        return state, {"loss": jnp.where(bad, jnp.nan, metrics["loss"])}

    marked = network_state(3)
    marked = marked._replace(params=marked.params | {"mark": np.float32([0, 1, 0])})
    options = {"steps": 7, "chunk_size": 3}
    whole = list(train_on_samples(network_step, network_state(3), network_sample, **options))
    chunks = list(train_on_samples(stopping, marked, network_sample, **options))
    for name in ("W", "U"):
        got, want = (np.asarray(c[-1].state.params[name]) for c in (chunks, whole))
        np.testing.assert_array_equal(got[[0, 2]], want[[0, 2]])
    assert chunks[-1].state.step.tolist() == [7, 4, 7]


@pytest.mark.parametrize("train", ["samples", "batches"])
def test_training_stops_with_the_last_member(train):
    def step(state, _):
        done = state.step + 1
        bad = done >= 3 + state.params
        return state._replace(step=done), {"loss": jnp.where(bad, jnp.inf, 1.0)}

    state = exact_state()._replace(params=jnp.arange(S))
    options = {"steps": 12, "chunk_size": 3, "label": "elman"}
    if train == "samples":
        chunks = train_on_samples(step, state, exact_sample, **options)
    else:
        batches = [itertools.repeat(np.uint32(3))] * S
        chunks = train_on_batches(step, state, batches, **options)
    steps = [next(chunks).state.step.tolist()]
    with pytest.raises(NonFiniteError) as error:
        for chunk in chunks:
            steps.append(chunk.state.step.tolist())
    assert steps == [[2, 3, 3], [2, 3, 4]]
    assert str(error.value) == "elman: loss became inf at step 3 (member 0)"
    assert isinstance(error.value, FloatingPointError)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def show_on_terminal(monkeypatch):
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys, "stderr", Terminal())
    return sys.stderr


def steady_step(state, _):
    return state._replace(step=state.step + 1), {"loss": state.params / 4, "norm": jnp.float32(3)}


def steady(**options):
    options = {"steps": 6, "chunk_size": 3, "label": "cell[1]"} | options
    return train_on_samples(steady_step, exact_state(), exact_sample, **options)


HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


def test_a_terminal_shows_progress(monkeypatch):
    terminal = show_on_terminal(monkeypatch)
    assert len(list(steady())) == 2
    text = terminal.getvalue()
    for part in ("cell[1]", "3/6", "6/6", "loss 0.25", "norm 3"):
        assert part in text
    assert text.rindex(SHOW_CURSOR) > text.rindex(HIDE_CURSOR)


def test_progress_is_silent_elsewhere(capfd, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert len(list(steady())) == 2
    assert capfd.readouterr() == ("", "")


def test_an_interrupt_restores_the_terminal(monkeypatch):
    terminal = show_on_terminal(monkeypatch)
    chunks = steady()
    next(chunks)  # it may come between chunks, or during one
    assert SHOW_CURSOR not in terminal.getvalue()
    chunks.close()
    assert terminal.getvalue().endswith(SHOW_CURSOR)

    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(jax, "block_until_ready", interrupt)
    with pytest.raises(KeyboardInterrupt):
        next(steady())
    assert terminal.getvalue().endswith(SHOW_CURSOR)
    assert terminal.getvalue().count(SHOW_CURSOR) == 2


@pytest.mark.slow
def test_use_all_cores_respects_the_users_choice():
    def python(code, **environment):
        code = f"import jax, os; from rnnjax.training import use_all_cores; {code}"
        kept = {
            k: v for k, v in os.environ.items() if k not in ("JAX_NUM_CPU_DEVICES", "XLA_FLAGS")
        }
        command = [sys.executable, "-W", "error", "-c", f"{code}; print(jax.device_count())"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, env=kept | environment, **pipes)

    cores = "jax.config.jax_num_cpu_devices == len(os.sched_getaffinity(0))"
    runs = {
        "all": python(f"use_all_cores(); use_all_cores(); assert {cores}"),
        "3\n": python("use_all_cores()", JAX_NUM_CPU_DEVICES="3"),
        "5\n": python("use_all_cores()", XLA_FLAGS="--xla_force_host_platform_device_count=5"),
        "1\n": python("jax.numpy.zeros(1); use_all_cores()"),
    }
    before = jax.config.jax_num_cpu_devices  # set in conftest.py
    training.use_all_cores()
    assert jax.config.jax_num_cpu_devices == before
    for want, run in runs.items():
        output, _ = run.communicate()
        assert run.returncode == 0, output
        assert output == (want if want != "all" else f"{len(os.sched_getaffinity(0))}\n")


def test_a_program_that_is_compiled_before_is_not_compiled_again():
    mapped = sharded_over_population(lambda x, n: (jnp.sin(x) * n).sum())
    xs, ns = np.arange(12.0, dtype=np.float32).reshape(4, 3), np.arange(4, dtype=np.int32)
    like = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in (xs, ns)]

    before = len(COMPILED)
    mapped.compile(*like)
    assert len(COMPILED) == before + 1
    found = mapped(xs, ns)
    assert len(COMPILED) == before + 1
    np.testing.assert_allclose(found, (np.sin(xs) * ns[:, None]).sum(1), rtol=1e-6)


def test_training_is_compiled_while_something_else_is_done():
    threads, ours = [], threading.get_ident()

    def traced(state, batch):
        threads.append(threading.get_ident())
        return state._replace(params=state.params + batch, step=state.step + 1), {"loss": batch}

    state = TrainState(np.zeros(2), (), np.zeros(2, np.int32), jax.random.split(jax.random.key(0)))
    prepare = loop.prepare_samples(traced, lambda key: jnp.float32(1), 3)
    with loop.compiled_meanwhile(prepare, state):
        pass
    before = len(threads)
    assert before and ours not in threads
    (chunk,) = loop.run_chunks(prepare, state, [3], 3)
    assert len(threads) == before  # nothing was traced again
    np.testing.assert_array_equal(chunk.state.params, 3)


def test_what_fails_to_compile_fails_in_its_first_chunk():
    def wrong(state, batch):
        raise ValueError("no such step")

    state = TrainState(np.zeros(2), (), np.zeros(2, np.int32), jax.random.split(jax.random.key(0)))
    prepare = loop.prepare_samples(wrong, lambda key: jnp.float32(1), 3)
    with loop.compiled_meanwhile(prepare, state):
        pass
    with pytest.raises(ValueError, match="no such step"):
        next(loop.run_chunks(prepare, state, [3], 3))
