"""`check_cell` fails, in one sentence that names the fault, on cells broken on purpose."""

import dataclasses
import inspect
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import own_cells
import pytest

from rnnjax import LSTM, Cell, Elman
from rnnjax.cells import GatedStep, Zoneout
from rnnjax.recurrence import backward
from rnnjax.recurrence.running import _unroll
from rnnjax.testing import CellError, check_cell
from rnnjax.testing.precision import check_bfloat16, check_types
from rnnjax.testing.problems import Problem
from rnnjax.testing.unrolled import check_loop


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
        return Carry(jnp.tanh(u + carry.h @ params.u).astype(carry.h.dtype))

    def output(self, carry):
        return carry.h


@pytest.mark.slow
def test_a_sound_cell_passes():
    check_cell(Sound(), 2)


@pytest.mark.slow
def test_the_check_of_bfloat16_also_works_in_a_session_with_64_bit_types(x64):
    check_bfloat16(Problem(LSTM(3), 2, jax.random.key(0)))
    check_bfloat16(Problem(Elman(3), 2, jax.random.key(0)))


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


class FollowsTheInputs(Sound):
    def step(self, params, carry, u):
        return Carry(jnp.tanh(u + carry.h @ params.u))


class ChangesStructure(Sound):
    def step(self, params, carry, u):
        return (Sound.step(self, params, carry, u).h,)


class CountsInFloats(Sound):
    """The step counter starts as an integer and becomes a float."""

    def initial_carry(self, batch_shape):
        return CountedCarry(
            jnp.zeros(batch_shape, jnp.int32), jnp.zeros((*batch_shape, self.features))
        )

    def step(self, params, carry, u):
        return CountedCarry(carry.steps + 1.0, jnp.tanh(u + carry.h @ params.u))


class CountedCarry(NamedTuple):
    steps: Any
    h: Any


class GrowsTheCarry(Sound):
    def step(self, params, carry, u):
        return Carry(jnp.concatenate([Sound.step(self, params, carry, u).h, u], -1))


class IntegerOutput(Sound):
    def output(self, carry):
        return (carry.h > 0).astype(jnp.int32)


class SaysAnotherOutputSize(Sound):
    @property
    def output_size(self):
        return 7


class PreparesAtRandom(Sound):
    def prepare(self, params):
        return params._replace(w=params.w * (1 + next(COUNTER)))


class PreparesWithoutGradient(Sound):
    def prepare(self, params):
        return params._replace(u=jax.lax.stop_gradient(params.u) + 0 * params.u)


class ForgetsToPrepare(Sound):
    def prepare(self, params):
        return {"kernels": params}


@dataclasses.dataclass(frozen=True)
class Spiral(Cell):
    """z' = a z + x W with complex a and W, a step counter, and y = Re z: complex and sound."""

    features: int = 3

    def init(self, key, input_size):
        keys = jax.random.split(key)
        a = 0.7 * jnp.exp(1j * jax.random.uniform(keys[0], (self.features,), jnp.float32))
        return Params(jax.random.normal(keys[1], (input_size, self.features), jnp.complex64), a)

    def initial_carry(self, batch_shape):
        z = jnp.zeros((*batch_shape, self.features), jnp.complex64)
        return CountedCarry(jnp.zeros(batch_shape, jnp.int32), z)

    def project(self, params, x):
        return x @ params.w

    def step(self, params, carry, u):
        z = params.u * carry.h + u
        return CountedCarry(carry.steps + 1, z.astype(carry.h.dtype))

    def output(self, carry):
        return carry.h.real


class ComplexOutput(Spiral):
    def output(self, carry):
        return carry.h


class DropsThePhase(Spiral):
    def step(self, params, carry, u):
        return CountedCarry(carry.steps + 1, (params.u * carry.h + u).real)


class WrongImaginaryGradient(Spiral):
    def step(self, params, carry, u):
        z = params.u * carry.h + u
        frozen = jax.lax.stop_gradient(z.imag)
        return CountedCarry(carry.steps + 1, jax.lax.complex(z.real, frozen))


@dataclasses.dataclass(frozen=True)
class Product(GatedStep):
    """A gated cell, h' = tanh(u + v), without the fields of `Gated`. Sound in all three forms."""

    form: str = "dense"
    gate_names = ("h",)
    dtype = None

    def init(self, key, input_size):
        shapes = {"dense": (4, 4), "block": (2, 2, 2), "diagonal": (4,)}
        u = jax.random.normal(key, shapes[self.form], jnp.float32)
        return Params(jax.random.normal(key, (input_size, 4), jnp.float32), 0.5 * u)

    def initial_carry(self, batch_shape):
        return Carry(jnp.zeros((*batch_shape, 4), jnp.float32))

    def project(self, ready, x):
        return x @ ready.w

    def recurrent_kernel(self, ready):
        return ready.u

    def elementwise(self, ready):
        return None

    def gates(self, params, carry, u, v):
        return Carry(jnp.tanh(u + v[0]))

    def output(self, carry):
        return carry.h


class MultipliesTooLittle(Product):
    def recurrent_input(self, carry, u):
        return carry.h[..., :3]


class FourAxes(Product):
    def recurrent_kernel(self, ready):
        return ready.u[None, None]


class GateNamesTwice(Product):
    gate_names = ("h", "h")


class UnevenGates(Product):
    gate_names = ("a", "b", "c")


class GatesMixTheBatch(Product):
    def gates(self, params, carry, u, v):
        h = jnp.tanh(u + v[0])
        return Carry(h - h.mean(axis=tuple(range(h.ndim - 1)), keepdims=True))


class GatesRoundTheCarry(Product):
    def gates(self, params, carry, u, v):
        return Carry(jnp.tanh(u + v[0]).astype(jnp.float16))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["dense", "block", "diagonal"])
def test_gated_cells_of_every_form_pass(form):
    check_cell(Product(form), 2)


def check(cell, input_size):
    """Check a cell past the type checks that only our tests have."""
    inspect.unwrap(check_cell)(cell, input_size)


@dataclasses.dataclass(frozen=True)
class Typed(Product):
    """A gated cell is given its carry's type back, that of `param_dtype`."""

    param_dtype: Any = jnp.float32

    def initial_carry(self, batch_shape):
        return Carry(jnp.zeros((*batch_shape, 4), self.param_dtype))


class TypedPlain(Typed):
    def step(self, ready, carry, u):
        v = self.recur(ready, carry, u)
        return self.gates(None, carry, u, v)


def test_a_carry_that_follows_the_inputs_is_found_in_bfloat16_too():
    check_types(Problem(Typed(), 2, jax.random.key(0)))
    with pytest.raises(CellError, match="bfloat16 parameters and float32 inputs it received bfl"):
        check_types(Problem(TypedPlain(), 2, jax.random.key(0)))


@pytest.mark.slow
def test_parameters_of_every_shape_pass_and_integers_belong_into_prepare():
    check(own_cells.Odd(3), 2)
    check(own_cells.Leaky(3), 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell", "sizes"),
    [
        (own_cells.GRUD(3, inputs=2), {"value": 2, "mask": 2, "step": 2}),
        (Zoneout(own_cells.Timed(3), 0.3), own_cells.TimedInputs(2, 1)),
    ],
    ids=["GRU-D", "timed"],
)
def test_cells_whose_inputs_are_a_tree_pass(cell, sizes):
    check(cell, sizes)


SPIKING = {
    f"{kind.__name__} {how}": kind(3, spike=spike)
    for kind, how, spike in (
        (own_cells.LIF, "vjp", own_cells.spike_in_reverse),
        (own_cells.PlainLIF, "jvp", own_cells.spike),
    )
}


@pytest.mark.slow
@pytest.mark.parametrize("cell", SPIKING.values(), ids=SPIKING)
def test_surrogate_slopes_pass_if_declared(cell):
    check(cell, 2)


@pytest.mark.slow
def test_surrogate_slopes_are_wrong_if_not_declared():
    undeclared = type("Undeclared", (own_cells.LIF,), {"surrogate_gradient": False})
    with pytest.raises(CellError, match="finite differences give .*surrogate_gradient = True"):
        check(undeclared(3), 2)


@pytest.mark.slow
def test_the_gradient_of_a_declared_cell_is_still_that_of_a_python_loop(monkeypatch):
    """A fast path that is wrong is found in spite of the declaration."""
    _unroll.clear_cache()
    right = backward.product_back
    monkeypatch.setattr(backward, "product_back", lambda *a: 1.01 * right(*a))
    with pytest.raises(CellError, match="LIF with no options differs from a Python loop"):
        check_loop(Problem(own_cells.LIF(3), 2, jax.random.key(0)))
    _unroll.clear_cache()


@pytest.mark.slow
def test_a_complex_diagonal_passes():
    """diag(.9 e^.5i, .5 e^i): two complex entries, four real dimensions."""

    class Diagonal(Spiral):
        def init(self, key, input_size):
            a = jnp.array([0.9 * np.exp(0.5j), 0.5 * np.exp(1j)], jnp.complex64)
            return Spiral.init(self, key, input_size)._replace(u=a)

    check(Diagonal(2), 2)


@pytest.mark.slow
def test_complex_cells_pass():
    check_cell(Spiral(), 2)
    check_cell(ComplexOutput(), 2)


BROKEN = [
    (NotACell(), "NotACell is not a subclass of rnnjax.Cell"),
    (HoldsArrays(), "HoldsArrays is not hashable .* holds no arrays"),
    (ComparesByIdentity(), "ComparesByIdentity and its copy are not equal with equal hashes"),
    (DrawsFromGlobalState(), "init gives different parameters for the same key"),
    (InitialisesToNaN(), r"InitialisesToNaN.init.u holds values that are not finite"),
    (HasIntegerParameters(), "HasIntegerParameters.init.w is not a floating-point or comp"),
    (ImpureStep(), "ImpureStep.step is not a pure function: two calls"),
    (ImpureProject(), "ImpureProject.project is not a pure function: two calls"),
    (DiffersUnderJit(), "DiffersUnderJit.step is not a pure function: its result under jax"),
    (KeepsATracer(), "KeepsATracer.step is not a pure function: it fails under jax.jit .*Leak"),
    (FixedBatch(), r"initial_carry\(\(2,\)\).h has shape \(2, 3\), which is not the batch"),
    (SharedState(), r"initial_carry\(\(2,\)\).h has shape \(3,\), which is not the batch"),
    (AveragesTheBatch(), "AveragesTheBatch.step mixes the examples of a batch"),
    (SingleExampleOnly(), r"SingleExampleOnly.step must accept any batch shape, here \(2,\)"),
    (LooksAcrossTime(), "LooksAcrossTime.project mixes time steps"),
    (WrongGradient(), r"gradient of WrongGradient with respect to its .* finite differences"),
    (StopsGradient(), r"gradient of StopsGradient with respect to its .* finite differences"),
    (
        Bfloat16Carry(),
        "Bfloat16Carry.step must return a carry of the same types it received: at .h it "
        "received float32 and returned bfloat16",
    ),
    (
        FollowsTheInputs(),
        "whatever those of parameters and inputs: with float32 parameters and float64 inputs it "
        r"received float32 and returned float64 at .h, so lax.scan .* \.astype\(carry.h.dtype\)",
    ),
    (
        ChangesStructure(),
        "ChangesStructure.step must return a carry of the same structure it received",
    ),
    (
        CountsInFloats(),
        "CountsInFloats.step must return a carry of the same types it received: at .steps it "
        "received int32 and returned float32",
    ),
    (
        GrowsTheCarry(),
        r"GrowsTheCarry.step must return a carry of the same shapes it received: at .h it "
        r"received \(3,\) and returned \(6,\)",
    ),
    (
        IntegerOutput(),
        "IntegerOutput.output must return a floating or complex array, got int32",
    ),
    (
        SaysAnotherOutputSize(),
        r"must return \[\*batch, output_size\] = \(7,\), got shape \(3,\)",
    ),
    (PreparesAtRandom(), "PreparesAtRandom.prepare is not a pure function: two calls"),
    (
        PreparesWithoutGradient(),
        "gradient of PreparesWithoutGradient with respect to its params.u is wrong",
    ),
    (ForgetsToPrepare(), r"ForgetsToPrepare.project must accept any batch shape, here \(\)"),
    (
        DropsThePhase(),
        "DropsThePhase.step must return a carry of the same types it received: at .h it "
        "received complex64 and returned float32",
    ),
    (
        WrongImaginaryGradient(),
        "gradient of WrongImaginaryGradient with respect to its initial carry.h is wrong: .* "
        "along a random (real|imaginary) direction",
    ),
    (
        MultipliesTooLittle(),
        r"recurrent_input must return \[\*batch, K\] = \(2, 4\) for the recurrent kernel",
    ),
    (FourAxes(), r"FourAxes.recurrent_kernel must return U, dense .*got shape \(1, 1, 4, 4\)"),
    (GateNamesTwice(), r"gate_names must be a tuple of distinct names, got \('h', 'h'\)"),
    (UnevenGates(), r"with G = 3 gates; got shape \(4, 4\)"),
    (GatesMixTheBatch(), "GatesMixTheBatch.step mixes the examples of a batch"),
    (
        GatesRoundTheCarry(),
        "GatesRoundTheCarry.gates must return a carry of the same types it received: at .h it "
        "received float32 and returned float16",
    ),
]
SLOW = (  # what check_cell finds last
    *(WrongImaginaryGradient, PreparesWithoutGradient, WrongGradient, GatesMixTheBatch),
    *(StopsGradient, FollowsTheInputs),
)


@pytest.mark.parametrize(
    ("cell", "sentence"),
    [
        pytest.param(
            *case,
            id=type(case[0]).__name__,
            marks=pytest.mark.slow if isinstance(case[0], SLOW) else (),
        )
        for case in BROKEN
    ],
)
def test_a_broken_cell_is_refused_in_one_sentence(cell, sentence):
    with pytest.raises(CellError, match=sentence) as failure:
        inspect.unwrap(check_cell)(cell, 2)  # past the type checks that only our tests have
    assert "\n" not in str(failure.value)
