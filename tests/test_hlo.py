"""Compiled programs are read correctly."""

from hlo import Instruction, Program

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


def test_trip_counts_are_read():
    assert Program(TPU).trip_counts() == [(3,)]
    noted = TPU.replace(
        "body=%body.1", 'body=%body.1, backend_config={"known_trip_count":{"n":"5"}}'
    )
    assert Program(noted).trip_counts() == [(5,)]
    for end in ("compare(%j, %end), direction=NE", "compare(%end, %j), direction=LT"):
        other = TPU.replace("compare(%j, %end), direction=LT", end)
        assert Program(other).trip_counts() == [(None,)]


def test_trip_counts_of_loops_in_loops_are_read():
    outer = """
%body.2 (arg.3: (s32[], f32[2,4], bf16[4,4])) -> (s32[], f32[2,4], bf16[4,4]) {
  %arg.3 = (s32[], f32[2,4]{1,0}, bf16[4,4]{1,0}) parameter(0)
  %in.1 = (s32[], f32[2,4], bf16[4,4]) while(%arg.3), condition=%condition.1, body=%body.1
  ROOT %in.2 = (s32[], f32[2,4], bf16[4,4]) while(%in.1), condition=%condition.1, body=%body.1
}
"""
    noted = 'body=%body.2, backend_config={"known_trip_count":{"n":"7"}}'
    inside = TPU.replace("body=%body.1", noted) + outer
    assert Program(inside).trip_counts() == [(7,), (7, 3), (7, 3)]
