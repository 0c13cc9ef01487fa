"""The captioner is its decoder, given its perceptron's output; stepping gives the same logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax
from rnnjax.layers import RNN, Embed, LinearHead, SoftmaxHead
from rnnjax.models import Captioner, OneToMany, OneToOne, shift_right

MODEL = Captioner(
    OneToOne(LinearHead(3), hidden=(7,), activation_fn=jax.nn.relu),
    OneToMany(RNN(rnnjax.GRU(5)), SoftmaxHead(6), Embed(6, 3)),
)


@pytest.mark.slow
def test_the_logits_are_those_of_the_decoder_at_once_and_step_by_step():
    inputs = jax.random.normal(jax.random.key(0), (2, 4))
    targets = jnp.array([[2, 3, 1, 0], [5, 4, 3, 1]])
    previous = shift_right(targets, 1)
    params = MODEL.init(jax.random.key(1), inputs, previous)["params"]
    variables = {"params": params}
    logits = MODEL.apply(variables, inputs, previous)
    context = MODEL.perceptron.apply({"params": params["perceptron"]}, inputs)
    np.testing.assert_array_equal(MODEL.apply(variables, inputs, method="context"), context)
    alone = MODEL.decoder.apply({"params": params["decoder"]}, context, previous)
    np.testing.assert_allclose(logits, alone, rtol=1e-6)
    np.testing.assert_allclose(
        MODEL.apply(variables, context, previous, method="decode"), alone, rtol=1e-6
    )
    state = MODEL.apply(variables, inputs, method="start")
    for t in range(4):
        state, found = MODEL.apply(variables, state, previous[:, t], method="step")
        np.testing.assert_allclose(found, logits[:, t], rtol=1e-5, atol=1e-6)
