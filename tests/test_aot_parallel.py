"""The gradients of `unroll_parallel` and `unroll_newton`, for accelerators that are not there.

They compile, no loop goes through the steps one after another, and memory is a few times that of
what is scanned. This says nothing of how fast they are.
"""

import jax
import pytest
from aot import RECURRENCES, result
from hlo import Program

import rnnjax

# Name: a TPU, the trip counts of all loops, and temporary memory over that of what is scanned.
# A scan of pairs (a, b) holds them at T, T/2, T/4, ... steps, which is four arrays of T, forward
# and again backward; fusions save some of them. To these come the gates and states that the
# backward pass needs. A complex state is scanned as a pair of reals. A matrix state has one a for
# all of its numbers. The Jacobians of Newton's method are scanned in an iteration, whose memory the
# backward pass can use again.
PROGRAMS = {
    "parallel_mingru": ("v6e", [], 9),
    "parallel_lru": ("v5e", [], 6),
    "parallel_mlstm": ("v6e", [], 8),
    "newton_elman": ("v5e", [(None,)], 4),
    "newton_indrnn": ("v6e", [(None,)], 8),
}


def group(name):
    """Compile what a program is compared with in the same test process, with --dist=loadgroup."""
    return pytest.param(name, marks=pytest.mark.xdist_group(name))


def trip_counts(target, name):
    return Program(result(target, name)["program"]).trip_counts()


def temporaries(target, name):
    return result(target, name)["temporaries"]


def scanned(name):
    """Return the bytes of the states after each step, or of the dense Jacobians of the steps."""
    run, cell, length, batch, _ = RECURRENCES[name]
    states = jax.eval_shape(lambda: cell.initial_carry((length, batch)))
    size = sum(s.size * s.dtype.itemsize for s in jax.tree.leaves(states))
    dense = run is rnnjax.unroll_newton and isinstance(cell, rnnjax.Elman)
    return size * cell.features if dense else size


@pytest.mark.aot
@pytest.mark.parametrize("name", [*map(group, PROGRAMS)])
def test_no_loop_goes_through_the_steps_and_memory_is_that_of_the_scans(name):
    """The one loop there may be is Newton's iteration, which the residual ends."""
    tpu, loops, times = PROGRAMS[name]
    for target in (tpu, "h100"):
        assert trip_counts(target, name) == loops, target
        assert temporaries(target, name) <= times * scanned(name), target


@pytest.mark.aot
@pytest.mark.parametrize("name", [*map(group, ["parallel_mingru", "newton_elman"])])
def test_memory_grows_no_faster_than_the_number_of_steps(name):
    """It is the same few times that of the states at both lengths.

    Two lengths by themselves do not tell: how buffers are packed varies by a fifth. MinGRU has 6.7,
    7.1, 7.4, 7.4, 8.0, 6.6 times its states at 64, 128, .. 2048 steps.
    """
    *_, times = PROGRAMS[name]
    for length in (f"{name}_short", name):
        assert temporaries("h100", length) <= times * scanned(length)


@pytest.mark.aot
@pytest.mark.xdist_group("parallel_mingru")
def test_chunks_run_one_after_another_in_less_memory():
    in_chunks = "parallel_mingru_in_chunks"
    assert trip_counts("h100", in_chunks) == [(16,), (16,)]
    assert temporaries("h100", in_chunks) <= temporaries("h100", "parallel_mingru") / 2


@pytest.mark.aot
@pytest.mark.parametrize("target", ["v6e", "h100"])
def test_the_loops_over_all_steps_of_unroll_are_found(target):
    name = "unroll_mingru"
    assert trip_counts(target, name) == [(RECURRENCES[name].T,)] * 2
