"""Many small networks: a population in one program, or one network after another.

Gradients of the mean square of the last output with respect to the parameters; each member has its
own parameters and inputs. Before anything is timed, all results are compared with Flax Linen's.

    python benchmarks/population.py
    python benchmarks/population.py --cells lstm --members 16 --many 128
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import timing

if __name__ == "__main__":
    timing.keep_memory()

from rnnjax import networks, training
from rnnjax.command_line import ArgumentError, at_least, parse
from rnnjax.recurrence.options import settle_dtypes

import jax
import libraries
import numpy as np
from contenders import TOLERANCE, pulled_back
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from libraries import CELLS, LeftOut, check_cells


@dataclasses.dataclass(frozen=True)
class Config:
    """Time a population in one program beside its members one after another, ours and Flax's.

    Each bound is one that the library promises for the default sizes.
    """

    cells: tuple[str, ...] = CELLS
    """Which cells: elman, lstm, gru, or one of your own, ./mine.py:MyCell."""
    members: int = 64
    """Networks in the population."""
    many: int = 1024
    """Networks in a large one."""
    batch_size: int = 16
    """B, of each."""
    length: int = 100
    """T."""
    input_size: int = 2
    """D."""
    features: int = 32
    """H."""
    rounds: int = 7
    """How often everything is timed; medians and quartiles are reported."""
    warm_ups: int = 5
    """Untimed rounds before."""
    out: Path | None = None
    """Directory for population.json."""
    docs: bool = False
    """Write the table into docs/benchmarks.md."""

    def __post_init__(self):
        sizes = "members", "batch_size", "length", "input_size", "features", "rounds"
        at_least(1, self, *sizes)
        at_least(0, self, "warm_ups")
        if self.many < self.members:
            raise ArgumentError(f"--many must be at least --members, got {self.many}")
        check_cells(self.cells)
        timing.check_directory(self.out)


class Way(NamedTuple):
    """One way to the gradients, and what it is measured by."""

    call: Callable[[], Any]
    members: int  # whose work it does
    bound: str = ""  # on the population's throughput in units of its own


def make_members(config: Config, name: str) -> tuple[Any, Any]:
    """Draw parameters and inputs of many networks, on a leading axis."""
    keys = jax.random.split(jax.random.key(2), config.many)
    draw = jax.vmap(lambda k: libraries.parameters(name, config.input_size, config.features, k))
    size = config.many, config.length, config.batch_size, config.input_size
    return draw(keys), jax.random.normal(keys[0], size)


def gradient_of(network: libraries.Network) -> Callable[[Any, Any], Any]:
    """Return the gradient of the loss of one network, a function of its weights and inputs."""
    return jax.grad(lambda weights, xs: (network.run(weights, xs)[-1] ** 2).mean())


def one_after_another(gradient: Callable, members: Any, count: int) -> dict[str, Callable]:
    """Return the calls that do so: a program called for each member, and a program of its own."""
    each = [jax.tree.map(lambda a, i=i: a[i], members) for i in range(count)]
    one = jax.jit(gradient)
    mapped = jax.jit(lambda members: lax.map(lambda member: gradient(*member), members))
    first = jax.tree.map(lambda a: a[:count], members)
    return {
        "one by one": lambda: [one(*member) for member in each],
        "lax.map": lambda: mapped(first),
    }


def in_population(gradient: Callable, members: Any, count: int) -> Callable[[], Any]:
    """Return the call of all in one program, with the members where training keeps them."""
    first = jax.tree.map(lambda a: a[:count], members)
    if count % jax.device_count() == 0:
        mesh = Mesh(np.array(jax.devices()), "member")
        first = jax.device_put(first, NamedSharding(mesh, P("member")))
    run = training.over_population(gradient)
    return lambda: run(*first)


def in_one(network: libraries.Network, params: Any, xs: Any) -> Callable[[], Any]:
    """Return the call of one network on the inputs of all members, its batch split over devices."""
    xs = xs.swapaxes(0, 1).reshape(xs.shape[1], -1, xs.shape[-1])
    mesh: Any = training.batch_mesh()
    scope: Any = contextlib.nullcontext
    if xs.shape[1] % mesh.size == 0:
        params = jax.device_put(params, NamedSharding(mesh, P()))
        xs = jax.device_put(xs, NamedSharding(mesh, P(None, "batch")))
        scope = functools.partial(jax.set_mesh, mesh)
    with scope():
        gradient = jax.jit(gradient_of(network)).lower(params, xs).compile()
    return lambda: gradient(params, xs)


def ways(config: Config, name: str) -> dict[str, Way]:
    """Return what is timed for a cell, checked."""
    params, xs = make_members(config, name)
    count, sizes = config.members, (config.input_size, config.features)
    ours = libraries.ours(name, *sizes)
    try:
        linen, bound = libraries.linen(name, *sizes), ">= 4"
    except LeftOut:  # a cell that Flax does not have: a plain scan of ours takes its place
        linen, bound = plain_scan(name, config.features), ""
    label = "Flax Linen" if bound else "plain scan"
    theirs = jax.vmap(linen.weights)(params), xs
    flax = one_after_another(gradient_of(linen), theirs, count)
    own = one_after_another(gradient_of(ours), (params, xs), count)
    found = {
        "population": Way(in_population(gradient_of(ours), (params, xs), count), count),
        f"{label}, one by one": Way(flax["one by one"], count, bound),
        f"{label}, lax.map": Way(flax["lax.map"], count, bound),
        "ours, one by one": Way(own["one by one"], count, ">= 1.9"),
        "ours, lax.map": Way(own["lax.map"], count, ">= 1.9"),
        "large population": Way(
            in_population(gradient_of(ours), (params, xs), config.many), config.many, "<= 1"
        ),
    }
    check(found, linen, label, params, count)
    first = jax.tree.map(lambda a: a[0], params)
    found["one network, all the work"] = Way(in_one(ours, first, xs[:count]), count)
    check_one(found["one network, all the work"].call, linen, first, xs[:count])
    return found


def plain_scan(name: str, features: int, **options: Any) -> libraries.Network:
    """Return our own network as `lax.scan` runs it, and as JAX differentiates that."""
    cell = networks.make_cell(name, features, **options)

    def run(params, xs):
        ready = cell.prepare(params)
        start = settle_dtypes(cell, ready, xs, cell.initial_carry(xs.shape[1:-1]))

        def step(carry, x):
            carry = cell.step(ready, carry, cell.project(ready, x))
            return carry, cell.output(carry)

        return lax.scan(step, start, xs)[1]

    return libraries.Network(run, lambda params: params)


def check(
    found: dict[str, Way], linen: libraries.Network, other: str, params: Any, count: int
) -> None:
    """Assert that all ways give the gradients of the other library, one by one."""
    want = stacked(found[f"{other}, lax.map"].call())
    params = jax.tree.map(lambda a: a[:count], params)
    want = jax.vmap(lambda p, g: pulled_back(linen.weights, p, g))(params, want)
    for label, way in found.items():
        got = stacked(way.call())
        if other in label:
            got = jax.vmap(lambda p, g: pulled_back(linen.weights, p, g))(params, got)
        compare(label, jax.tree.map(lambda a: a[:count], got), want)


def check_one(call: Callable, linen: libraries.Network, params: Any, xs: Any) -> None:
    """Assert that the gradient of one network on all inputs is the mean of Flax Linen's."""
    gradients = jax.lax.map(lambda x: gradient_of(linen)(linen.weights(params), x), xs)
    mean = jax.tree.map(lambda a: a.mean(0), gradients)
    compare("one network, all the work", call(), pulled_back(linen.weights, params, mean))


def stacked(gradients: Any) -> Any:
    """Return gradients with a leading axis for the members, as NumPy arrays."""
    if isinstance(gradients, list):
        return jax.tree.map(lambda *leaves: np.stack(leaves), *gradients)
    return jax.tree.map(np.asarray, gradients)


def compare(label: str, got: Any, want: Any) -> None:
    """Assert that two gradients agree, in units of the largest entry of each parameter."""
    pairs = zip(jax.tree_util.tree_leaves_with_path(want), jax.tree.leaves(got), strict=True)
    for (path, b), a in pairs:
        field = jax.tree_util.keystr(path).lstrip(".")
        difference = np.abs(np.asarray(a) - np.asarray(b)).max() / np.abs(np.asarray(b)).max()
        assert difference <= TOLERANCE, f"{label}: {field} differs by {difference:.1e}"


def measure(config: Config, name: str) -> list[dict[str, Any]]:
    """Return a row for each way of a cell."""
    found = ways(config, name)
    timing.say(f"{name}: timing")
    calls = {label: way.call for label, way in found.items()}
    seconds = timing.interleaved(calls, rounds=config.rounds, warm_ups=config.warm_ups)
    each = {label: timing.median(seconds[label]) / way.members for label, way in found.items()}
    return [
        {
            "cell": name,
            "what": label,
            "members": way.members,
            "ms": 1e3 * timing.median(seconds[label]),
            "quartiles_ms": [1e3 * q for q in timing.quartiles(seconds[label])],
            "ms_per_member": 1e3 * each[label],
            "ratio": each[label] / each["population"],
            "bound": way.bound,
        }
        for label, way in found.items()
    ]


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row as the table has it."""
    return {
        "cell": row["cell"],
        "what": row["what"],
        "members": row["members"],
        "ms": row["ms"],
        "quartiles": "-".join(f"{q:.3g}" for q in row["quartiles_ms"]),
        "ms a member": row["ms_per_member"],
        "in units of the population": row["ratio"],
        "bound": row["bound"],
    }


def run(config: Config) -> list[dict[str, Any]]:
    """Time every cell, print the table, and write the requested files."""
    training.use_all_cores()
    rows = []
    for name in config.cells:
        timing.say(f"{name}: compiling and checking")
        found = measure(config, name)
        print(timing.table([shown(row) for row in found]), "", sep="\n", flush=True)
        rows += found
        written = {"conditions": timing.conditions("flax"), "rows": rows}
        timing.write_json(config.out, "population", written)
    if config.docs:
        sizes = f"B = {config.batch_size}, T = {config.length}, D = {config.input_size}"
        text = (
            f"`python benchmarks/population.py`: {sizes}, H = {config.features}; gradients of the "
            "mean square of the last output with respect to the parameters. Medians of "
            f"{config.rounds} interleaved rounds after {config.warm_ups} to warm up. The "
            "population is one program on all cores; one by one is a program called for each "
            "member; `lax.map` goes through them in one program on one device. One network, all "
            "the work: a single one on the batches of all members, split over all cores."
            f"\n\n{timing.table([shown(row) for row in rows])}\n\n{timing.conditions('flax')}"
        )
        timing.write_section("Populations", text)
    return rows


if __name__ == "__main__":
    run(parse(Config))
