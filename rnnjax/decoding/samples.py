"""What Flax models write: after a prompt, from a context, or as the translation of a sequence."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int32, PRNGKeyArray

from rnnjax.decoding.beams import beam_search
from rnnjax.decoding.sequences import sample
from rnnjax.decoding.truncation import check_truncation

PyTree = Any
BLOCK = 64  # prompts are padded to a multiple of this length, so that few programs are compiled


def sample_after(
    model: Any, params: PyTree, prompt: Int32[np.ndarray, " N"], key: PRNGKeyArray, **options: Any
) -> Int32[np.ndarray, " length"]:
    """Return the tokens that a model draws after a prompt.

    Args:
        model: a Flax module such as `rnnjax.models.ManyToMany`: called with `seq_lengths` and
            `return_carry`, and one step at a time with `method="step"`.
        params: its parameters.
        prompt: at least one token; the last one is the first input of `sample`.
        key: of the random numbers.
        options: of `sample`: `length`, and perhaps `temperature`, `top_k`, `top_p`, `end` and
            `never`. A program is compiled for each length, top_k, end, never, and multiple of
            `BLOCK` of the prompt.

    Raises:
        ValueError: the prompt is empty; others as for `sample`.
    """
    if not len(prompt):
        raise ValueError("the prompt needs at least one token")
    _check(**options)
    read = np.zeros((1, BLOCK * -(-len(prompt) // BLOCK)), np.int32)
    read[0, : len(prompt) - 1] = prompt[:-1]
    lengths = np.array([len(prompt) - 1], np.int32)
    return np.asarray(_after(model, params, read, lengths, prompt[-1:], key, **options)[0])


def sample_from(
    model: Any,
    params: PyTree,
    contexts: Float32[np.ndarray, "B C"],
    start: int,
    key: PRNGKeyArray,
    **options: Any,
) -> Int32[np.ndarray, "B length"]:
    """Return the tokens that a model draws from each context.

    Args:
        model: a Flax module such as `rnnjax.models.OneToMany`, with the methods `start` and `step`.
        params: its parameters.
        contexts: what sets the first state.
        start: the first input.
        key, options: as for `sample_after`.

    Raises:
        ValueError: as for `sample`.
    """
    _check(**options)
    return np.asarray(_from(model, params, contexts, start, key, **options))


def translate(
    model: Any,
    params: PyTree,
    inputs: Int32[Array, "B S"],
    lengths: Int32[Array, " B"],
    *,
    start: int,
    **options: Any,
) -> tuple[Int32[Array, "B length"], Float[Array, "B length S"]]:
    """Return the best output that a beam search finds for each input, and the attention.

    The model reads its own output once more to tell where it looked before each token.

    Args:
        model: a Flax module such as `rnnjax.models.EncoderDecoder`, with the methods `start` and
            `step`, whose decoder has attention.
        params: its parameters.
        inputs: tokens to read.
        lengths: of the inputs.
        start: the first input of the decoder.
        options: of `beam_search`.
    """
    variables = {"params": params}
    state = model.apply(variables, inputs, seq_lengths=lengths, method="start")
    step = functools.partial(model.apply, variables, method="step")
    tokens = beam_search(step, state, start, **options)[0][:, 0]
    previous = jnp.concatenate([jnp.full_like(tokens[:, :1], start), tokens[:, :-1]], axis=1)
    sown = "intermediates"
    _, found = model.apply(variables, inputs, previous, seq_lengths=lengths, mutable=[sown])
    (weights,) = found[sown]["decoder"]["attention"]["weights"]
    return tokens, weights


def _check(temperature=1.0, top_k=None, top_p=None, **_):
    """Check what is no longer known once it is traced."""
    check_truncation(temperature, top_k, top_p)


def _compiled(function):
    """Return the function, compiled for each model and each option but temperature and top_p."""
    static = "model", "start", "length", "top_k", "end", "never"
    return jax.jit(function, static_argnames=static)


@_compiled
def _after(model, params, tokens, lengths, last, key, **options):
    variables = {"params": params}
    carry, _ = model.apply(variables, tokens, seq_lengths=lengths, return_carry=True)
    step = functools.partial(model.apply, variables, method="step")
    return sample(step, carry, last, key=key, **options).tokens


@_compiled
def _from(model, params, contexts, start, key, **options):
    variables = {"params": params}
    state = model.apply(variables, contexts, method="start")
    step = functools.partial(model.apply, variables, method="step")
    return sample(step, state, start, key=key, **options).tokens
