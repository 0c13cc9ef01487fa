"""A train step compiled for an accelerator that is not there, and what its program looks like.

As a script it compiles one train step for one target, from a machine without accelerators:

    python tests/aot.py h100 lstm

and prints the optimised program and its memory, as JSON. It must be a process of its own, since
what it needs in its environment is read when JAX and the TPU's library are loaded.
"""

import os
import sys

ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # other tests may be compiling too
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_LOG_DIR": "disabled",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
}
if __name__ == "__main__":
    for name in ("JAX_DISABLE_MOST_OPTIMIZATIONS", "XLA_FLAGS"):
        os.environ.pop(name, None)  # the program is to be what a user gets
    os.environ.update(ENVIRONMENT)

import dataclasses
import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import rnnjax
from rnnjax.training.mesh import MeshShape, arrange_devices
from rnnjax.training.population import sharded_program

# No two sizes are equal, so that its shape tells what an array is.
T, B, D, H, OUTPUTS = 1024, 32, 16, 128, 8
CELLS = {"elman": rnnjax.Elman, "lstm": rnnjax.LSTM, "gru": rnnjax.GRU}
TARGETS = {"v5e": "v5e:2x2", "v6e": "v6e:2x2", "h100": None}  # name: the TPU's topology
H100 = Path(__file__).parent / "fixtures" / "h100.textproto"


# The train step


def plain_unroll(cell, params, xs):
    """Scan over `cell.step` and leave its derivative to JAX: what the fast backward is not."""

    def step(carry, u):
        carry = cell.step(params, carry, u)
        return carry, cell.output(carry)

    return lax.scan(step, cell.initial_carry(xs.shape[1:-1]), cell.project(params, xs))


def train_step_of(cell, unroll):
    """Return `(init, train_step)` for a recurrent network with a linear head at every step."""
    optimiser = optax.adam(1e-3)

    def init(key):
        params = {"cell": cell.init(key, D), "head": jnp.zeros((H, OUTPUTS))}
        return params, optimiser.init(params)

    def loss_fn(params, xs, ys):
        _, outputs = unroll(cell, params["cell"], xs)
        return ((outputs @ params["head"] - ys) ** 2).mean()

    def train_step(state, xs, ys):
        params, inner = state
        loss, gradient = jax.value_and_grad(loss_fn)(params, xs, ys)
        updates, inner = optimiser.update(gradient, inner, params)
        return (optax.apply_updates(params, updates), inner), loss

    return init, train_step


def devices_of(target):
    """Return `(platform, devices)` of a target: one H100, or the four chips of a TPU host."""
    if target == "h100":
        topology = topologies.get_topology_desc(
            platform="cuda", target_config=H100.read_text(), topology="1x1x1"
        )
        return "cuda", topology.devices[:1]
    topology = topologies.get_topology_desc(platform="tpu", topology_name=TARGETS[target])
    return "tpu", topology.devices


def compile_step(target, cell, *, plain=False, sharded=False, population=False):
    """Compile the train step of `cell` for one device, or with the batch split over all.

    With `population` that of four members, split two ways, and so are their batches.
    """
    platform, devices = devices_of(target)
    if population:
        return described(compile_population(platform, devices, cell))
    mesh = Mesh(np.array(devices if sharded else devices[:1]), "b")
    everywhere = NamedSharding(mesh, PartitionSpec())
    by_batch = NamedSharding(mesh, PartitionSpec(None, "b"))

    def placed(a, sharding):
        return jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding)

    cell = CELLS[cell](features=H)
    init, train_step = train_step_of(cell, plain_unroll if plain else rnnjax.unroll)
    state = jax.eval_shape(init, jax.random.key(0))
    arguments = (
        jax.tree.map(lambda a: placed(a, everywhere), state),
        placed(jnp.zeros((T, B, D)), by_batch),
        placed(jnp.zeros((T, B, OUTPUTS)), by_batch),
    )
    traced = jax.jit(train_step, donate_argnums=0).trace(*arguments)
    return described(traced.lower(lowering_platforms=(platform,)).compile())


def compile_population(platform, devices, cell):
    """Compile a train step of four members over four devices, as `over_population` does."""
    mesh = Mesh(
        arrange_devices(devices, 4, MeshShape(population=2, data=2)),
        ("member", "batch"),
        axis_types=(AxisType.Auto,) * 2,
    )
    split = NamedSharding(mesh, PartitionSpec("member"))
    init, train_step = train_step_of(CELLS[cell](features=H), rnnjax.unroll)

    def placed(a):
        return jax.ShapeDtypeStruct((4, *a.shape), a.dtype, sharding=split)

    state = jax.eval_shape(init, jax.random.key(0))
    data = jnp.zeros((T, B, D)), jnp.zeros((T, B, OUTPUTS))
    arguments = jax.tree.map(placed, (state, *data))
    traced = sharded_program(train_step).trace(arguments, {}, 2, split)
    return traced.lower(lowering_platforms=(platform,)).compile()


def described(compiled):
    """Return what a compiled program is and needs, for JSON."""
    memory = compiled.memory_analysis()
    return {
        "program": compiled.as_text(),
        "arguments": memory.argument_size_in_bytes,
        "outputs": memory.output_size_in_bytes - memory.alias_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
    }


# The program

FREE = {
    "after-all",
    "bitcast",
    "constant",
    "get-tuple-element",
    "opt-barrier",
    "parameter",
    "partition-id",
    "replica-id",
    "tuple",
}
CONTROL = {"call", "conditional", "while"}  # run what they call, and are nothing themselves
COLLECTIVE = re.compile(
    r"(all-gather|all-reduce|all-to-all|collective-broadcast|collective-permute|reduce-scatter)\b"
)
MATMUL = re.compile(r'custom_call_target="[^"]*(cublas|gemm|matmul|cudnn\$conv)')
CALLED = re.compile(
    r"\b(?:body|branch_computations|called_computations|calls|condition|false_computation|to_apply"
    r"|true_computation)=(?:\{([^}]*)\}|%?([\w.\-]+))"
)
INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = ")
COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+)[ (].*\{$")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction of a compiled program.

    `shapes` are those of its results (a tuple has several); `called` the names of the computations
    it calls: a fusion's, a loop's body and condition.
    """

    name: str
    opcode: str
    shapes: tuple[tuple[int, ...], ...]
    operands: tuple[str, ...]
    called: tuple[str, ...]
    text: str

    @classmethod
    def parse(cls, line):
        """Read a line of a computation: `[ROOT] %name = type opcode(operands), attributes`."""
        name = INSTRUCTION.match(line)
        assert name, line
        rest = line[name.end() :]
        result, rest = _closed(rest) if rest.startswith("(") else rest.split(" ", 1)
        opcode, rest = rest.strip().split("(", 1)
        operands, attributes = _closed("(" + rest)
        attributes = re.sub(r"metadata=\{.*?\}", "", attributes)
        called = [several or one for several, one in CALLED.findall(attributes)]
        return cls(
            name[1],
            opcode,
            tuple(
                tuple(int(n) for n in dims.split(",") if n)
                for dims in re.findall(r"\w\[([\d,]*)\]", result)
            ),
            tuple(re.findall(r"%?([\w.\-]+)(?=[,)])", re.sub(r"/\*.*?\*/", "", operands))),
            tuple(n.strip(" %") for names in called for n in names.split(",")),
            line,
        )

    @property
    def matmul(self):
        """Whether it multiplies matrices: on TPUs every matmul is called a convolution."""
        return self.opcode in ("dot", "convolution") or (
            self.opcode == "custom-call" and bool(MATMUL.search(self.text))
        )

    @property
    def collective(self):
        """Whether devices exchange data."""
        return bool(COLLECTIVE.match(self.opcode))


class Program:
    """A compiled program, read from its text: computations, by name, in the order they run in."""

    def __init__(self, text):
        self.computations, self.entry = {}, ""
        here = None
        for line in text.splitlines():
            if here is None:
                header = COMPUTATION.match(line)
                if header and not line.startswith("HloModule"):
                    here = self.computations.setdefault(header[2], [])
                    self.entry = header[2] if header[1] else self.entry
            elif line.startswith("}"):
                here = None
            elif INSTRUCTION.match(line):
                here.append(Instruction.parse(line))
        assert self.entry in self.computations, "no entry computation"

    def reached(self, name, loops=True):
        """Return the instructions of a computation and of what it calls, loops too if asked."""
        for instruction in self.computations[name]:
            yield instruction
            if loops or instruction.opcode != "while":
                for called in instruction.called:
                    yield from self.reached(called, loops)

    def loops(self):
        """Return the names of the bodies of all loops, in the order they start."""
        whiles = (i for i in self.reached(self.entry) if i.opcode == "while")
        return [self._body(i) for i in whiles]

    def outside_loops(self):
        """Return the instructions that run once."""
        return self.reached(self.entry, loops=False)

    def matmuls(self, body):
        """Return the matmuls of a loop's body, wherever they are fused."""
        return [i for i in self.reached(body) if i.matmul]

    def recurrent_loops(self):
        """Return the bodies of the loops that multiply matrices: forward, then backward."""
        return [body for body in self.loops() if self.matmuls(body)]

    def carried(self, body):
        """Return the shapes in a loop's carry that an iteration replaces.

        What it hands on untouched, like the weights, is not among them.
        """
        instructions = {i.name: i for i in self.computations[body]}
        (argument,) = (i.name for i in instructions.values() if i.opcode == "parameter")
        root = next(i for i in instructions.values() if i.text.lstrip().startswith("ROOT"))
        assert root.opcode == "tuple", root.text

        def handed_on(index, i):
            same = re.search(r"index=(\d+)", i.text)
            return (
                i.opcode == "get-tuple-element"
                and i.operands == (argument,)
                and same is not None
                and int(same[1]) == index
            )

        results = [instructions[name] for name in root.operands]
        return [
            shape
            for index, result in enumerate(results)
            if not handed_on(index, result)
            for shape in result.shapes
        ]

    def kernels(self, body):
        """Return the instructions of a loop's body that a GPU launches a kernel for.

        That is every one but names for memory that is already there: each fusion, copy, library
        call and whatever else stands alone. A matmul split along its contracted axis counts twice,
        as a second kernel adds up the parts. The step counter counts as well: the host knows how
        many steps there are, but their place in the arrays over time is read from the device,
        where a kernel of its own increments it.
        """
        found = []
        for i in self.computations[body]:
            if i.opcode in CONTROL:
                called = (self._body(i),) if i.opcode == "while" else i.called
                found += [kernel for name in called for kernel in self.kernels(name)]
            elif i.opcode not in FREE and not i.opcode.endswith("-done"):
                found.append(i)
        return found

    @staticmethod
    def _body(loop):
        body = re.search(r"\bbody=%?([\w.\-]+)", loop.text)
        assert body, loop.text
        return body[1]


def _closed(text):
    """Split a text that starts with a bracket after the one that closes it."""
    depth = 0
    for position, character in enumerate(text):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth == 0:
            return text[: position + 1], text[position + 1 :]
    raise ValueError(f"no closing bracket: {text}")


def weight_shaped(shape, gates):
    """Whether an array is as large as a kernel: whole, by gate, transposed, or one a step."""
    dims = sorted(n for n in shape if n not in (1, T))
    kernels = [(rows, *columns) for rows in (H, D) for columns in ((gates * H,), (H,), (gates, H))]
    return dims in [sorted(n for n in kernel if n != 1) for kernel in kernels]


if __name__ == "__main__":
    target, cell, *flags = sys.argv[1:]
    print(json.dumps(compile_step(target, cell, **dict.fromkeys(flags, True))))
