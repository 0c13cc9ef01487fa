"""Programs compiled for an accelerator that is not there.

As a script it compiles one for one target, from a machine without accelerators: a train step, or
the gradient of a cell that runs over all time steps at once:

    python tests/aot.py h100 lstm
    python tests/aot.py h100 parallel_mingru

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

import functools
import importlib.util
import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import rnnjax
from rnnjax import cells
from rnnjax.training.mesh import MeshShape, arrange_devices
from rnnjax.training.population import sharded_program

# No two sizes are equal, so that its shape tells what an array is.
T, B, D, H, OUTPUTS = 1024, 32, 16, 128, 8
CELLS = {"elman": rnnjax.Elman, "lstm": rnnjax.LSTM, "gru": rnnjax.GRU}
TARGETS = {"v5e": "v5e:2x2", "v6e": "v6e:2x2", "h100": None}  # name: the TPU's topology
WHEELS = {"v5e": "libtpu", "v6e": "libtpu", "h100": "jax_cuda13_plugin"}
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


# The gradient of a cell over time


class Recurrence(NamedTuple):
    """A cell over T steps of B examples."""

    run: Callable
    cell: Any
    T: int
    B: int
    options: Mapping = MappingProxyType({})


# The states are too many for the memory on a TPU's chip, and fill its tiles of 8 by 128.
MINGRU = Recurrence(rnnjax.unroll_parallel, cells.MinGRU(128), 1024, 64)
ELMAN = Recurrence(rnnjax.unroll_newton, cells.Elman(128), 512, 4)
RECURRENCES = {
    "parallel_mingru": MINGRU,
    "parallel_mingru_short": MINGRU._replace(T=128),
    "parallel_mingru_in_chunks": MINGRU._replace(options={"checkpoint_every": 64}),
    "unroll_mingru": MINGRU._replace(run=rnnjax.unroll),
    "parallel_lru": MINGRU._replace(cell=cells.LRU(128)),
    "parallel_mlstm": MINGRU._replace(cell=cells.MLSTM(128, key_size=64), T=512, B=4),
    "newton_elman": ELMAN,
    "newton_elman_short": ELMAN._replace(T=64),
    "newton_indrnn": MINGRU._replace(run=rnnjax.unroll_newton, cell=cells.IndRNN(128)),
}


def compile_gradient(target, name):
    """Compile the gradient of a squared error, for parameters and inputs, for one device."""
    run, cell, length, batch, options = RECURRENCES[name]
    platform, devices = devices_of(target)
    everywhere = NamedSharding(Mesh(np.array(devices[:1]), "b"), PartitionSpec())

    def loss(params, xs, ys):
        return ((run(cell, params, xs, **options)[1] - ys) ** 2).mean()

    arguments = jax.eval_shape(
        lambda key: (
            cell.init(key, D),
            jnp.zeros((length, batch, D)),
            jnp.zeros((length, batch, cell.output_size)),
        ),
        jax.random.key(0),
    )
    placed = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=everywhere), arguments
    )
    traced = jax.jit(jax.value_and_grad(loss, (0, 1))).trace(*placed)
    return described(traced.lower(lowering_platforms=(platform,)).compile())


# What they are


def described(compiled):
    """Return what a compiled program is and needs, for JSON."""
    memory = compiled.memory_analysis()
    return {
        "program": compiled.as_text(),
        "arguments": memory.argument_size_in_bytes,
        "outputs": memory.output_size_in_bytes - memory.alias_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
    }


def weight_shaped(shape, gates):
    """Whether an array is as large as a kernel: whole, by gate, transposed, or one a step."""
    dims = sorted(n for n in shape if n not in (1, T))
    kernels = [(rows, *columns) for rows in (H, D) for columns in ((gates * H,), (H,), (gates, H))]
    return dims in [sorted(n for n in kernel if n != 1) for kernel in kernels]


@functools.cache
def result(target, name, *flags):
    """Compile a program in a process of its own, once for all tests that are run in this one."""
    if importlib.util.find_spec(WHEELS[target]) is None:
        pytest.skip(f"{WHEELS[target]} is not installed: pip install -e '.[aot]'")
    command = [sys.executable, __file__, target, name, *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    target, name, *flags = sys.argv[1:]
    if name in RECURRENCES:
        print(json.dumps(compile_gradient(target, name)))
    else:
        print(json.dumps(compile_step(target, name, **dict.fromkeys(flags, True))))
