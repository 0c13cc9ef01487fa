"""What the diagnostics cost, in units of forward and backward passes of the same network.

python benchmarks/diagnostics.py
python benchmarks/diagnostics.py --cells elman --out results --docs
"""

import dataclasses
from pathlib import Path
from typing import Any

import timing

if __name__ == "__main__":
    timing.keep_memory()

import rnnjax
from rnnjax import diagnostics, networks
from rnnjax.command_line import ArgumentError, at_least, parse

import jax
import jax.numpy as jnp
import numpy as np
from libraries import CELLS, check_cells


@dataclasses.dataclass(frozen=True)
class Config:
    """Time the diagnostics beside the passes they are made of, and print their ratios.

    Each bound is one that the library promises for the default shape. Before anything is timed,
    the results are checked against each other.
    """

    cells: tuple[str, ...] = CELLS
    """Which cells: elman, lstm, gru, or one of your own, ./mine.py:MyCell."""
    batch_size: int = 32
    """B."""
    length: int = 1000
    """T."""
    input_size: int = 32
    """D."""
    features: int = 128
    """H."""
    exponents: tuple[int, ...] = (1, 4, 8, 16, 32)
    """How many Lyapunov exponents to ask for."""
    values: int = 8
    """Leading singular values, at ten lags from 1 to T."""
    rounds: int = 7
    """How often everything is timed; medians are reported."""
    out: Path | None = None
    """Directory for diagnostics.json."""
    docs: bool = False
    """Write the table into docs/benchmarks.md."""

    def __post_init__(self):
        at_least(1, self, "batch_size", "input_size", "features", "values", "rounds")
        at_least(2, self, "length")
        check_cells(self.cells)
        for k in self.exponents:
            if not 1 <= k <= self.features:
                raise ArgumentError(f"--exponents must lie in 1..{self.features}, got {k}")
        if self.values > self.features:
            raise ArgumentError(f"--values must lie in 1..{self.features}, got {self.values}")


def contenders(config: Config, name: str) -> dict[str, Any]:
    """Return what is timed for a cell, by name."""
    cell = networks.make_cell(name, config.features)
    key = jax.random.key(0)
    params = cell.init(key, config.input_size)
    xs = jax.random.normal(key, (config.length, config.batch_size, config.input_size))
    probe = jnp.zeros(xs.shape[:2])
    zeros = diagnostics.zero_perturbations(cell, xs)
    cotangent = jax.tree.map(
        lambda s: jax.random.normal(key, s.shape), cell.initial_carry(xs.shape[1:2])
    )
    lags = np.unique(np.geomspace(1, config.length, 10).round().astype(int)).tolist()

    def loss_fn(params, xs, probe=None, perturbations=None):
        _, hidden = rnnjax.unroll(cell, params, xs, norm_probe=probe, perturbations=perturbations)
        return (hidden[-1] ** 2).sum()

    gradient = jax.jit(jax.grad(loss_fn))
    with_norms = jax.jit(jax.grad(loss_fn, (0, 2)))
    with_adjoints = jax.jit(jax.grad(loss_fn, (0, 3)))
    calls = {
        "forward": lambda: rnnjax.unroll(cell, params, xs),
        "gradient": lambda: gradient(params, xs),
        "gradient and adjoint norms": lambda: with_norms(params, xs, probe),
        "gradient and adjoints": lambda: with_adjoints(params, xs, None, zeros),
        "log_gradient_profile": lambda: diagnostics.log_gradient_profile(
            cell, params, xs, cotangent
        ),
    }
    for k in config.exponents:
        calls[f"{k} Lyapunov exponents"] = lambda k=k: diagnostics.lyapunov_spectrum(
            cell, params, xs, k
        )
    calls[f"{config.values} singular values, {len(lags)} lags"] = lambda: (
        diagnostics.jacobian_singular_values(cell, params, xs, lags, config.values)
    )
    check(cell, params, xs, calls)
    return calls


def check(cell, params, xs, calls):
    """Assert that what is timed is right: the same numbers by different routes."""
    want = calls["gradient"]()
    own, norms = calls["gradient and adjoint norms"]()
    full, adjoints = calls["gradient and adjoints"]()
    for other in (own, full):
        for a, b in zip(jax.tree.leaves(other), jax.tree.leaves(want), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * float(jnp.abs(b).max()))
    by_hand = diagnostics.adjoints(cell, params, xs, lambda ys: (ys[-1] ** 2).sum())
    lengths = [
        np.sqrt(sum(np.sum(np.square(leaf, dtype=float), -1) for leaf in jax.tree.leaves(tree)))
        for tree in (adjoints, by_hand)
    ]
    for length in lengths:
        known = length > 1e-30
        np.testing.assert_allclose(np.asarray(norms)[known], length[known], rtol=1e-3)


def measure(config: Config, name: str) -> list[dict[str, Any]]:
    """Return a row for each contender of a cell."""
    calls = contenders(config, name)
    seconds = timing.interleaved(calls, rounds=config.rounds)
    medians = {call: timing.median(times) for call, times in seconds.items()}
    forward, gradient = medians["forward"], medians["gradient"]
    units = {"forward": forward, "gradient": gradient, "backward": gradient - forward}
    bounds = {
        "gradient and adjoint norms": ("gradient", 1.15),
        "gradient and adjoints": ("gradient", None),
        "log_gradient_profile": ("backward", 1.5),
    }
    bounds |= {f"{k} Lyapunov exponents": ("forward", 2 * k + 4.0) for k in config.exponents}
    bounds |= {call: ("gradient", 100.0) for call in calls if "singular" in call}
    rows = []
    for call, time in medians.items():
        unit, bound = bounds.get(call, ("", None))
        rows.append(
            {
                "cell": name,
                "what": call,
                "ms": 1e3 * time,
                "in units of": unit,
                "ratio": time / units[unit] if unit else "",
                "bound": bound if bound is not None else "",
            }
        )
    return rows


def run(config: Config) -> list[dict[str, Any]]:
    """Time every cell, print the table, and write the requested files."""
    rows = []
    for name in config.cells:
        found = measure(config, name)
        print(timing.table(found), flush=True)
        rows += found
    timing.write_json(config.out, "diagnostics", {"conditions": timing.conditions(), "rows": rows})
    if config.docs:
        shape = f"B = {config.batch_size}, T = {config.length}, D = {config.input_size}"
        text = (
            f"`python benchmarks/diagnostics.py`: {shape}, H = {config.features}; medians of "
            f"{config.rounds} interleaved rounds. A backward pass is gradient less forward.\n\n"
            f"{timing.table(rows)}\n\n{timing.conditions()}"
        )
        timing.write_section("Diagnostics", text)
    return rows


if __name__ == "__main__":
    run(parse(Config))
