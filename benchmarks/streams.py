"""The peak of memory of an LRU's exact gradient over a long sequence, forward in time.

Inputs are made on the way, so that they take no memory: what is resident does not depend on T.

    python benchmarks/streams.py --length 1000000
"""

import dataclasses
import json
import subprocess
import sys
import time
from typing import Any

from rnnjax import cells, online
from rnnjax.command_line import at_least, parse

import jax
import jax.numpy as jnp
import timing
from jax import lax
from memory import peak_mb


@dataclasses.dataclass(frozen=True)
class Config:
    """Run an LRU over one sequence with RTRL, and print what it took as JSON."""

    length: int = 1000
    """T."""
    features: int = 64
    """H."""

    def __post_init__(self):
        at_least(1, self, "length", "features")


def stream(config: Config) -> dict[str, Any]:
    """Return the seconds, with compilation, and the peak of resident memory of this process."""
    cell, method = cells.LRU(config.features), online.RTRL()
    params = cell.init(jax.random.key(0), 1)

    def one(t, state):
        carry, traces, total = state
        x = jnp.cos(0.1 * t)[None]
        carry, traces = method.step(cell, params, carry, traces, x)
        slope = jax.grad(lambda s: jnp.sum(cell.output(s) ** 2))(carry)
        added = method.gradient(cell, params, carry, traces, x, slope)
        return carry, traces, jax.tree.map(jnp.add, total, added)

    @jax.jit
    def run():
        carry = cell.initial_carry(())
        traces = method.init(cell, params, carry, jnp.zeros(1))
        start = carry, traces, jax.tree.map(jnp.zeros_like, params)
        return lax.fori_loop(0, config.length, one, start)[2]

    start = time.perf_counter()
    gradient = jax.block_until_ready(run())
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    seconds = time.perf_counter() - start
    return {"T": config.length, "seconds": seconds, "peak_mb": peak_mb()}


def stream_apart(length: int) -> dict[str, Any]:
    """Return the same from a process of its own, malloc as the system has it."""
    command = [sys.executable, __file__, "--length", str(length)]
    environment = timing.default_malloc()
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


if __name__ == "__main__":
    print(json.dumps(stream(parse(Config))))
