"""Models put together by hand from parameters and cells."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from architectures import D, H, V, weighted_sum
from jax import lax

from rnnjax import LSTM, layers, models
from rnnjax.layers import RNN

KEY = jax.random.key(0)
B, T = 3, 5
LENGTHS = (T, 2, 0)
N = jnp.array(LENGTHS)
VALID = np.arange(T) < np.array(LENGTHS)[:, None]
TARGETS = jnp.array([4, 2, 0])
normal = jax.nn.initializers.normal(1.0)


def random_tokens(*shape, size=V):
    return np.random.default_rng(0).integers(0, size, shape, np.int32)


def random_values(*shape, scale=1.0, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(0, scale, shape), jnp.float32)


XS, CONTEXT = random_values(B, T, D), random_values(B, 2)
TOKENS, PREVIOUS = map(jnp.asarray, np.split(random_tokens(B, T + 4), [T], 1))


def params_of(model, *inputs, scale=0.5, **options):
    """Return parameters none of which is zero, biases included."""
    shapes = jax.eval_shape(functools.partial(model.init, **options), KEY, *inputs)["params"]
    leaves, structure = jax.tree.flatten(shapes)
    pairs = enumerate(leaves)
    return structure.unflatten([random_values(*a.shape, scale=scale, seed=i) for i, a in pairs])


def with_gradients(run, *inputs):
    """Return `run(*inputs)` and the gradients, with respect to all inputs, of a sum over it."""

    def loss(inputs):
        values = run(*inputs)
        return weighted_sum(values), values

    return jax.grad(loss, has_aux=True)(inputs)


def check_equal(run, hands, *inputs):
    """Compare a function of pytrees with others, leaf by leaf, in values and gradients."""
    every = jax.jit(lambda *inputs: [with_gradients(f, *inputs) for f in (run, *hands)])
    (gradients, values), *wanted = jax.device_get(every(*inputs))
    for wanted_gradients, wanted_values in wanted:
        assert jax.tree.structure(values) == jax.tree.structure(wanted_values)
        close((values, gradients), (wanted_values, wanted_gradients), 1e-4)
    return values, gradients


def close(got, want, tolerance=1e-5):
    """Compare leaf by leaf, each with its largest value, or a hundredth of that of all."""
    pairs = jax.tree.leaves_with_path(got), jax.tree.leaves(want)
    largest = max(np.max(np.abs(b), initial=0) for b in pairs[1])
    for (path, a), b in zip(*pairs, strict=True):
        assert np.shape(a) == np.shape(b)
        scale = max(np.max(np.abs(b), initial=0), largest / 100) or 1
        apart = np.max(np.abs(np.asarray(a) - np.asarray(b)), initial=0)
        assert apart < tolerance * scale, f"{jax.tree_util.keystr(path)} by {apart / scale:.1e}"


def dense(params, xs):
    """Return the linear map of a `Dense`, or of a head."""
    params = params.get("dense", params)
    return xs @ params["kernel"] + params.get("bias", 0)


def loop(cell, params, xs, carry=None):
    """Return the outputs `[T+1, B, H]` of the carries before, between and after the steps."""
    carry = cell.initial_carry(xs.shape[:1]) if carry is None else carry

    def step(carry, x):
        carry = cell.step(params, carry, cell.project(params, x))
        return carry, cell.output(carry)

    _, ys = lax.scan(step, carry, jnp.swapaxes(xs, 0, 1))
    return jnp.concatenate([cell.output(carry)[None], ys])


def own(cell, params):
    return RNN(cell).cell_params(params)


def translator(attention=None, cell=LSTM, vocabulary=V, features=H):
    def embed():
        return layers.Embed(vocabulary, D)

    head = layers.SoftmaxHead(vocabulary)
    decoder = models.OneToMany(RNN(cell(features)), head, embed(), attention)
    return models.EncoderDecoder(RNN(cell(features)), decoder, embed())


def collapsed(path, blank):
    return tuple(k for k, _ in itertools.groupby(path) if k != blank)
