"""What Flax layers and wrapper cells cost, as ratios to `rnnjax.unroll` of the bare cell.

python benchmarks/layers.py
python benchmarks/layers.py --cells elman --out results --docs
"""

import dataclasses
from pathlib import Path
from typing import Any, Literal

import timing

if __name__ == "__main__":
    timing.keep_memory()

import rnnjax
from rnnjax import networks
from rnnjax.command_line import ArgumentError, at_least, parse

import jax
import jax.numpy as jnp
import numpy as np
from libraries import CELLS, check_cells

LAYERS = "rnn", "deep", "bidirectional", "wrappers"


@dataclasses.dataclass(frozen=True)
class Config:
    """Time gradients through layers beside hand-written compositions of `unroll`.

    Time-major layers do what `unroll` does; the default, batch-major, also transposes inputs and
    outputs. The wrappers are cells around the bare cell, with noise where they have some. Before
    anything is timed, gradients are checked: of layers against the composition, of wrappers
    against a plain scan.
    """

    cells: tuple[str, ...] = CELLS
    """Which cells: elman, lstm, gru, or one of your own, ./mine.py:MyCell."""
    layers: tuple[Literal[LAYERS], ...] = LAYERS  # pyright: ignore
    """One layer, two stacked, two directions, or the wrapper cells."""
    batch_size: int = 32
    """B."""
    length: int = 1000
    """T."""
    input_size: int = 32
    """D."""
    features: int = 128
    """H."""
    rounds: int = 7
    """How often everything is timed; medians are reported."""
    out: Path | None = None
    """Directory for layers.json."""
    docs: bool = False
    """Write the table into docs/benchmarks.md."""

    def __post_init__(self):
        at_least(1, self, "batch_size", "length", "input_size", "features", "rounds")
        check_cells(self.cells)
        if not self.layers:
            raise ArgumentError(f"--layers must name some of {', '.join(LAYERS)}")


def by_hand(cell, kind, params, xs):
    """Return the outputs `[T, B, ..]` without Flax."""
    if kind == "rnn":
        return rnnjax.unroll(cell, params[0], xs)[1]
    if kind == "deep":
        return rnnjax.unroll(cell, params[1], rnnjax.unroll(cell, params[0], xs)[1])[1]
    ahead = rnnjax.unroll(cell, params[0], xs)[1]
    behind = rnnjax.unroll(cell, params[1], xs, reverse=True)[1]
    return jnp.concatenate([ahead, behind], -1)


def make(cell, kind, time_major):
    """Return the layer, and the paths of its cells."""
    from rnnjax.layers import RNN, Bidirectional, Stack

    def rnn():
        return RNN(cell, time_major=time_major)

    if kind == "rnn":
        return rnn(), [()]
    if kind == "deep":
        return Stack([rnn(), rnn()]), [("layers_0",), ("layers_1",)]
    return Bidirectional(rnn(), rnn()), [("forward_rnn",), ("backward_rnn",)]


def contenders(config: Config, name: str, kind: str) -> dict[str, Any]:
    """Return what is timed, by name, after checking that all gradients are the same."""
    cell, key = networks.make_cell(name, config.features), jax.random.key(0)
    xs = jax.random.normal(key, (config.length, config.batch_size, config.input_size))
    turned = jnp.swapaxes(xs, 0, 1) + 0  # laid out as a user's batch-major data are
    sizes = [config.input_size, cell.output_size if kind == "deep" else config.input_size]
    params = [cell.init(jax.random.fold_in(key, i), size) for i, size in enumerate(sizes)]
    params = params[: 1 if kind == "rnn" else 2]

    def variables(paths):
        tree: Any = {}
        for path, own in zip(paths, params, strict=True):
            place = tree
            for step in path:
                place = place.setdefault(step, {})
            place["cell"] = own._asdict()
        return {"params": tree}

    width = by_hand(cell, kind, params, xs[:1]).shape[-1]
    weights = jax.random.normal(key, (*xs.shape[:2], width))
    turned_weights = jnp.swapaxes(weights, 0, 1) + 0
    bare = jax.jit(
        jax.grad(lambda params, xs: (by_hand(cell, kind, params, xs) * weights).sum(), (0, 1))
    )
    calls = {"unroll": lambda: bare(params, xs)}
    for what, time_major, inputs, w in (
        ("time-major layer", True, xs, weights),
        ("batch-major layer", False, turned, turned_weights),
    ):
        layer, paths = make(cell, kind, time_major)

        def loss(tree, inputs, layer=layer, w=w):
            return (layer.apply(tree, inputs) * w).sum()

        gradient = jax.jit(jax.grad(loss, (0, 1)))
        tree = variables(paths)
        calls[what] = lambda g=gradient, tree=tree, inputs=inputs: g(tree, inputs)
        check(calls["unroll"](), calls[what](), paths, time_major)
    return calls


def wrapper_contenders(config: Config, name: str) -> dict[str, Any]:
    """Return gradients through the bare cell and through each wrapper, checked, by name."""
    bare: Any = networks.make_cell(name, config.features)
    key = jax.random.key(0)
    xs = jax.random.normal(key, (config.length, config.batch_size, config.input_size))
    weights = jax.random.normal(key, (*xs.shape[:2], bare.output_size))
    cells: dict[str, Any] = {
        "unroll": bare,
        "LayerNorm": rnnjax.cells.LayerNorm(bare),
        "Zoneout": rnnjax.cells.Zoneout(bare, 0.1),
        "VariationalDropout": rnnjax.cells.VariationalDropout(bare, 0.1),
    }
    calls = {}
    for what, cell in cells.items():
        noise = None
        if isinstance(cell, rnnjax.cells.Stochastic):
            noise = cell.with_noise(key, xs).noise
        params = cell.init(key, config.input_size)

        def loss(params, xs, noise, run, cell=cell):
            inputs = xs if noise is None else rnnjax.cells.Noisy(xs, noise)
            return (run(cell, params, inputs) * weights).sum()

        gradient = jax.jit(jax.grad(loss, (0, 1)), static_argnames="run")
        calls[what] = lambda g=gradient, p=params, n=noise: g(p, xs, n, unrolled)
        for a, b in zip(
            jax.tree.leaves(gradient(params, xs, noise, scanned)),
            jax.tree.leaves(calls[what]()),
            strict=True,
        ):
            np.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-4 * float(jnp.abs(a).max()))
    return calls


def unrolled(cell, params, xs):
    """Return the outputs of `unroll`."""
    return rnnjax.unroll(cell, params, xs)[1]


def scanned(cell, params, xs):
    """Return the outputs of a plain scan."""
    ready = cell.prepare(params)

    def step(carry, u):
        carry = cell.step(ready, carry, u)
        return carry, cell.output(carry)

    batch = jax.tree.leaves(xs)[0].shape[1:-1]
    return jax.lax.scan(step, cell.initial_carry(batch), cell.project(ready, xs))[1]


def check(want, got, paths, time_major):
    """Assert that a layer's gradients are those of the hand-written composition."""
    (want_params, want_xs), (tree, xs) = want, got
    pairs = [(want_xs, xs if time_major else jnp.swapaxes(xs, 0, 1))]
    for path, own in zip(paths, want_params, strict=True):
        place = tree["params"]
        for step in path:
            place = place[step]
        pairs += [(leaf, place["cell"][field]) for field, leaf in own._asdict().items()]
    for a, b in pairs:
        np.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-5 * float(jnp.abs(a).max()))


def measure(config: Config, name: str, kind: str) -> list[dict[str, Any]]:
    """Return a row for each contender."""
    if kind == "wrappers":
        calls = wrapper_contenders(config, name)
    else:
        calls = contenders(config, name, kind)
    seconds = timing.interleaved(calls, rounds=config.rounds, warm_ups=3)
    unit = timing.median(seconds["unroll"])
    return [
        {
            "cell": name,
            "layer": kind,
            "what": call,
            "ms": 1e3 * timing.median(times),
            "quartiles": "-".join(f"{1e3 * q:.3g}" for q in timing.quartiles(times)),
            "in units of unroll": timing.median(times) / unit,
        }
        for call, times in seconds.items()
    ]


def run(config: Config) -> list[dict[str, Any]]:
    """Time every layer, print the table, and write what was requested."""
    rows = []
    for name in config.cells:
        for kind in config.layers:
            found = measure(config, name, kind)
            print(timing.table(found), flush=True)
            rows += found
    conditions = timing.conditions("flax")
    timing.write_json(config.out, "layers", {"conditions": conditions, "rows": rows})
    if config.docs:
        shape = f"B = {config.batch_size}, T = {config.length}, D = {config.input_size}"
        text = (
            f"`python benchmarks/layers.py`: {shape}, H = {config.features}, one device; gradients "
            f"with respect to parameters and inputs, medians of {config.rounds} interleaved "
            f"rounds. Unroll is the same composition without Flax, and for the wrappers the bare "
            f"cell.\n\n{timing.table(rows)}\n\n"
            f"{conditions}"
        )
        timing.write_section("Layers", text)
    return rows


if __name__ == "__main__":
    run(parse(Config))
