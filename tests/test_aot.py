"""Train steps compiled for accelerators that are not there: what the programs look like.

This says that they compile, fit, and have the loops, matmuls and kernels that they should; nothing
of how fast they are.
"""

import functools
import importlib.util
import json
import re
import subprocess
import sys

import aot
import pytest
from aot import CELLS, TARGETS, B, H, Instruction, Program, T

GATES = {name: len(cell.gate_names) for name, cell in CELLS.items()}
WHEELS = {"v5e": "libtpu", "v6e": "libtpu", "h100": "jax_cuda13_plugin"}

# With --dist=loadgroup the programs of each target are compiled in one test process, once.
each_target = pytest.mark.parametrize(
    "target", [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in TARGETS]
)
each_cell = pytest.mark.parametrize("cell", CELLS)


@functools.cache
def result(target, cell, *flags):
    """Compile a train step in a process of its own, once for all tests."""
    if importlib.util.find_spec(WHEELS[target]) is None:
        pytest.skip(f"{WHEELS[target]} is not installed: pip install -e '.[aot]'")
    command = [sys.executable, aot.__file__, target, cell, *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


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


# Programs are read correctly

TPU = """\
HloModule jit_step, is_scheduled=true, entry_computation_layout={(f32[4,4]{1,0})->f32[]}

FileNames
1 "a.py"

%fused.1 (p.0: bf16[4,4], p.1: f32[2,4]) -> f32[2,4] {
  %p.0 = bf16[4,4]{1,0:T(8,128)(2,1)S(1)} parameter(0)
  %p.1 = f32[2,4]{1,0:T(2,128)} parameter(1)
  ROOT %convolution.1 = f32[2,4]{1,0:T(2,128)S(1)} convolution(%p.1, %p.0), dim_labels=bf_io->bf
}

%body.1 (arg.1: (s32[], f32[2,4], /*index=2*/bf16[4,4])) -> (s32[], f32[2,4], bf16[4,4]) {
  %arg.1 = (s32[]{:T(128)}, f32[2,4]{1,0}, /*index=2*/bf16[4,4]{1,0:T(8,128)(2,1)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%arg.1), index=0
  %one = s32[] constant(1)
  %next = s32[] add(%i, %one), metadata={op_name="jit(f)/while/body/add" stack_frame_id=3}
  %h = f32[2,4]{1,0} get-tuple-element(%arg.1), index=1
  %U = bf16[4,4]{1,0:T(8,128)(2,1)} get-tuple-element(%arg.1), index=2
  %fusion.1 = f32[2,4]{1,0} fusion(%U, %h), kind=kOutput, calls=%fused.1
  ROOT %new = (s32[], f32[2,4]{1,0}, /*index=2*/bf16[4,4]{1,0}) tuple(%next, %fusion.1, %U)
}

%condition.1 (arg.2: (s32[], f32[2,4], bf16[4,4])) -> pred[] {
  %arg.2 = (s32[], f32[2,4]{1,0}, bf16[4,4]{1,0}) parameter(0)
  %j = s32[] get-tuple-element(%arg.2), index=0
  %end = s32[] constant(3)
  ROOT %less = pred[] compare(%j, %end), direction=LT
}

ENTRY %main.1 (U.1: bf16[4,4]) -> f32[2,4] {
  %U.1 = bf16[4,4]{1,0} parameter(0)
  %zero = s32[] constant(0)
  %h.0 = f32[2,4]{1,0} broadcast(%zero), dimensions={}
  %start = (s32[], f32[2,4]{1,0}, bf16[4,4]{1,0}) tuple(%zero, %h.0, %U.1)
  %while.1 = (s32[], f32[2,4], bf16[4,4]) while(%start), condition=%condition.1, body=%body.1
  %last = f32[2,4]{1,0} get-tuple-element(%while.1), index=1
  ROOT %sum = f32[2,4]{1,0:T(2,128)} all-reduce(%last), replica_groups={{0,1}}, to_apply=%add
}

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %z = f32[] add(%x, %y)
}
"""


def test_loops_matmuls_and_carries_are_found():
    read = Program(TPU)
    assert read.loops() == read.recurrent_loops() == ["body.1"]
    assert [i.name for i in read.matmuls("body.1")] == ["convolution.1"]
    assert read.carried("body.1") == [(), (2, 4)]  # the weights are handed on
    assert not any(i.matmul for i in read.outside_loops())
    assert [i.name for i in read.outside_loops() if i.collective] == ["sum"]
    assert not any(i.collective for i in read.reached("body.1"))


def test_what_a_loop_replaces_is_found():
    sums = TPU.replace(
        "  ROOT %new =", "  %dU = bf16[4,4]{1,0} add(%U, %U)\n  ROOT %new ="
    ).replace("tuple(%next, %fusion.1, %U)", "tuple(%next, %fusion.1, %dU)")
    assert Program(sums).carried("body.1") == [(), (2, 4), (4, 4)]
    swapped = TPU.replace("%arg.1), index=2", "%arg.1), index=1")
    assert (4, 4) in Program(swapped).carried("body.1")


def test_collectives_in_a_loop_are_found():
    inside = TPU.replace(
        "  %fusion.1 =",
        "  %both = f32[2,4] all-gather-start(%h), dimensions={0}\n  %fusion.1 =",
    )
    assert [i.name for i in Program(inside).reached("body.1") if i.collective] == ["both"]


def test_kernels_are_counted():
    body = """\
  %b = f32[8]{0} bitcast(%h)
  %copy.1 = f32[2,4]{0,1} copy(%h)
  %g = (f32[2,4]{1,0}, s8[64]{0}) custom-call(%h, %U), custom_call_target="__cublas$lt$matmul"
  %c.1 = f32[2,4]{1,0} call(%h), to_apply=%callee
  %start.1 = (f32[8]{0}, f32[8]{0}) copy-start(%b)
  %done.1 = f32[8]{0} copy-done(%start.1)
  %slice.1 = f32[1,4]{1,0} dynamic-slice(%h, %i, %one), dynamic_slice_sizes={1,4}
"""
    callee = """
%callee (q: f32[2,4]) -> f32[2,4] {
  %q = f32[2,4]{1,0} parameter(0)
  ROOT %t = f32[2,4]{1,0} fusion(%q), kind=kLoop, calls=%add
}
"""
    read = Program(TPU.replace("  %fusion.1 =", body + "  %fusion.1 =") + callee)
    names = [kernel.name for kernel in read.kernels("body.1")]
    assert names == ["next", "copy.1", "g", "t", "start.1", "slice.1", "fusion.1"]
    assert [i.name for i in read.matmuls("body.1")] == ["g", "convolution.1"]


def test_instructions_are_read():
    line = (
        "  ROOT %f.2 = (f32[]{:T(128)}, /*index=1*/bf16[3,5]{1,0:T(8,128)(2,1)S(1)})"
        " fusion(%a.1, /*index=1*/%b), kind=kLoop, calls=%c"
    )
    assert Instruction.parse(line) == Instruction(
        "f.2", "fusion", ((), (3, 5)), ("a.1", "b"), ("c",), line
    )
    branches = "  %k = f32[2] conditional(%p, %a, %b), branch_computations={%x.1, %y}"
    assert Instruction.parse(branches).called == ("x.1", "y")


@pytest.mark.parametrize(
    "shape", [(H, 4 * H), (4 * H, H), (H, 4, H), (1, H, H), (T, H, 4 * H), (aot.D, 4 * H)]
)
def test_arrays_of_the_size_of_a_kernel_are_known(shape):
    assert aot.weight_shaped(shape, gates=4)


@pytest.mark.parametrize("shape", [(B, H), (B, 4 * H), (T, B, H), (T, B, 4, H), (4 * H,), ()])
def test_arrays_over_the_batch_are_no_kernels(shape):
    assert not aot.weight_shaped(shape, gates=4)
