"""Gradients forward in time: the time of a step and the bytes of traces, against the units H.

Beside them back-propagation: its time a step, forward and backward, and the bytes that it keeps for
T steps, as XLA plans them. All on one device and one sequence, D = 1, float32, and a loss at every
step. Times are processor time, of all threads. Before anything is timed, the gradients of the
methods that are exact for a cell are compared with those of a plain scan in float64.

The exponents of H are fitted to the two largest sizes, and asserted for cells with a dense
recurrent kernel. Of bytes they are known but for lower orders; those of times have wide intervals,
since caches and the fixed cost of a step bend them. Ratios in one run count; times depend on who
else computes.

The last part is `streams.py`: the peak of an LRU's memory over sequences of very different length,
which must be the same.

    python benchmarks/online.py
    python benchmarks/online.py --cells gru --sizes 16 32 --local-sizes 16 32 --no-check
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import timing

if __name__ == "__main__":
    timing.keep_memory()

import rnnjax
from rnnjax import networks, online
from rnnjax.command_line import ArgumentError, at_least, distinct, parse
from rnnjax.networks import short_name

import contenders
import jax
import jax.numpy as jnp
import numpy as np
import streams

METHODS: dict[str, online.Method] = {
    'RTRL("dense")': online.RTRL("dense"),
    "RTRL()": online.RTRL(),
    "SnAp(2)": online.SnAp(2),
    "SnAp(1)": online.SnAp(1),
    "EProp()": online.EProp(),
    "RFLO(0.9)": online.RFLO(0.9),
    "UORO()": online.UORO(),
    "Truncated(8)": online.Truncated(8),
}
DENSE, AUTO, BPTT = 'RTRL("dense")', "RTRL()", "BPTT"
LOCAL_CELLS = "indrnn", "lru"  # units see only themselves
# Where a method is exact. The mask of SnAp(2) is full for a dense kernel and one leaf of state.
EXACT: dict[str, tuple[str, ...] | None] = {
    DENSE: None,
    AUTO: None,
    "SnAp(2)": ("elman", "gru", *LOCAL_CELLS),
    "SnAp(1)": LOCAL_CELLS,
    "EProp()": ("lru",),
}
# Exponents for a dense recurrent kernel. Bytes: G H (H + 2) parameters, so from 0.1 below the
# leading order. Times: 0.6 each way; a fixed cost of a step bends them down. Both sizes must be
# beyond the cache: a number of the P^2 tangents takes 1.3 ns within it and 2.2 to 3.1 ns outside
# (measured), so that of Elman from 32 to 64 units is 5.
BOUNDS = {
    (DENSE, "ms"): (3.4, 4.6),
    (DENSE, "bytes"): (2.9, 3.0),
    (AUTO, "bytes"): (2.9, 3.0),
    ("SnAp(1)", "ms"): (1.4, 2.6),
    ("SnAp(1)", "bytes"): (1.9, 2.0),
}
FASTER, GROWTH_MB = 5.0, 64.0  # peaks of equal processes differ by 12 MB; the states are 512 MB
MOST_TANGENTS = 4e8  # P^2 numbers, of which RTRL("dense") holds several times as many


@dataclasses.dataclass(frozen=True)
class Config:
    """Time steps of online methods beside back-propagation.

    Bounds: the exponents of H; the GRU's RTRL() five times as fast as RTRL("dense") at 64 units;
    and peak memory that varies by at most 64 MB from the shortest to the longest sequence, of which
    the states alone would take 512 MB.
    """

    cells: tuple[str, ...] = ("elman", "lstm", "gru", *LOCAL_CELLS)
    """Cells by name."""
    sizes: tuple[int, ...] = (16, 32, 64, 96)
    """H of methods whose traces are all of ds/dtheta."""
    local_sizes: tuple[int, ...] = (64, 128, 256)
    """H of the others, and of back-propagation, which runs at both."""
    length: int = 32
    """T, steps in a timed sequence."""
    dense_length: int = 2
    """T of the methods at --sizes, for cells with a dense recurrent kernel."""
    kept_length: int = 1000
    """T at which the bytes are counted that back-propagation keeps."""
    stream_lengths: tuple[int, ...] = (1000, 1_000_000)
    """Lengths at which an LRU's memory is measured, each in a process of its own; or none."""
    rounds: int = 3
    """How often everything is timed, in turn; medians and quartiles are reported."""
    check: bool = True
    """Assert the bounds; gradients are always checked."""
    out: Path | None = None
    """Directory for online.json."""
    docs: bool = False
    """Write the tables into docs/benchmarks.md."""

    def __post_init__(self):
        at_least(1, self, "length", "dense_length", "kept_length", "rounds")
        distinct(self, "cells", "sizes", "local_sizes")
        for option in ("sizes", "local_sizes"):
            if len(getattr(self, option)) < 2 or min(getattr(self, option)) < 1:
                name = option.replace("_", "-")
                raise ArgumentError(f"--{name} must be two or more positive sizes, to fit a line")
        if min(self.stream_lengths, default=1) < 1:
            raise ArgumentError("--stream-lengths must be positive")
        for name in self.cells:
            try:
                networks.make_cell(name, 8)
            except ValueError as error:
                raise ArgumentError(f"--cells {error}") from None
        timing.check_directory(self.out)


def is_whole(name: str, label: str) -> bool:
    """Return whether a method carries all of ds/dtheta for a cell."""
    return label in (DENSE, "SnAp(2)") or (label == AUTO and name not in LOCAL_CELLS)


def methods_at(config: Config, name: str, features: int) -> list[str]:
    """Return the methods to time for a cell at one size."""
    shapes = jax.eval_shape(lambda: contenders.make_problem(name, (1, 1, 1, features)).params)
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    return [
        label
        for label in METHODS
        if features in (config.sizes if is_whole(name, label) else config.local_sizes)
        and (label != DENSE or count**2 <= MOST_TANGENTS)
    ]


def gradient(method: online.Method | None, cell: Any, w: Any) -> Callable[[Any, Any], Any]:
    """Return the gradient of sum(y * w) as a function of parameters and inputs; None means BPTT."""
    if method is None:
        return jax.grad(lambda params, xs: jnp.sum(rnnjax.unroll(cell, params, xs)[1] * w))

    run = functools.partial(online.gradient, method, cell, key=jax.random.key(2))
    return lambda params, xs: run(params, xs, lambda y, t: jnp.sum(y * w[t]))[0]


def kept_bytes(method: online.Method | None, problem: contenders.Problem, length: int) -> int:
    """Return the bytes of a method's traces, or those that BPTT keeps for `length` steps."""
    cell, params, (_, batch, input_size) = problem.cell, problem.params, problem.xs.shape
    if method is None:
        xs, w = (jax.ShapeDtypeStruct((length, *a.shape[1:]), a.dtype) for a in problem[2:4])
        run = jax.jit(lambda params, xs, w: gradient(None, cell, w)(params, xs))
        memory: Any = run.lower(params, xs, w).compile().memory_analysis()
        return memory.temp_size_in_bytes
    x, carry = jnp.zeros((batch, input_size)), cell.initial_carry((batch,))
    traces = jax.eval_shape(lambda p: method.init(cell, p, carry, x, jax.random.key(2)), params)
    return sum(a.size * a.dtype.itemsize for a in jax.tree.leaves(traces))


def check_gradient(name: str, label: str, got: Any, want: Mapping[str, Any], tokens: int) -> None:
    """Assert that an exact method's gradient is that in float64."""
    leaves = jax.tree_util.tree_leaves_with_path(got)
    found = {jax.tree_util.keystr(path).lstrip("."): np.asarray(leaf) for path, leaf in leaves}
    for what in found.keys() & want.keys():
        error = np.abs(found[what] - want[what]).max() / np.abs(want[what]).max()
        allowed = contenders.tolerance(what, tokens)
        assert error <= allowed, (
            f"{name}, {label}: {what} differs from that in float64 by {error:.1e} of its largest "
            f"entry; allowed are {allowed:.0e}"
        )


def measure(config: Config, name: str, features: int, labels: Sequence[str]) -> Iterator[dict]:
    """Yield a row for BPTT and each of the methods at one size, after checking them."""
    methods = {BPTT: None} | {label: METHODS[label] for label in labels}
    calls, problems = {}, {}
    for label, method in methods.items():
        is_long = name in LOCAL_CELLS or not is_whole(name, label)
        length = config.length if is_long else config.dense_length
        problem = contenders.make_problem(name, (1, length, 1, features))
        given = problem.params, problem.xs
        program = jax.jit(gradient(method, problem.cell, problem.w)).lower(*given).compile()
        calls[label], problems[label] = functools.partial(program, *given), problem
        exact = EXACT.get(label, ()) if method else None
        if exact is None or name in exact:
            check_gradient(name, label, calls[label](), contenders.reference(problem), length)
    seconds = timing.interleaved(calls, rounds=config.rounds, clock=time.process_time)
    for label, times in seconds.items():
        length = len(problems[label].xs)
        yield {
            "cell": short_name(name),
            "method": label,
            "H": features,
            "ms": 1e3 * timing.median(times) / length,
            "quartiles_ms": [1e3 * q / length for q in timing.quartiles(times)],
            "bytes": kept_bytes(methods[label], problems[label], config.kept_length),
        }


def exponents(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the slopes of log time and log bytes against log H, of each cell and method."""
    found = []
    for cell, method in dict.fromkeys((row["cell"], row["method"]) for row in rows):
        own = [row for row in rows if (row["cell"], row["method"]) == (cell, method)][-2:]
        sizes = [row["H"] for row in own]
        slopes, bounds = {}, {}
        for what in ("ms", "bytes"):
            line = np.polyfit(np.log(sizes), np.log([row[what] for row in own]), 1)
            slopes[what] = float(line[0])
            bounds[what] = None if cell in LOCAL_CELLS else BOUNDS.get((method, what))
        found.append({"cell": cell, "method": method, "sizes": sizes, **slopes, "bounds": bounds})
    return found


def verdicts(rows: Sequence, fitted: Sequence, streams: Sequence) -> dict[str, Any]:
    """Return lines, and whether each is within its bound; None where there is none."""
    lines = {}
    for fit in fitted:
        for what, bounds in fit["bounds"].items():
            if bounds:
                low, high = bounds
                line = f"{fit['cell']}, {fit['method']}: {what} grow as H^{fit[what]:.2f}"
                lines[f"{line}, bounds {low} to {high}"] = low <= fit[what] <= high
    times = {(row["cell"], row["method"], row["H"]): row["ms"] for row in rows}
    for cell, method, features in times:
        if method == DENSE and cell not in LOCAL_CELLS and (cell, AUTO, features) in times:
            ratio = times[cell, DENSE, features] / times[cell, AUTO, features]
            line = f"{cell}, H = {features}: {AUTO} is {ratio:.1f} times as fast as {DENSE}"
            is_bound = cell == "gru" and features == 64
            lines[line + (f", bound {FASTER:g}" * is_bound)] = ratio >= FASTER if is_bound else None
    if len(streams) > 1:
        peaks = [row["peak_mb"] for row in streams]
        line = f"lru: the peak of memory varies by {max(peaks) - min(peaks):.1f} MB over all T"
        lines[f"{line}, bound {GROWTH_MB:g}"] = max(peaks) - min(peaks) <= GROWTH_MB
    return lines


def shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as its table has it."""
    return {
        "cell": row["cell"],
        "method": row["method"],
        "H": row["H"],
        "ms a step": row["ms"],
        "quartiles": "-".join(f"{q:.3g}" for q in row["quartiles_ms"]),
        "kB kept": row["bytes"] / 1e3,
    }


def run(config: Config) -> list[dict[str, Any]]:
    """Time everything, print the tables, write the requested files, and assert the bounds."""
    rows = []
    for name in config.cells:
        for features in sorted({*config.sizes, *config.local_sizes}):
            timing.say(f"{name}, H = {features}: checking and timing")
            rows += measure(config, name, features, methods_at(config, name, features))
            timing.write_json(config.out, "online", {"rows": rows})  # a long run loses nothing
    found_streams = [streams.stream_apart(length) for length in config.stream_lengths]
    fits = exponents([row for row in rows if row["method"] != BPTT])
    kept = verdicts(rows, fits, found_streams)
    ends = {True: ": within", False: ": beyond", None: ""}
    lines = [line + ends[good] for line, good in kept.items()]
    names = {"ms": "time as H^", "bytes": "bytes as H^"}
    parts = [
        timing.table([shown(row) for row in rows]),
        timing.table([{names.get(k, k): v for k, v in f.items() if k != "bounds"} for f in fits]),
        timing.table(found_streams),
        "\n".join(f"- {line}" for line in lines),
        timing.conditions(),
    ]
    print(text := "\n\n".join(part for part in parts if part), flush=True)
    written = {"rows": rows, "exponents": fits, "streams": found_streams, "verdicts": kept}
    timing.write_json(config.out, "online", written | {"conditions": parts[-1]})
    if config.docs:
        timing.write_section("Gradients forward in time", f"{about(config)}\n\n{text}")
    if config.check:
        assert False not in kept.values(), [line for line in lines if line.endswith("beyond")]
    return rows


def about(config: Config) -> str:
    """Return what the tables show."""
    return (
        "`python benchmarks/online.py`: one sequence, D = 1, float32, one device; a loss at every "
        f"step. Processor time of all threads, medians of {config.rounds} interleaved rounds. BPTT "
        f"is `unroll`, forward and backward, in sequences of {config.length} steps, and what it "
        f"keeps is XLA's plan of temporaries for {config.kept_length} steps. Exact gradients were "
        "compared with those of a plain scan in float64. The last table is an LRU of 64 units over "
        "sequences of T steps, each in its own process; exponents are of the two largest sizes."
    )


if __name__ == "__main__":
    run(parse(Config))
