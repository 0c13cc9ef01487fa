"""`log_gradient_by_layer` against networks cut open at a step, and profiles in log space."""

import architectures
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from architectures import CELLS, D, H, V, weighted_sum

import rnnjax
from rnnjax import GRU, LSTM, Elman, layers
from rnnjax.diagnostics import (
    adjoints,
    gradient_profile,
    log_gradient_by_layer,
    log_gradient_profile,
)
from rnnjax.layers import RNN, TCN, Bidirectional, Stack, Transformer

KEY = jax.random.key(0)
B, T = 2, 5
XS = jax.random.normal(KEY, (T, B, D))  # time first, as the hand-written networks take it
LENGTHS = jnp.array([T, 3])
STEPS = [0, 2, 4]  # at which networks are cut open


def cut_open(cell, params, xs, t, lengths, reverse=False):
    """Return the carry that enters step t, and the outputs that follow from a carry there."""
    order = slice(t + 1, None) if reverse else slice(None, t)
    ahead = slice(None, t + 1) if reverse else slice(t, None)

    def run(xs, carry, start):
        n = jnp.clip(lengths - start, 0, xs.shape[0])
        return rnnjax.unroll(cell, params, xs, carry, seq_lengths=n, reverse=reverse)

    carry, before = run(xs[order], None, t + 1 if reverse else 0)

    def outputs(carry):
        _, after = run(xs[ahead], carry, 0 if reverse else t)
        return jnp.concatenate((after, before) if reverse else (before, after))

    return carry, outputs


def norm(gradient):
    leaves = [g for g in jax.tree.leaves(gradient) if jnp.issubdtype(g.dtype, jnp.inexact)]
    return jnp.sqrt(sum(jnp.square(g).sum(-1) for g in leaves))  # [B]


def loss(ys):
    """Weigh batch-major outputs, those at early steps too."""
    return weighted_sum(ys) + (ys[:, -1] ** 2).sum()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lstm"])
def test_a_deep_network_cut_open_at_every_step(name, x64):
    """Not the outputs' gradients alone: through the recurrence of every layer."""
    cell, xs = CELLS[name], XS.astype(jnp.float64)
    net = Stack([RNN(cell), RNN(cell)])
    turned = jnp.swapaxes(xs, 0, 1)
    variables = jax.tree.map(lambda p: p.astype(jnp.float64), net.init(KEY, turned))
    first, second = (RNN(cell).cell_params(variables["params"][f"layers_{i}"]) for i in range(2))

    @jax.jit
    def by_hand(first, second, xs):
        def above(ys):
            return loss(jnp.swapaxes(rnnjax.unroll(cell, second, ys, seq_lengths=LENGTHS)[1], 0, 1))

        _, ys = rnnjax.unroll(cell, first, xs, seq_lengths=LENGTHS)
        rows = {"layers_0/carry": [], "layers_1/carry": []}
        for t in STEPS:
            state, outputs = cut_open(cell, first, xs, t, LENGTHS)
            slope = jax.grad(lambda s, f=outputs: above(f(s)), allow_int=True)(state)
            rows["layers_0/carry"].append(norm(slope))
            state, outputs = cut_open(cell, second, ys, t, LENGTHS)
            slope = jax.grad(lambda s, f=outputs: loss(jnp.swapaxes(f(s), 0, 1)), allow_int=True)
            rows["layers_1/carry"].append(norm(slope(state)))
        return {name: jnp.stack(norms) for name, norms in rows.items()}

    want = by_hand(first, second, xs)
    found = log_gradient_by_layer(net, variables, loss, turned, seq_lengths=LENGTHS)
    assert list(found) == ["inputs", "layers_0/carry", "layers_1/carry"]
    for name_, norms in want.items():
        got = np.exp(found[name_])[STEPS]
        np.testing.assert_allclose(got, norms, rtol=1e-10, atol=1e-14)
    slopes = jax.grad(lambda xs: loss(net.apply(variables, xs, seq_lengths=LENGTHS)))(turned)
    inputs = jnp.linalg.norm(jnp.swapaxes(slopes, 0, 1), axis=-1)
    np.testing.assert_allclose(np.exp(found["inputs"]), inputs, rtol=1e-10)


@pytest.mark.slow
def test_both_directions_cut_open():
    cell = GRU(H)
    net = Bidirectional(RNN(cell), RNN(cell))
    turned = jnp.swapaxes(XS, 0, 1)
    variables = net.init(KEY, turned)
    found = log_gradient_by_layer(net, variables, loss, turned, seq_lengths=LENGTHS)
    ends = {"forward_rnn": False, "backward_rnn": True}
    params = {end: RNN(cell).cell_params(variables["params"][end]) for end in ends}
    outputs = {
        end: rnnjax.unroll(cell, params[end], XS, seq_lengths=LENGTHS, reverse=reverse)[1]
        for end, reverse in ends.items()
    }

    @jax.jit
    def by_hand(params, outputs):
        rows = {end: [] for end in ends}
        for end, reverse in ends.items():
            for t in STEPS:
                state, rest = cut_open(cell, params[end], XS, t, LENGTHS, reverse)

                def total(state, now=end, rest=rest):
                    both = {**outputs, now: rest(state)}
                    return loss(
                        jnp.swapaxes(jnp.concatenate([both[end] for end in ends], -1), 0, 1)
                    )

                rows[end].append(norm(jax.grad(total)(state)))
        return {end: jnp.stack(norms) for end, norms in rows.items()}

    for end, want in by_hand(params, outputs).items():
        np.testing.assert_allclose(np.exp(found[f"{end}/carry"])[STEPS], want, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lstm", "leaky"])
def test_a_layer_of_one_cell_is_the_cells_own_profile_entry_by_entry(name, x64):
    """s_t is the carry that enters step t, in the layer as in `adjoints`."""
    cell = CELLS[name]
    xs = XS.astype(jnp.float64)
    net = RNN(cell, time_major=True)
    variables = jax.tree.map(lambda p: p.astype(jnp.float64), net.init(KEY, xs))
    params = net.cell_params(variables["params"])
    found = log_gradient_by_layer(net, variables, weighted_sum, xs, time_major=True)["carry"]
    want = adjoints(cell, params, xs, weighted_sum)
    flat = [a.reshape(T, B, -1) for a in jax.tree.leaves(want)]
    norms = jnp.linalg.norm(jnp.concatenate(flat, -1), axis=-1)
    np.testing.assert_allclose(found, jnp.log(norms), rtol=1e-10)
    by_lag = gradient_profile(cell, params, xs, weighted_sum).log_norms
    np.testing.assert_allclose(found[::-1], by_lag, rtol=1e-10)


@pytest.mark.slow
def test_the_shown_carries_are_those_that_enter_each_step():
    for reverse in (False, True):
        net = RNN(LSTM(H), time_major=True, reverse=reverse)
        variables = net.init(KEY, XS)
        start = jax.tree.map(lambda s: s + 0.5, net.cell.initial_carry((B,)))
        given = {"initial_carry": start, "seq_lengths": LENGTHS, "mutable": ["intermediates"]}
        _, state = net.apply(variables, XS, **given)
        (found,) = state["intermediates"]["carry"]
        params = net.cell_params(variables["params"])
        for t in range(T):
            behind = slice(t + 1, None) if reverse else slice(None, t)
            n = jnp.clip(LENGTHS - (t + 1 if reverse else 0), 0, len(XS[behind]))
            want, _ = rnnjax.unroll(
                net.cell, params, XS[behind], start, seq_lengths=n, reverse=reverse
            )
            for got, leaf in zip(found, want, strict=True):
                np.testing.assert_allclose(got[t], leaf, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_it_agrees_with_the_profile_in_log_space(x64):
    cell = Elman(H, recurrent_kernel_init=rnnjax.cells.initializers.Orthogonal(0.6))
    total = 400
    xs = jax.random.normal(KEY, (total, B, D))
    last = jax.random.normal(KEY, (B, H))
    net = RNN(cell, time_major=True)
    for dtype, lags, tolerance in ((jnp.float64, total, 1e-8), (jnp.float32, 110, 1e-3)):
        cast = lambda tree, dtype=dtype: jax.tree.map(lambda a: a.astype(dtype), tree)  # noqa: E731
        variables = cast(net.init(KEY, xs))

        @jax.jit
        def found(variables, xs, last):
            def end(ys):
                return (ys[-1] * last).sum()

            return log_gradient_by_layer(net, variables, end, xs, time_major=True)["carry"]

        params = net.cell_params(variables["params"])
        cotangent = rnnjax.cells.ElmanCarry(cast(last))
        want = log_gradient_profile(cell, params, cast(xs), cotangent)
        got = found(variables, cast(xs), cast(last))
        np.testing.assert_allclose(got[total - lags :], want[total - lags :], atol=tolerance)
        assert want[0].max() < -380  # where a plain float32 has been zero for long
        if dtype == jnp.float32:
            assert np.isneginf(got[0]).all()
            smallest = got[np.isfinite(got)].min()
            assert -116 < smallest < -112  # 1e-50
            near = np.isfinite(got)  # right to the last of them
            np.testing.assert_allclose(got[near], want[near], atol=tolerance)


@pytest.mark.slow
def test_blocks_of_the_cnn_and_the_transformer():
    turned = jnp.swapaxes(XS, 0, 1)
    net = TCN(H, num_blocks=1)
    found = log_gradient_by_layer(net, net.init(KEY, turned), loss, turned)
    ys = net.apply(net.init(KEY, turned), turned)
    want = jnp.linalg.norm(jax.grad(loss)(ys), axis=-1).T
    np.testing.assert_allclose(np.exp(found["block_0"]), want, rtol=1e-5)

    net = Transformer(H, num_heads=2)
    variables = net.init(KEY, turned)
    _, state = net.apply(variables, turned, mutable=["intermediates"])
    (xs,) = state["intermediates"]["block_1"]

    def after_the_last_block(xs):
        return loss(nn.LayerNorm().apply({"params": variables["params"]["norm"]}, xs))

    want = jnp.linalg.norm(jax.grad(after_the_last_block)(xs), axis=-1).T
    found = log_gradient_by_layer(net, variables, loss, turned)
    assert list(found) == ["inputs", "block_0", "block_1"]
    np.testing.assert_allclose(np.exp(found["block_1"]), want, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["additive"])
def test_a_whole_encoder_decoder_in_order(name):
    model = architectures.translators(LSTM(H))[name]
    tokens = jax.random.randint(KEY, (B, T), 0, V)
    previous = tokens[:, :4]
    variables = model.init(KEY, tokens, previous)

    def last(ys):
        return (ys[:, -1] ** 2).sum()

    profiles = log_gradient_by_layer(model, variables, last, tokens, previous)
    jitted = jax.jit(lambda v: log_gradient_by_layer(model, v, last, tokens, previous))(variables)
    for n in profiles:
        np.testing.assert_allclose(jitted[n], profiles[n], atol=1e-4)
    encoder = {
        "additive": ["forward_rnn/carry", "backward_rnn/carry"],
        "dot_product": ["block_0"],
    }[name]
    names = [f"encoder/{n}" for n in encoder]
    names += [f"decoder/layer/layers_{i}/carry" for i in range(2)]
    assert list(profiles) == names
    for n, values in profiles.items():
        assert values.shape == ((T if n.startswith("encoder") else 4), B)
        assert np.isfinite(values).all()  # all of it leads to the last output
    # Marks change nothing: neither values nor other gradients.
    marks = model.apply(variables, tokens, previous, mutable=["perturbations"])[1]
    got = model.apply({**variables, **marks}, tokens, previous)
    assert oracles.relative_error(got, model.apply(variables, tokens, previous)) < 1e-6
    # Stale ones, of another T, are ignored.
    again = log_gradient_by_layer(model, {**variables, **marks}, last, tokens[:, :5], previous)
    assert list(again) == names


class Foreign(nn.Module):
    """A module that has never heard of rnnjax."""

    @nn.compact
    def __call__(self, xs):
        xs = nn.tanh(nn.Conv(H, (2,), padding="CAUSAL")(xs))
        xs = self.perturb("middle", xs) if self.variant else xs
        return nn.Dense(2)(xs)

    variant: bool = False


@pytest.mark.slow
def test_any_flax_module():
    turned = jnp.swapaxes(XS, 0, 1)
    plain, marks_itself = Foreign(), Foreign(variant=True)
    variables = plain.init(KEY, turned)
    with pytest.raises(ValueError, match="no layer of Foreign calls perturb; see outputs_of"):
        log_gradient_by_layer(plain, variables, loss, turned)
    found = log_gradient_by_layer(plain, variables, loss, turned, outputs_of=(nn.Conv, nn.Dense))
    assert list(found) == ["inputs", "Conv_0/output", "Dense_0/output"]
    ys = plain.apply(variables, turned)
    slope = jax.grad(loss)(ys)
    np.testing.assert_allclose(
        np.exp(found["Dense_0/output"]), jnp.linalg.norm(slope, axis=-1).T, rtol=1e-5
    )
    kernel = variables["params"]["Dense_0"]["kernel"]
    want = jnp.linalg.norm(slope @ kernel.T, axis=-1).T
    found = log_gradient_by_layer(marks_itself, marks_itself.init(KEY, turned), loss, turned)
    np.testing.assert_allclose(np.exp(found["middle"]), want, rtol=1e-5)


@pytest.mark.slow
def test_what_has_no_gradient_and_what_has_too_much():
    net = RNN(Elman(H, activation_fn=rnnjax.cells.identity))
    turned = jnp.swapaxes(XS, 0, 1)
    variables = net.init(KEY, turned)
    found = log_gradient_by_layer(net, variables, lambda ys: ys[:, 2].sum(), turned)["carry"]
    assert np.isneginf(found[3:]).all() and np.isfinite(found[:3]).all()
    cell = {"input_kernel": jnp.ones((D, H)), "bias": jnp.zeros(H)}
    for gain, fails in ((1e3, False), (1e7, True)):
        grows = {"params": {"cell": {**cell, "recurrent_kernel": gain * jnp.eye(H)}}}
        last = lambda ys: (ys[:, -1] * 1.0).sum()  # noqa: E731
        if fails:
            with pytest.raises(FloatingPointError, match="the gradient at .* is not finite"):
                log_gradient_by_layer(net, grows, last, turned)
        else:
            found = log_gradient_by_layer(net, grows, last, turned)["carry"]
            want = np.log(np.sqrt(H)) + np.log(1e3) * np.arange(T, 0, -1)[:, None]
            np.testing.assert_allclose(found, np.broadcast_to(want, found.shape), rtol=1e-5)


@pytest.mark.slow
def test_wrong_losses_and_shapes():
    net = RNN(GRU(H))
    turned = jnp.swapaxes(XS, 0, 1)
    variables = net.init(KEY, turned)
    with pytest.raises(ValueError, match=r"loss must return a scalar, got shape \(2,\)"):
        log_gradient_by_layer(net, variables, lambda ys: ys[:, -1].sum(-1), turned)
    embedded = nn.Sequential([layers.Embed(V, D), RNN(GRU(H))])
    tokens = jnp.zeros((B, T), jnp.int32)
    variables = embedded.init(KEY, tokens)
    found = log_gradient_by_layer(embedded, variables, loss, tokens)
    assert list(found) == ["layers_1/carry"]  # tokens have no gradient
    mlp = nn.Dense(2)
    with pytest.raises(ValueError, match="output needs axes for batch and time"):
        variables = mlp.init(KEY, jnp.zeros(D))
        log_gradient_by_layer(mlp, variables, jnp.sum, jnp.zeros(D), outputs_of=(nn.Dense,))
