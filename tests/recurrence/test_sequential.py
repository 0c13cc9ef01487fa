"""`unroll`: what `check_cell` does not reach (shapes, streams, memory, transformations, errors)."""

import dataclasses
import functools

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slow import slow_but_for

import rnnjax
from rnnjax import GRU, LSTM, Cell, Elman, diagnostics
from rnnjax.cells import LSTMCarry
from rnnjax.testing import python_loop

KEY = jax.random.key(0)
T, B, D, H = 7, 2, 3, 5
CELL = LSTM(H)
PARAMS = CELL.init(KEY, D)
XS = jax.random.normal(KEY, (T, B, D))


def random_carry(batch=(B,)):
    return LSTMCarry(*jax.random.normal(jax.random.key(3), (2, *batch, H)))


def close(got, want, tolerance=1e-5):
    assert oracles.relative_error(got, want) < tolerance


@pytest.mark.slow
@pytest.mark.parametrize("batch", [(), (1,), (2, 3), (2, 1, 2)])
def test_any_leading_batch_dimensions(batch):
    xs = jax.random.normal(KEY, (T, *batch, D))
    lengths = jax.random.randint(KEY, batch, 0, T + 1)
    resets = jax.random.bernoulli(KEY, 0.3, (T, *batch))
    options = {"reverse": True, "truncate_every": 2, "return_carries": True}
    final, outputs, carries = rnnjax.unroll(
        CELL, PARAMS, xs, seq_lengths=lengths, resets=resets, **options
    )
    assert outputs.shape == (T, *batch, H) == carries.c.shape
    for index in np.ndindex(*batch):
        one = (slice(None), *index)
        alone = rnnjax.unroll(
            CELL, PARAMS, xs[one], seq_lengths=lengths[index], resets=resets[one], **options
        )
        close(final.h[index], alone[0].h)
        close(outputs[one], alone[1])
        close(carries.c[one], alone[2].c)


def test_a_stream_cut_into_calls_gives_what_one_call_gives():
    resets = jnp.zeros((T, B), bool).at[5, 0].set(True).at[2].set(True)
    start = random_carry()
    whole = rnnjax.unroll(CELL, PARAMS, XS, start, resets=resets)
    carry, pieces = start, []
    for cut in (slice(0, 1), slice(1, 4), slice(4, T)):
        carry, ys = rnnjax.unroll(CELL, PARAMS, XS[cut], carry, resets=resets[cut])
        pieces.append(ys)
    close((carry, jnp.concatenate(pieces)), whole, 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("reverse", [False, True])
def test_packed_sequences_equal_separate_ones(reverse):
    lengths = [2, 1, 4]
    ends = np.cumsum(lengths)
    starts = ends - lengths
    resets = np.zeros((T, B), bool)
    resets[(ends - 1) if reverse else starts] = True
    _, packed = rnnjax.unroll(CELL, PARAMS, XS, resets=resets, reverse=reverse)
    apart = [
        rnnjax.unroll(CELL, PARAMS, XS[a:b], reverse=reverse)[1]
        for a, b in zip(starts, ends, strict=True)
    ]
    close(packed, jnp.concatenate(apart), 1e-6)


def test_resets_return_to_reset_carry_and_its_gradient_counts_them():
    resets = np.zeros((T, B), bool)
    resets[3] = True

    def total(reset_carry):
        _, ys = rnnjax.unroll(CELL, PARAMS, XS, resets=resets, reset_carry=reset_carry)
        return ys.sum()

    def tail(carry):
        return rnnjax.unroll(CELL, PARAMS, XS[3:], carry)[1].sum()

    start = random_carry()
    close(jax.grad(total)(start), jax.grad(tail)(start))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, T), min_size=B, max_size=B), st.booleans())
def test_lengths_equal_shorter_sequences(lengths, reverse):
    start = random_carry()
    final, outputs = rnnjax.unroll(
        CELL, PARAMS, XS, start, seq_lengths=jnp.array(lengths), reverse=reverse
    )
    for b, n in enumerate(lengths):
        alone = jax.tree.map(lambda c, b=b: c[b], start)
        ys = np.zeros((0, H))
        if n:
            alone, ys, _ = python_loop(
                CELL,
                PARAMS,
                XS[:n, b : b + 1],
                jax.tree.map(lambda c: c[None], alone),
                reverse=reverse,
            )
            alone, ys = jax.tree.map(lambda c: c[0], alone), ys[:, 0]
        close(jax.tree.map(lambda c, b=b: c[b], final), alone)
        np.testing.assert_allclose(outputs[:n, b], ys, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(outputs[n:, b], 0)


@pytest.mark.slow
def test_truncation_does_not_depend_on_padding():
    def gradient(xs, lengths):
        def loss(params):
            options = {"seq_lengths": lengths, "reverse": True, "truncate_every": 3}
            return (rnnjax.unroll(CELL, params, xs, **options)[1] ** 2).sum()

        return jax.grad(loss)(PARAMS)

    padded = jnp.concatenate([XS, jnp.ones((4, B, D))])
    close(gradient(padded, jnp.full(B, T)), gradient(XS, jnp.full(B, T)), 1e-6)


def test_no_steps_and_no_examples():
    start = random_carry()
    final, outputs = rnnjax.unroll(CELL, PARAMS, XS[:0], start)
    np.testing.assert_array_equal(final.c, start.c)
    assert outputs.shape == (0, B, H)
    final, outputs, carries = rnnjax.unroll(
        CELL, PARAMS, XS[:0], start, checkpoint_every="sqrt", reverse=True, return_carries=True
    )
    assert outputs.shape == (0, B, H) == carries.h.shape
    assert rnnjax.unroll(CELL, PARAMS, XS[:, :0])[1].shape == (T, 0, H)
    assert rnnjax.unroll(CELL, PARAMS, XS[:, :0], seq_lengths=jnp.zeros(0, int))[1].shape == (
        T,
        0,
        H,
    )


def tape_bytes(total, **options):
    """Return the temporary memory of the gradient of a loss of the final carry alone."""
    cell = Elman(128)

    def loss(params, xs):
        final, _ = rnnjax.unroll(cell, params, xs, **options)
        return final.h.sum()

    params = jax.eval_shape(lambda: cell.init(KEY, 1))
    xs = jax.ShapeDtypeStruct((total, 4, 1), jnp.float32)
    return jax.jit(jax.grad(loss)).lower(params, xs).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.slow
def test_checkpointing_makes_the_tape_grow_as_the_square_root():
    short, long = (tape_bytes(n, checkpoint_every="sqrt") for n in (1024, 16 * 1024))
    assert 2.5 < long / short < 6  # sqrt(16) = 4
    short, long_plain = (tape_bytes(n) for n in (1024, 16 * 1024))
    assert 12 < long_plain / short < 20
    assert long < 0.05 * long_plain


@pytest.mark.slow
def test_truncation_keeps_values_and_cuts_gradients():
    def last_output(start, **options):
        return rnnjax.unroll(CELL, PARAMS, XS, start, **options)[1][-1].sum()

    start = random_carry()
    assert last_output(start, truncate_every=3) == last_output(start)
    cut = jax.grad(functools.partial(last_output, truncate_every=3))(start)
    assert all((leaf == 0).all() for leaf in cut)
    whole = jax.grad(functools.partial(last_output, truncate_every=T))(start)
    close(whole, jax.grad(last_output)(start))


def test_a_second_call_does_not_compile_again():
    traces = []

    class Counting(Elman):
        __hash__ = Elman.__hash__

        def step(self, params, carry, u):
            traces.append(1)
            return Elman.step(self, params, carry, u)

    params = Elman(H).init(KEY, D)
    rnnjax.unroll(Counting(H), params, XS)
    first = len(traces)
    rnnjax.unroll(Counting(H), params, XS + 1)
    assert first > 0 and len(traces) == first
    rnnjax.unroll(Counting(H), params, XS, reverse=True)
    assert len(traces) > first


@pytest.mark.slow
@pytest.mark.parametrize("cell", [Elman(H), LSTM(H), GRU(H)], ids=["elman", "lstm", "gru"])
def test_second_derivatives_and_forward_mode(cell, x64):
    params = jax.tree.map(lambda p: p.astype(jnp.float64), cell.init(KEY, 1))
    xs = jax.random.normal(KEY, (4, 1), jnp.float64)
    flat, unflatten = jax.flatten_util.ravel_pytree(params)
    some = flat[:6]

    def loss(some):
        params = unflatten(flat.at[:6].set(some))
        return (rnnjax.unroll(cell, params, xs, checkpoint_every=2)[1] ** 2).sum()

    gradient = jax.jit(jax.grad(loss))
    hessian = jax.jit(jax.hessian(loss))(some)  # forward over reverse
    for i, direction in enumerate(np.eye(6) * 1e-5):
        difference = (gradient(some + direction) - gradient(some - direction)) / 2e-5
        np.testing.assert_allclose(hessian[i], difference, rtol=1e-6, atol=1e-8)


@pytest.mark.slow
def test_vmap_over_parameters_equals_a_loop():
    keys = jax.random.split(KEY, 3)
    many = jax.vmap(lambda k: CELL.init(k, D))(keys)
    together = jax.vmap(lambda p: rnnjax.unroll(CELL, p, XS, seq_lengths=jnp.array([3, 7]))[1])(
        many
    )
    for i, key in enumerate(keys):
        one = rnnjax.unroll(CELL, CELL.init(key, D), XS, seq_lengths=jnp.array([3, 7]))[1]
        close(together[i], one)


def test_the_carry_takes_the_type_of_the_computation(x64):
    params = jax.tree.map(lambda p: p.astype(jnp.float64), PARAMS)
    final, outputs = rnnjax.unroll(CELL, params, XS)
    assert final.c.dtype == outputs.dtype == jnp.float64
    final, outputs = rnnjax.unroll(CELL, PARAMS, XS.astype(jnp.bfloat16))
    assert final.c.dtype == outputs.dtype == jnp.float32


def test_lists_and_numpy_arrays_will_do():
    lengths = [3, 7]
    got = rnnjax.unroll(CELL, PARAMS, np.asarray(XS), seq_lengths=lengths)
    close(got, rnnjax.unroll(CELL, PARAMS, XS, seq_lengths=jnp.array(lengths)), 1e-7)


def marked_problem(dtype=jnp.float64):
    """Parameters, inputs, a first carry, weights of a loss, and perturbations that are not zero."""
    rng = np.random.default_rng(0)
    normal = lambda *shape: jnp.asarray(rng.normal(size=shape), dtype)  # noqa: E731
    params = jax.tree.map(lambda p: normal(*p.shape), PARAMS)
    start, weights = (LSTMCarry(normal(B, H), normal(B, H)) for _ in range(2))
    moves = LSTMCarry(0.3 * normal(T, B, H), 0.3 * normal(T, B, H))
    return params, normal(T, B, D), start, moves, (weights, normal(T, B, H))


def weigh(final, outputs, weights):
    pairs = zip((*final, outputs), (*weights[0], weights[1]), strict=True)
    return sum(jnp.sum(a * w) for a, w in pairs)


@jax.jit
def advance(params, carry, x):
    new = CELL.step(params, carry, CELL.project(params, x))
    return new, CELL.output(new)


@jax.jit
def pull(params, carry, x, cotangents):
    return jax.vjp(lambda p, c: advance(p, c, x), params, carry)[1](cotangents)


def backpropagate(
    params,
    xs,
    start,
    moves,
    weights,
    bound,
    seq_lengths=None,
    resets=None,
    reverse=False,
    every=None,
):
    """Back-propagation as a textbook would write it, one example and one step at a time.

    Returns the loss and its gradients: of the parameters, the first carry and the perturbations
    (the adjoints), and the norms of the latter, before they are clipped.
    """
    loss, slopes = 0.0, jax.tree.map(np.zeros_like, params)
    first, adjoints = (jax.tree.map(lambda a: np.zeros(a.shape), a) for a in (start, moves))
    norms = np.zeros((T, B))
    order = list(reversed(range(T))) if reverse else list(range(T))
    for b in range(B):
        length = T if seq_lengths is None else int(seq_lengths[b])
        state, tape, done = jax.tree.map(lambda c, b=b: c[b], start), [], 0
        for t in order:
            state = jax.tree.map(lambda c, m, here=(t, b): c + m[here], state, moves)
            if t >= length:
                tape.append((t, None, False))
                continue
            again = resets is not None and bool(resets[t, b])
            cut = again or (every is not None and done > 0 and done % every == 0)
            entering = jax.tree.map(jnp.zeros_like, state) if again else state
            state, output = advance(params, entering, xs[t, b])
            loss += jnp.sum(output * weights[1][t, b])
            tape.append((t, entering, cut))
            done += 1
        later = jax.tree.map(lambda w, b=b: w[b], weights[0])
        loss += sum(jnp.sum(c * w) for c, w in zip(state, later, strict=True))
        for t, entering, cut in reversed(tape):
            if entering is not None:
                slope, later = pull(params, entering, xs[t, b], (later, weights[1][t, b]))
                slopes = jax.tree.map(np.add, slopes, slope)
                later = jax.tree.map(jnp.zeros_like, later) if cut else later
            for leaf, part in zip(adjoints, later, strict=True):
                leaf[t, b] = part
            norms[t, b] = np.sqrt(sum(np.sum(np.square(part)) for part in later))
            shrink = min(1.0, bound / norms[t, b]) if norms[t, b] else 1.0
            later = jax.tree.map(lambda part, shrink=shrink: shrink * part, later)
        for leaf, part in zip(first, later, strict=True):
            leaf[b] = part
    return loss, (slopes, first, adjoints, norms)


RESETS = np.zeros((T, B), bool)
RESETS[[2, 5, 3], [0, 0, 1]] = True
MARKED = {
    "alone": {},
    "lengths and truncation": {"seq_lengths": (4, 0), "truncate_every": 3},
    "checkpoints": {"checkpoint_every": 3, "seq_lengths": (7, 5)},
    "all": {
        "seq_lengths": (5, 7),
        "resets": RESETS,
        "reverse": True,
        "checkpoint_every": "sqrt",
        "truncate_every": 4,
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("given", slow_but_for("checkpoints", [*MARKED]))
def test_perturbations_probes_and_clipping_equal_a_loop(given, x64):
    params, xs, start, moves, weights = marked_problem()
    options = {
        name: jnp.array(v) if name == "seq_lengths" else v for name, v in MARKED[given].items()
    }

    @jax.jit
    def run(bound, start, moves):
        def loss(params, start, moves, probe):
            marks = {"clip_adjoints": bound, "perturbations": moves, "norm_probe": probe}
            return weigh(*rnnjax.unroll(CELL, params, xs, start, **options, **marks), weights)

        every = range(4)
        return jax.value_and_grad(loss, every)(params, start, moves, jnp.zeros((T, B)))

    loop = {name: v for name, v in options.items() if name != "checkpoint_every"}
    if "truncate_every" in loop:
        loop["every"] = loop.pop("truncate_every")
    clipped = 0
    for bound in (np.inf, 1e9, 1.5, 1e-3, 1e-200):
        loss, gradients = run(bound, start, moves)
        want, slopes = backpropagate(params, xs, start, moves, weights, bound, **loop)
        np.testing.assert_allclose(loss, want, rtol=1e-12)
        for got, expected in zip(gradients, slopes, strict=True):
            close(got, expected, 1e-10)
        first = np.sqrt(sum(np.sum(np.square(c), axis=-1) for c in gradients[1]))
        assert (first <= bound * (1 + 1e-12)).all()
        clipped += (slopes[3] > bound).any() and (slopes[3] < bound).any()
    assert clipped  # some steps and not others
    if "truncate_every" in options:
        return
    _, gradients = run(np.inf, start, moves)
    directions = jax.tree.map(lambda a: np.random.default_rng(7).normal(size=a.shape), moves)
    plus, minus = (
        run(np.inf, start, jax.tree.map(lambda m, d, s=s: m + s * d, moves, directions))[0]
        for s in (1e-5, -1e-5)
    )
    along = sum(np.sum(a * d) for a, d in zip(gradients[2], directions, strict=True))
    np.testing.assert_allclose(along, (plus - minus) / 2e-5, rtol=1e-8)


@pytest.mark.slow
def test_perturbations_of_zero_give_the_adjoints_and_change_no_value():
    params, xs, start, _, (_, weights) = marked_problem(jnp.float32)
    marks = {"clip_adjoints": np.inf, "norm_probe": jnp.zeros((T, B))}
    marks["perturbations"] = diagnostics.zero_perturbations(CELL, xs)
    found, plain = (rnnjax.unroll(CELL, params, xs, start, **m) for m in (marks, {}))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(plain), strict=True):
        np.testing.assert_array_equal(a, b)

    def loss(moves):
        return jnp.sum(weights * rnnjax.unroll(CELL, params, xs, start, perturbations=moves)[1])

    got = jax.grad(loss)(marks["perturbations"])
    want = diagnostics.adjoints(CELL, params, xs, lambda ys: jnp.sum(ys * weights), start)
    close(got, want)


@pytest.mark.slow
def test_each_member_of_a_vmap_has_its_own_bound(x64):
    params, xs, start, moves, weights = marked_problem()
    bounds = np.array([np.inf, 1.0, 0.01])

    @jax.jit
    @jax.vmap
    def run(bound):
        def loss(params):
            marks = {"clip_adjoints": bound, "perturbations": moves}
            return weigh(*rnnjax.unroll(CELL, params, xs, start, **marks), weights)

        return jax.grad(loss)(params)

    found = run(bounds)
    for i, bound in enumerate(bounds):
        _, (want, *_) = backpropagate(params, xs, start, moves, weights, bound)
        close(jax.tree.map(lambda g, i=i: g[i], found), want, 1e-10)


@pytest.mark.slow
def test_second_derivatives_of_clipped_and_probed_gradients(x64):
    """Forward over reverse; adjoints after the last output that counts are zero, not NaN."""
    params, xs, *_ = marked_problem()
    some, probe = params.bias[3:7], jnp.zeros(T)

    def loss(some, probe):
        moved = params._replace(bias=params.bias.at[3:7].set(some))
        marks = {"clip_adjoints": 0.02, "norm_probe": probe}
        return (rnnjax.unroll(CELL, moved, xs[:, 0], **marks)[1][4] ** 2).sum()

    gradient = jax.jit(jax.grad(loss, (0, 1)))
    hessian = jax.jit(jax.hessian(loss, (0, 1)))(some, probe)
    norms = gradient(some, probe)[1]
    assert (norms[5:] == 0).all() and 0 < (norms > 0.02).sum() < 5
    for i, direction in enumerate(np.eye(4) * 1e-5):
        pairs = zip(
            gradient(some + direction, probe), gradient(some - direction, probe), strict=True
        )
        slope, change = ((plus - minus) / 2e-5 for plus, minus in pairs)
        np.testing.assert_allclose(hessian[0][0][:, i], slope, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(hessian[1][0][:, i], change, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("mark", [{"clip_adjoints": 1.0}, {"norm_probe": jnp.zeros((T, B))}])
def test_forward_mode_refuses_marks_on_the_gradient(mark):
    def outputs(xs):
        return rnnjax.unroll(CELL, PARAMS, xs, **mark)[1]

    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(outputs, (XS,), (XS,))


@dataclasses.dataclass(frozen=True)
class Counting(Cell):
    """A user's cell that halves its state and counts its steps."""

    def init(self, key, input_size):
        raise NotImplementedError

    def initial_carry(self, batch_shape):
        return jnp.zeros(batch_shape, jnp.int32), jnp.zeros((*batch_shape, D))

    def project(self, params, x):
        return params * x

    def step(self, params, carry, u):
        return carry[0] + 1, carry[1] / 2 + u

    def output(self, carry):
        return carry[1]


def test_marks_pass_by_integers_in_the_carry():
    cell = Counting()

    def loss(moves, probe):
        marks = {"perturbations": moves, "norm_probe": probe, "clip_adjoints": 0.01}
        final, outputs = rnnjax.unroll(cell, jnp.ones(D), XS, **marks)
        return outputs[-1].sum(), final

    zeros, probe = diagnostics.zero_perturbations(cell, XS), jnp.zeros((T, B))
    (moves, norms), final = jax.grad(loss, (0, 1), has_aux=True)((zeros[0] + 3, zeros[1]), probe)
    np.testing.assert_array_equal(final[0], T)
    np.testing.assert_array_equal(moves[0], 0)
    want = [*(0.01 / 2.0 ** np.arange(T - 1, 0, -1)), 0.5 * np.sqrt(D)]  # clipped to 0.01, halved
    np.testing.assert_allclose(norms, np.stack([want] * B, 1), rtol=1e-6)
    np.testing.assert_allclose(moves[1], np.stack([norms / np.sqrt(D)] * D, -1), rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"xs": XS[0, 0]}, ValueError, r"xs must have shape \[T, \*batch, D\]"),
        ({"seq_lengths": [3, 8]}, ValueError, r"seq_lengths must lie in 0..T = 0..7, got 3..8"),
        ({"seq_lengths": [-1, 3]}, ValueError, r"seq_lengths must lie in 0..T = 0..7, got -1..3"),
        (
            {"seq_lengths": [3]},
            ValueError,
            r"seq_lengths must have the batch shape \(2,\), got \(1,\)",
        ),
        ({"seq_lengths": [3.0, 4.0]}, TypeError, "seq_lengths must be integers, got float32"),
        ({"resets": jnp.zeros((T,), bool)}, ValueError, r"resets must have shape \(7, 2\), got"),
        ({"resets": jnp.zeros((T, B))}, TypeError, "resets must be booleans, got float32"),
        ({"reset_carry": random_carry()}, ValueError, "reset_carry was given without resets"),
        (
            {"initial_carry": random_carry((3,))},
            ValueError,
            r"carry.c must have shape \(2, 5\), got \(3, 5\)",
        ),
        ({"initial_carry": jnp.zeros((B, H))}, ValueError, "initial_carry must have the structure"),
        ({"unroll": 0}, ValueError, "unroll must be a positive integer, got 0"),
        ({"checkpoint_every": -2}, ValueError, "checkpoint_every must be a positive integer"),
        ({"truncate_every": 0}, ValueError, "truncate_every must be a positive integer, got 0"),
        ({"clip_adjoints": -1}, ValueError, "clip_adjoints must be a positive number, got -1"),
        ({"clip_adjoints": 0}, ValueError, "clip_adjoints must be a positive number, got 0"),
        ({"clip_adjoints": np.nan}, ValueError, "clip_adjoints must be a positive number, got nan"),
        ({"clip_adjoints": np.ones(B)}, ValueError, "clip_adjoints must be a positive number"),
        (
            {"perturbations": random_carry()},
            ValueError,
            r"perturbations.c must have shape \(7, 2, 5\), got \(2, 5\)",
        ),
        (
            {"perturbations": jnp.zeros((T, B, H))},
            ValueError,
            "perturbations must have the structure",
        ),
        (
            {"norm_probe": jnp.zeros((T, B, H))},
            ValueError,
            r"norm_probe must have shape \(7, 2\), got \(7, 2, 5\)",
        ),
        ({"norm_probe": jnp.zeros((T, B), int)}, TypeError, "norm_probe must be floating, got int"),
    ],
)
def test_wrong_arguments_are_named(options, error, message):
    arguments = {"xs": XS} | options
    with pytest.raises(error, match=message):
        rnnjax.unroll(CELL, PARAMS, arguments.pop("xs"), **arguments)


@pytest.mark.parametrize("kind", [list, np.asarray, jnp.asarray])
def test_what_is_known_within_jit_is_checked_there(kind):
    marks = {"seq_lengths": kind([3, 7]), "clip_adjoints": jnp.float32(1)}
    wrong = {"seq_lengths": kind([3, 8]), "clip_adjoints": jnp.float32(-1)}

    @jax.jit
    def run(xs):
        good = rnnjax.unroll(CELL, PARAMS, xs, **marks)
        for name, value in wrong.items():
            with pytest.raises(ValueError, match=name):
                rnnjax.unroll(CELL, PARAMS, xs, **{name: value})
        return good

    close(run(XS), rnnjax.unroll(CELL, PARAMS, XS, seq_lengths=[3, 7]), 1e-6)


def test_a_dimension_that_does_not_fit_the_parameters_is_an_error():
    with pytest.raises(ValueError, match=r"inputs must have 3 features.* got shape \(\d+, 2, 2\)"):
        rnnjax.unroll(CELL, PARAMS, XS[..., :2])
