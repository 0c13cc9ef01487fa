"""Parameters that are updated while traces are kept: streams, populations, stops, resumption."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from oracles import relative_error

import rnnjax
from rnnjax import GRU, Elman, checkpoint, online, training
from rnnjax.cells import IndRNN
from rnnjax.cells.gated import GatedParams
from rnnjax.online import RTRL, UORO, SnAp, Truncated
from rnnjax.runs import Run
from rnnjax.testing.problems import wide

T, B, D, H = 6, 2, 3, 4
KEY = jax.random.key(0)


def loss(head, y, target):
    return jnp.sum((y @ head - target) ** 2)


def problem(cell):
    cell, params, xs, carry = wide(cell, D, KEY)
    head, targets = (
        jax.random.normal(key, shape, xs.dtype)
        for key, shape in zip(jax.random.split(KEY), ((H, 1), (len(xs), B, 1)), strict=True)
    )
    return cell, (params, head), xs, carry, targets


@pytest.mark.parametrize("every", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_stretches_add_up_to_back_propagation(every, x64):
    """The traces reach back beyond a stretch, and a head has its own gradient."""
    cell, params, xs, carry, targets = problem(GRU(H))

    def total(params):
        ys = rnnjax.unroll(cell, params[0], xs, carry)[1]
        return sum(loss(params[1], y, now) for y, now in zip(ys, targets, strict=True))

    def one(state, now):
        value, found, state = online.value_and_gradient(
            RTRL(), cell, params, state, now[0], loss, now[1]
        )
        return state, (value, found)

    start = online.start(RTRL(), cell, params[0], xs, carry)
    state, parts = jax.jit(lambda: online.in_stretches(one, start, (xs, targets), every))()
    want = jax.value_and_grad(total)(params)
    got = jax.tree.map(lambda a: a.sum(0), parts)
    assert parts[0].shape == (-(-len(xs) // every),)
    assert relative_error(got, want) < 1e-10
    assert relative_error(state.carry, rnnjax.unroll(cell, params[0], xs, carry)[0]) < 1e-12


@pytest.mark.parametrize(
    "resets", [None, pytest.param([[0, 1, 0], [1, 0, 0]], marks=pytest.mark.slow)]
)
def test_back_propagation_within_stretches(resets, x64):
    """Truncated every three steps: `unroll` with `truncate_every`."""
    cell, params, xs, carry, targets = problem(GRU(H))
    xs, targets = xs[:6], targets[:6]
    flags = None if resets is None else np.tile(resets, 2).T.astype(bool)

    def total(params):
        options = {"truncate_every": 3, "resets": flags}
        ys = rnnjax.unroll(cell, params[0], xs, carry, **options)[1]
        return sum(loss(params[1], y, now) for y, now in zip(ys, targets, strict=True))

    def one(state, now):
        value, found, state = online.value_and_gradient(
            None, cell, params, state, now[0], loss, now[1], resets=now[2]
        )
        return state, (value, found)

    start = online.start(None, cell, params[0], xs, carry)
    _, parts = online.in_stretches(one, start, (xs, targets, flags), 3)
    want = jax.value_and_grad(total)(params)
    assert relative_error(jax.tree.map(lambda a: a.sum(0), parts), want) < 1e-10


def test_traces_mix_old_and_new_parameters(x64):
    """An update at every step, against P' = J P + df/dtheta by `jax.jacobian` in a Python loop."""
    cell, (params, head), xs, carry, targets = problem(Elman(H))
    rate = 0.05
    flat, back = ravel_pytree(params)
    states = [ravel_pytree(jax.tree.map(lambda c, b=b: c[b], carry))[0] for b in range(B)]
    jacobians, own_head, losses = [jnp.zeros((H, len(flat)))] * B, head, []

    @jax.jit
    def advance(theta, s, x):
        def step(theta, s):
            ready = cell.prepare(back(theta))
            entering = type(carry)(s)
            return ravel_pytree(cell.step(ready, entering, cell.project(ready, x)))[0]

        return step(theta, s), *jax.jacobian(step, (0, 1))(theta, s)

    of_step = jax.jit(jax.value_and_grad(loss, (0, 1)))
    for t in range(len(xs)):
        slopes = jnp.zeros_like(flat)
        for b in range(B):
            states[b], of_theta, of_s = advance(flat, states[b], xs[t, b])
            jacobians[b] = of_s @ jacobians[b] + of_theta
        value, (of_head, of_y) = of_step(own_head, jnp.stack(states), targets[t])
        for b in range(B):
            slopes = slopes + of_y[b] @ jacobians[b]
        flat, own_head = flat - rate * slopes, own_head - rate * of_head
        losses.append(value)

    def update(kept, now):
        params, state = kept
        value, found, state = online.value_and_gradient(
            RTRL(), cell, params, state, now[0], loss, now[1]
        )
        return (jax.tree.map(lambda a, b: a - rate * b, params, found), state), value

    start = online.start(RTRL(), cell, params, xs, carry)
    run = jax.jit(lambda kept: online.in_stretches(update, kept, (xs, targets), 1))
    (learned, _), values = run(((params, head), start))
    assert relative_error(values, jnp.stack(losses)) < 1e-10
    assert relative_error(learned, (back(flat), own_head)) < 1e-10


# --- streams in training ----------------------------------------------------------------------

EVERY, STEPS, MEMBERS = 2, 8, 3


def drawn(cell, method, key):
    """Return the state of a network on a stream: each batch goes on where the last one ended."""
    init_key, head_key, own = jax.random.split(key, 3)
    params = cell.init(init_key, D), jax.random.normal(head_key, (H, 1))
    xs = jax.ShapeDtypeStruct((T, B, D), jnp.float32)
    stream = online.start(method, cell, params[0], xs, key=init_key)
    return training.TrainState(params, OPTIMIZER.init(params), jnp.int32(0), own, (), stream)


OPTIMIZER = optax.adam(0.01)


def train_step(method, cell, state, batch):
    def update(kept, now):
        params, opt_state, stream = kept
        value, gradient, stream = online.value_and_gradient(
            method, cell, params, stream, now[0], loss, now[1]
        )
        updates, opt_state = OPTIMIZER.update(gradient, opt_state)
        return (optax.apply_updates(params, updates), opt_state, stream), value

    kept = state.params, state.opt_state, state.stream
    kept, losses = online.in_stretches(update, kept, batch, EVERY)
    params, opt_state, stream = kept
    state = state._replace(params=params, opt_state=opt_state, stream=stream, step=state.step + 1)
    return state, {"loss": losses.sum(), "largest": online.largest(stream.traces)}


def sample(key):
    xs = jax.random.normal(key, (T, B, D))
    return xs, jnp.cumsum(xs, 0)[..., :1]


METHODS = {"snap": SnAp(1), "uoro": UORO(), "truncated": Truncated(3)}


@dataclasses.dataclass(frozen=True)
class Config:
    steps: int = STEPS


def trained(method, place=None):
    cell = GRU(H)
    step = functools.partial(train_step, method, cell)
    start = jax.vmap(functools.partial(drawn, cell, method))(jax.random.split(KEY, MEMBERS))
    if place is None:
        return start, step
    run = Run.resume_or_create(place, Config(), ignoring=())
    resumable = training.ResumableTraining(run, {}, range(MEMBERS), 1, 3)
    return resumable.train_on_samples(step, start, sample, steps=STEPS, chunk_size=4)


def same(got, want):
    pairs = zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True)
    for a, b in pairs:
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = map(jax.random.key_data, (a, b))
        np.testing.assert_array_equal(a, b)


class StoppedError(Exception):
    """Raised in the middle of a training."""


@pytest.mark.parametrize(
    "name", ["uoro", *(pytest.param(n, marks=pytest.mark.slow) for n in ("snap", "truncated"))]
)
def test_a_stream_resumes_with_its_traces(name, tmp_path, monkeypatch):
    """Stopped after a checkpoint, it returns the bytes of a training that was not stopped."""
    whole = trained(METHODS[name], tmp_path / "whole")
    done = [0]
    save = checkpoint.Checkpoints.save

    def saves_twice(*args, **options):
        done[0] += 1
        if done[0] > 2:
            raise StoppedError
        return save(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.Checkpoints, "save", saves_twice)
        with pytest.raises(StoppedError):
            trained(METHODS[name], tmp_path / "run")
    resumed = trained(METHODS[name], tmp_path / "run")
    same(resumed.state, whole.state)
    same([c.metrics for c in resumed.chunks], [c.metrics for c in whole.chunks])
    assert np.asarray(online.largest(whole.state.stream.traces)) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_a_population_is_its_members_one_by_one(name):
    start, step = trained(METHODS[name])
    (chunk,) = training.train_on_samples(step, start, sample, steps=STEPS, chunk_size=STEPS)
    once = jax.jit(step)
    for member in range(MEMBERS):
        state = jax.tree.map(lambda a, m=member: a[m], start)
        for t in range(STEPS):
            key, now = jax.random.split(state.key)
            state, metrics = once(state._replace(key=key), sample(now))
            np.testing.assert_allclose(chunk.metrics["loss"][t, member], metrics["loss"], rtol=1e-4)
        got = jax.tree.map(lambda a, m=member: a[m], chunk.state)
        for a, b in zip(
            jax.tree.leaves(got.stream.traces), jax.tree.leaves(state.stream.traces), strict=True
        ):
            if not jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
                np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_a_member_stops_before_its_traces_are_no_longer_finite():
    """A unit at rest with an unstable recurrent weight: the state and the loss stay, 0 and 0, and
    the traces grow, u^t."""
    cell, method = IndRNN(H, activation_fn=jnp.tanh), SnAp(1)

    def start(u):
        params = GatedParams(jnp.zeros((D, H)), jnp.full(H, u), jnp.zeros(H)), jnp.zeros((H, 1))
        xs = jnp.zeros((T, B, D))
        stream = online.start(method, cell, params[0], xs)
        return training.TrainState(params, OPTIMIZER.init(params), jnp.int32(0), KEY, (), stream)

    def nothing(key):
        del key
        return jnp.zeros((T, B, D)), jnp.zeros((T, B, 1))

    step = functools.partial(train_step, method, cell)
    states = jax.vmap(start)(jnp.array([0.5, 1e3]))
    (chunk,) = training.train_on_samples(step, states, nothing, steps=STEPS, chunk_size=STEPS)
    (stop,) = chunk.stops
    assert (stop.member, stop.metric) == (1, "largest") and not np.isfinite(stop.value)
    assert chunk.counts[0] == STEPS and chunk.counts[1] == stop.step - 1 == 12 // T
    traces = np.asarray(online.largest(jax.tree.map(lambda a: a[1], chunk.state.stream.traces)))
    np.testing.assert_allclose(traces, (1e3**12 - 1) / (1e3 - 1), rtol=1e-5)
    np.testing.assert_array_equal(chunk.metrics["loss"][: chunk.counts[1], 1], 0)


def test_stretches_have_a_step():
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        online.in_stretches(lambda kept, x: (kept, x), 0, jnp.zeros(3), 0)


def test_the_largest_number_of_a_tree():
    tree = {"a": jnp.array([1.0, -3.0]), "b": jnp.array([2j]), "keys": KEY, "n": jnp.array([9])}
    assert online.largest(tree) == 3 and online.largest(()) == 0
    assert np.isnan(online.largest({**tree, "c": jnp.array([jnp.nan, 1.0])}))
    assert online.largest(jnp.array([jnp.inf])) == np.inf
