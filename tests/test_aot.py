"""Train steps compiled for accelerators that are not there: what the programs look like.

This says that they compile, fit, and have the loops, matmuls and kernels that they should; nothing
of how fast they are.
"""

import functools
import re

import aot
import pytest
from aot import CELLS, TARGETS, B, H, T, result
from hlo import Program

GATES = {name: len(cell.gate_names) for name, cell in CELLS.items()}

# With --dist=loadgroup the programs of each target are compiled in one test process, once.
each_target = pytest.mark.parametrize(
    "target", [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in TARGETS]
)
each_cell = pytest.mark.parametrize("cell", CELLS)


@functools.cache
def program(target, cell, *flags):
    return Program(result(target, cell, *flags)["program"])


def memory(compiled):
    return sum(compiled[name] for name in ("arguments", "outputs", "temporaries"))


def bytes_of_gates(cell):
    """Return the size of one array of gates over time, `[T, B, G*H]` in float32."""
    return 4 * T * B * GATES[cell] * H


def weights_carried(program, gates):
    """Return the shapes of kernels among what the loops of a program replace at every step."""
    carried = (shape for body in program.loops() for shape in program.carried(body))
    return [shape for shape in carried if aot.weight_shaped(shape, gates)]


@pytest.mark.aot
@each_target
@each_cell
def test_a_step_is_one_matmul_forward_and_one_backward(target, cell):
    compiled = program(target, cell)
    assert [len(compiled.matmuls(body)) for body in compiled.recurrent_loops()] == [1, 1]


@pytest.mark.aot
@each_target
@each_cell
def test_no_loop_sums_up_a_gradient_of_the_weights(target, cell):
    assert weights_carried(program(target, cell), GATES[cell]) == []


@pytest.mark.aot
@pytest.mark.xdist_group("h100")
@each_cell
def test_a_step_is_at_most_twelve_kernels_on_a_gpu(cell):
    compiled = program("h100", cell)
    forward, backward = (compiled.kernels(body) for body in compiled.recurrent_loops())
    names = [kernel.name for kernel in forward + backward]
    assert len(names) <= 12, names


@pytest.mark.aot
@each_target
@each_cell
def test_memory_is_at_most_a_few_times_that_of_the_gates(target, cell):
    """The state is donated, so that of the outputs only the loss and a step count are new.

    On a TPU arrays that stay on the chip do not count, which here may be all of them.
    """
    compiled = result(target, cell)
    assert compiled["outputs"] <= 4096
    assert memory(compiled) <= 4.5 * bytes_of_gates(cell)


@pytest.mark.aot
@pytest.mark.xdist_group("sharded")
@each_cell
def test_devices_that_share_a_batch_add_up_gradients_once(cell):
    compiled = program("v5e", cell, "sharded")
    assert [len(compiled.matmuls(body)) for body in compiled.recurrent_loops()] == [1, 1]
    assert weights_carried(compiled, GATES[cell]) == []
    for body in compiled.loops():
        assert [i.text for i in compiled.reached(body) if i.collective] == []
    exchanged = [i for i in compiled.outside_loops() if i.collective]
    assert not any(T in shape for i in exchanged for shape in i.shapes), exchanged
    reduced = [s for i in exchanged if i.opcode.startswith("all-reduce") for s in i.shapes]
    assert any(aot.weight_shaped(shape, GATES[cell]) for shape in reduced), reduced


@pytest.mark.aot
def test_members_are_split_over_some_devices_and_their_batches_over_others():
    """Of four devices in two rows, those of a row add up gradients, once; rows share nothing."""
    compiled = program("v5e", "lstm", "population")
    for body in compiled.loops():
        assert [i.text for i in compiled.reached(body) if i.collective] == []
    exchanged = [i for i in compiled.outside_loops() if i.collective]
    assert exchanged
    for instruction in exchanged:
        assert re.search(r"replica_groups=(\{\{0,1\},\{2,3\}\}|\[2,2\]<=\[4\])", instruction.text)
    assert [len(compiled.matmuls(body)) for body in compiled.recurrent_loops()] == [1, 1]


@pytest.mark.aot
@each_target
def test_what_these_tests_forbid_they_find_in_the_derivative_of_a_plain_scan(target):
    compiled = program(target, "lstm", "plain")
    assert [len(compiled.matmuls(body)) for body in compiled.recurrent_loops()] == [1, 2]
    assert weights_carried(compiled, GATES["lstm"])
    if target == "h100":
        assert sum(len(compiled.kernels(body)) for body in compiled.recurrent_loops()) > 12
        assert memory(result(target, "lstm", "plain")) > 4.5 * bytes_of_gates("lstm")


@pytest.mark.parametrize(
    "shape", [(H, 4 * H), (4 * H, H), (H, 4, H), (1, H, H), (T, H, 4 * H), (aot.D, 4 * H)]
)
def test_arrays_of_the_size_of_a_kernel_are_known(shape):
    assert aot.weight_shaped(shape, gates=4)


@pytest.mark.parametrize("shape", [(B, H), (B, 4 * H), (T, B, H), (T, B, 4, H), (4 * H,), ()])
def test_arrays_over_the_batch_are_no_kernels(shape):
    assert not aot.weight_shaped(shape, gates=4)
