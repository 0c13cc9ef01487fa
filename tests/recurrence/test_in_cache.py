"""Cells whose step multiplies by no weights, in chunks: the same numbers with less memory."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from oracles import relative_error
from own_cells import D
from paths import everything, problem, python_loop, unrolled
from slow import slow_but_for

import rnnjax
from rnnjax import networks
from rnnjax.cells import LRU, Constrained, DeltaNet, Elman, IndRNN, MinGRU, MinLSTM
from rnnjax.recurrence import in_cache
from rnnjax.testing import check_cell

H = 4


@dataclasses.dataclass(frozen=True)
class Counting(rnnjax.Cell):
    """A cell of a user's own: its carry counts steps, and its step has no weights."""

    def init(self, key, input_size):
        return {"kernel": jax.random.normal(key, (input_size, H)), "unused": jnp.ones(2)}

    def initial_carry(self, batch_shape):
        return jnp.zeros((*batch_shape, H)), jnp.zeros(batch_shape, jnp.int32)

    def project(self, ready, x):
        return x @ ready["kernel"].astype(x.dtype)

    def step(self, ready, carry, u):
        s, count = carry
        return (jnp.cos(s) * jnp.tanh(u)).astype(s.dtype), count + 1

    def output(self, carry):
        return carry[0] / (1 + carry[1][..., None])

    @property
    def output_size(self):
        return H


CELLS = {"mingru": MinGRU(H), "deltanet": DeltaNet(H, num_heads=2), "own": Counting()}


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("cell", slow_but_for("own", CELLS))
def test_every_option_gives_what_a_python_loop_gives(cell):
    check_cell(cell, D)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("cell", slow_but_for("deltanet", CELLS))
def test_all_derivatives_are_those_of_a_python_loop(cell, x64):
    """Forward mode, second derivatives and a mapped gradient."""
    params, xs, carry = problem(cell)
    assert (
        relative_error(
            unrolled(cell)(params, xs, carry),
            jax.jit(lambda *a: everything(lambda *b: python_loop(cell, *b), *a))(params, xs, carry),
        )
        < 1e-10
    )

    def score(run):
        return lambda xs: jnp.sum(jnp.sin(run(cell, params, xs, carry)[1]))

    def derivatives(run):
        function = score(run)
        return jax.jit(
            lambda xs: (
                jax.jvp(function, (xs,), (jnp.cos(xs),)),
                jax.jvp(jax.grad(function), (xs,), (jnp.cos(xs),)),
                jax.vmap(jax.grad(function))(jnp.stack([xs, 2 * xs])),
            )
        )(xs)

    got, want = map(derivatives, (rnnjax.unroll, python_loop))
    assert relative_error(got, want) < 1e-10


@pytest.mark.parametrize(
    ("cell", "batch", "size", "loop"),
    [
        (MinGRU(64), 1, 4096, True),  # a product, and one function of it
        (MinGRU(128), 16, 128, True),
        (MinGRU(4096), 16, 16, True),
        (MinLSTM(64), 1, 4096, False),  # more than that
        (LRU(64), 1, 2048, False),  # complex
        (LRU(128), 16, 64, True),
        (DeltaNet(64, num_heads=8), 1, 32, False),  # matrices
        (DeltaNet(128, num_heads=16), 16, 2, True),
        (networks.make_cell("retnet", 128, num_heads=16), 16, None, True),  # factors are constant
        (networks.make_cell("retnet", 64, num_heads=8), 1, 32, False),
        (Counting(), 2, 1 << 15, True),
        (Elman(H), 1, 0, None),  # a recurrent kernel
        (IndRNN(H), 1, 0, None),
        (Constrained(Elman(H)), 1, 0, None),
    ],
)
def test_which_cells_run_in_chunks_of_which_size(cell, batch, size, loop):
    params, carry = cell.init(jax.random.key(0), D), cell.initial_carry((batch,))

    def found(total):
        xs = jnp.zeros((total, batch, D))
        return in_cache.plan_chunks(cell, cell.prepare(params), carry, xs)

    chunking = found(1 << 16)
    assert chunking == (None if size == 0 else (size, loop))
    assert not size or (found(size + 1) == chunking and found(size) is None)
    assert found(0) is None


@pytest.mark.parametrize("name", ["mingru", "gla", "deltanet"])
def test_neither_way_keeps_what_it_computes_of_the_inputs(name):
    """Beside the outputs and their gradient: what a chunk needs, and the carries between chunks."""
    total, cell = 1 << 16, networks.make_cell(name, 32)
    params, xs = cell.init(jax.random.key(0), D), jnp.zeros((total, 8, D))
    step = sum(c.size * c.dtype.itemsize for c in jax.tree.leaves(cell.initial_carry((8,))))

    def temporaries(function):
        return jax.jit(function).lower(params, xs).compile().memory_analysis().temp_size_in_bytes

    def outputs(params, xs):
        return rnnjax.unroll(cell, params, xs)[1]

    def slopes(params, xs):
        return jax.grad(lambda *a: (outputs(*a) ** 2).sum(), (0, 1))(params, xs)

    output, inputs = total * 8 * 32 * 4, total * 8 * D * 4
    chunking = in_cache.plan_chunks(cell, cell.prepare(params), cell.initial_carry((8,)), xs)
    of_chunk = 12 * chunking.size * step
    assert temporaries(outputs) < of_chunk < output
    assert temporaries(slopes) < of_chunk + 2.1 * (output + inputs) + step * total / chunking.size
