"""`check_cell` fails, in one sentence that names the fault, on cells broken on purpose."""

import dataclasses
import inspect
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax import LSTM, Cell, Elman
from rnnjax.testing.check_cell import CellError, _check_bfloat16, check_cell


class Carry(NamedTuple):
    h: Any


class Params(NamedTuple):
    w: Any
    u: Any


@dataclasses.dataclass(frozen=True)
class Sound(Cell):
    """h' = tanh(x w + h u): the cell that the others break. Not of the gated family."""

    features: int = 3

    def init(self, key, input_size):
        w = jax.random.normal(key, (input_size, self.features), jnp.float32)
        u = jax.random.normal(key, (self.features, self.features), jnp.float32)
        return Params(w, 0.5 * u)

    def initial_carry(self, batch_shape):
        return Carry(jnp.zeros((*batch_shape, self.features), jnp.float32))

    def project(self, params, x):
        return x @ params.w

    def step(self, params, carry, u):
        return Carry(jnp.tanh(u + carry.h @ params.u))

    def output(self, carry):
        return carry.h


def test_a_sound_cell_passes():
    check_cell(Sound(), 2)


def test_the_check_of_bfloat16_also_works_in_a_session_with_64_bit_types(x64):
    _check_bfloat16(LSTM(3), 2, jax.random.key(0))
    _check_bfloat16(Elman(3), 2, jax.random.key(0))


class NotACell:
    pass


class HoldsArrays(Sound):
    def __init__(self):
        object.__setattr__(self, "features", jnp.ones(3))


class ComparesByIdentity(Sound):
    __hash__ = object.__hash__

    def __eq__(self, other):
        return self is other


COUNTER = itertools.count()


class DrawsFromGlobalState(Sound):
    def init(self, key, input_size):
        params = Sound.init(self, key, input_size)
        return params._replace(w=params.w + next(COUNTER))


class InitialisesToNaN(Sound):
    def init(self, key, input_size):
        params = Sound.init(self, key, input_size)
        return params._replace(u=params.u / 0)


class HasIntegerParameters(Sound):
    def init(self, key, input_size):
        return Sound.init(self, key, input_size)._replace(w=jnp.ones((input_size, 3), jnp.int32))


class ImpureStep(Sound):
    def step(self, params, carry, u):
        return Carry(Sound.step(self, params, carry, u).h + next(COUNTER))


class ImpureProject(Sound):
    def project(self, params, x):
        return x @ params.w + np.random.default_rng().normal()


class DiffersUnderJit(Sound):
    def step(self, params, carry, u):
        traced = isinstance(u, jax.core.Tracer)
        return Carry(Sound.step(self, params, carry, u).h * (0.9 if traced else 1.0))


class KeepsATracer(Sound):
    def step(self, params, carry, u):
        KEPT.append(u)
        return Sound.step(self, params, carry, u)


KEPT: list[Any] = []


class FixedBatch(Sound):
    def initial_carry(self, batch_shape):
        return Carry(jnp.zeros((2, self.features), jnp.float32))


class SharedState(Sound):
    def initial_carry(self, batch_shape):
        return Carry(jnp.zeros((self.features,), jnp.float32))


class AveragesTheBatch(Sound):
    def step(self, params, carry, u):
        new = jnp.tanh(u + carry.h @ params.u)
        return Carry(new - new.mean(axis=tuple(range(new.ndim - 1)), keepdims=True))


class SingleExampleOnly(Sound):
    def step(self, params, carry, u):
        return Carry(jnp.tanh(u + jnp.einsum("i,ij->j", carry.h, params.u)))


class LooksAcrossTime(Sound):
    def project(self, params, x):
        u = x @ params.w
        return u - u.mean(axis=0, keepdims=True) if u.ndim == 4 else u


class WrongGradient(Sound):
    def step(self, params, carry, u):
        return Carry(wrong_tanh(u + carry.h @ params.u))


@jax.custom_vjp
def wrong_tanh(x):
    return jnp.tanh(x)


wrong_tanh.defvjp(lambda x: (jnp.tanh(x), jnp.tanh(x)), lambda y, g: (g * (1 - y),))


class StopsGradient(Sound):
    def step(self, params, carry, u):
        return Carry(jnp.tanh(u + jax.lax.stop_gradient(carry.h) @ params.u))


class Bfloat16Carry(Sound):
    def step(self, params, carry, u):
        new = Sound.step(self, params, carry, u).h
        return Carry(new.astype(jnp.bfloat16) if new.dtype == jnp.float32 else new)


class ChangesStructure(Sound):
    def step(self, params, carry, u):
        return (Sound.step(self, params, carry, u).h,)


@pytest.mark.parametrize(
    ("cell", "sentence"),
    [
        (NotACell(), "NotACell is not a subclass of rnnjax.Cell"),
        (HoldsArrays(), "HoldsArrays is not hashable .* holds no arrays"),
        (ComparesByIdentity(), "ComparesByIdentity and its copy are not equal with equal hashes"),
        (DrawsFromGlobalState(), "init gives different parameters for the same key"),
        (InitialisesToNaN(), r"InitialisesToNaN.init.u holds values that are not finite"),
        (HasIntegerParameters(), r"HasIntegerParameters.init.w is not a floating-point array"),
        (ImpureStep(), "ImpureStep.step is not a pure function: two calls"),
        (ImpureProject(), "ImpureProject.project is not a pure function: two calls"),
        (DiffersUnderJit(), "DiffersUnderJit.step is not a pure function: under jax.jit"),
        (KeepsATracer(), "KeepsATracer fails in purity: .*[Ll]eak"),
        (FixedBatch(), r"initial_carry\(\(3, 2\)\).h has shape \(2, 3\), which is not the batch"),
        (SharedState(), r"initial_carry\(\(3, 2\)\).h has shape \(3,\), which is not the batch"),
        (AveragesTheBatch(), "AveragesTheBatch.step mixes the examples of a batch"),
        (SingleExampleOnly(), "SingleExampleOnly fails in purity: ValueError"),
        (LooksAcrossTime(), "LooksAcrossTime.project mixes time steps"),
        (WrongGradient(), r"gradient of WrongGradient with respect to its .* finite differences"),
        (StopsGradient(), r"gradient of StopsGradient with respect to its .* finite differences"),
        (Bfloat16Carry(), r"the carry of Bfloat16Carry becomes bfloat16 at .h instead of float32"),
        (ChangesStructure(), "ChangesStructure.step returns a carry of the structure"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_a_broken_cell_is_refused_in_one_sentence(cell, sentence):
    with pytest.raises(CellError, match=sentence) as failure:
        inspect.unwrap(check_cell)(cell, 2)  # past the type checks that only our tests have
    assert "\n" not in str(failure.value)
