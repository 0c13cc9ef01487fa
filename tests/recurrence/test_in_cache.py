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
from rnnjax.cells import Constrained, DeltaNet, Elman, IndRNN, MinGRU
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
    ("cell", "size"),
    [
        (Counting(), 128),
        (MinGRU(H), 128),
        (MinGRU(1024), 8),
        (MinGRU(1025), 4),
        (DeltaNet(H), 128),
        (Elman(H), None),
        (IndRNN(H), None),
        (Constrained(Elman(H)), None),
    ],
)
def test_which_cells_run_in_chunks_of_which_size(cell, size):
    def found(total):
        params, carry = cell.init(jax.random.key(0), D), cell.initial_carry((2,))
        return in_cache.chunk_size(cell, cell.prepare(params), carry, jnp.zeros((total, 2, D)))

    assert found(129) == size
    assert found(0) is found(4) is None


@pytest.mark.parametrize("name", ["mingru", "gla", "deltanet"])
def test_neither_way_keeps_what_it_computes_of_the_inputs(name):
    """Without a gradient: no array over time but the outputs. With one: a carry for each chunk."""
    total, cell = 4096, networks.make_cell(name, 32)
    params, xs = cell.init(jax.random.key(0), D), jnp.zeros((total, 8, D))
    step = sum(c.size * c.dtype.itemsize for c in jax.tree.leaves(cell.initial_carry((8,))))

    def temporaries(function):
        return jax.jit(function).lower(params, xs).compile().memory_analysis().temp_size_in_bytes

    def outputs(params, xs):
        return rnnjax.unroll(cell, params, xs)[1]

    def slopes(params, xs):
        return jax.grad(lambda *a: (outputs(*a) ** 2).sum(), (0, 1))(params, xs)

    output = total * 8 * 32 * 4
    assert temporaries(outputs) < 0.1 * output
    size = in_cache.chunk_size(cell, params, cell.initial_carry((8,)), xs)
    assert temporaries(slopes) < 2.5 * output + 1.5 * step * total / size
