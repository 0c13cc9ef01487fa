"""Our networks beside those of other libraries: the same mathematics, forward and with gradients.

Forward is the outputs from a zero state; "both" is the gradients of sum(outputs * w), w fixed and
random, with respect to all parameters and to the inputs, with the input projection included for
everyone. All have the same weights, and before anything is timed the outputs and gradients of each
are compared with a plain scan in float64. PyTorch uses all cores; rnnjax, rnnjax-by-hand and the
contenders called sharded split the batch over one device for each. The others run on one device,
where XLA divides single operations between cores if they are large.

    python benchmarks/peers.py
    python benchmarks/peers.py --cells lstm --shapes 32,1000,8,64 --contenders rnnjax torch linen
    python benchmarks/peers.py --sweep --out results --docs
"""

import dataclasses
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import timing

if __name__ == "__main__":
    timing.keep_memory()

from rnnjax import training
from rnnjax.command_line import ArgumentError, at_least, parse

import jax
import jax.numpy as jnp
import libraries
import numpy as np
from contenders import TOLERANCE, gather, make_problem
from libraries import CELLS, LeftOut, check_cells

CONTENDERS = (
    "rnnjax",
    "rnnjax-by-hand",
    "rnnjax-one-device",
    "torch",
    "linen",
    "nnx",
    "linen-sharded",
    "nnx-sharded",
    "keras",
    "equinox",
    "haiku",
    "rnnjax-default-malloc",
)
SWEPT = "rnnjax", "torch", "linen-sharded", "nnx-sharded"
PACKAGES = "flax", "torch", "keras", "equinox", "dm-haiku"
MIDDLE = {"B": 32, "T": 500, "D": 32, "H": 64}
GRID = {
    "T": (100, 300, 1000, 3000, 10_000),
    "H": (16, 32, 64, 128, 256, 512),
    "B": (1, 4, 16, 64, 256),
}
MATMULS = 1024, 2048
FLOPS = {"elman": 6, "lstm": 24, "gru": 18}  # x H (D + H) a token, forward and backward


@dataclasses.dataclass(frozen=True)
class Config:
    """Time our networks and those of other libraries in turns, and print how they compare.

    The default run takes half an hour to an hour on two cores and tells what it is timing.
    """

    cells: tuple[str, ...] = CELLS
    """Which cells: elman, lstm, gru, or one of your own, ./mine.py:MyCell."""
    shapes: tuple[str, ...] = (
        "32,1000,32,128",
        "32,1000,8,64",
        "128,500,128,256",
        "1,2000,8,64",
        "16,512,64,32",
    )
    """Sizes B,T,D,H."""
    contenders: tuple[Literal[CONTENDERS], ...] = CONTENDERS  # pyright: ignore
    """Who takes part. The one with the default malloc runs at the first shape, on its own."""
    rounds: int = 7
    """How often everything is timed; medians and quartiles are reported."""
    warm_ups: int = 5
    """Untimed rounds before."""
    sweep: bool = False
    """Also vary T, H and B one at a time, and draw a figure."""
    out: Path | None = None
    """Directory for peers.json, and for peers.png, .svg and .csv."""
    docs: bool = False
    """Write the tables into docs/benchmarks.md, and the figure beside it."""

    def __post_init__(self):
        at_least(1, self, "rounds")
        at_least(0, self, "warm_ups")
        check_cells(self.cells)
        if not self.contenders:
            raise ArgumentError(f"--contenders must name some of {', '.join(CONTENDERS)}")
        if not self.shapes and not self.sweep:
            raise ArgumentError("--shapes must name some, unless there is a --sweep")
        for text in self.shapes:
            sizes(text)
        timing.check_directory(self.out)


def sizes(text: str, option: str = "--shapes") -> tuple[int, ...]:
    """Return B, T, D and H from a command line."""
    parts = text.split(",")
    if len(parts) != 4 or not all(part.strip().isdecimal() and int(part) for part in parts):
        raise ArgumentError(f"{option} takes B,T,D,H, positive whole numbers, got {text!r}")
    return tuple(map(int, parts))


def gemms() -> Iterator[tuple[str, float, Callable[[], Any]]]:
    """Yield products of square matrices on all cores: a name, the operations, and the call."""
    for n in MATMULS:
        a = jax.random.normal(jax.random.key(n), (n, n))
        dot = jax.jit(jnp.dot)
        yield f"{n} jnp", 2.0 * n**3, lambda dot=dot, a=a: dot(a, a)
        try:
            torch: Any = libraries.import_library("torch")
        except LeftOut:
            continue
        b = torch.tensor(np.asarray(a))
        yield f"{n} torch", 2.0 * n**3, lambda b=b: b @ b


def measure(config: Config, name: str, text: str) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return a row for each contender of a cell at a shape, and why there are not more."""
    shape = sizes(text)
    problem = make_problem(name, shape)
    contenders, reasons = gather([c for c in config.contenders if "malloc" not in c], problem)
    products = list(gemms())
    calls = {label: call for label, _, call in products}
    for who, contender in contenders.items():
        calls |= {f"{who} forward": contender.forward, f"{who} both": contender.both}
    timing.say(f"{name} {text}: timing")
    seconds = timing.interleaved(calls, rounds=config.rounds, warm_ups=config.warm_ups)
    limit = max(flops / timing.median(seconds[label]) for label, flops, _ in products) / 1e9
    rows = [
        {
            "cell": name,
            "shape": list(shape),
            "contender": who,
            "forward_ms": 1e3 * timing.median(seconds[f"{who} forward"]),
            "both_ms": 1e3 * timing.median(seconds[f"{who} both"]),
            "forward_quartiles_ms": [1e3 * q for q in timing.quartiles(seconds[f"{who} forward"])],
            "both_quartiles_ms": [1e3 * q for q in timing.quartiles(seconds[f"{who} both"])],
            "devices": contender.devices,
            "compile_s": contender.compile_s,
            "temp_mb": contender.temp_mb,
            "gemm_gflops": limit,
        }
        for who, contender in contenders.items()
    ]
    if "rnnjax-default-malloc" in config.contenders and text == config.shapes[0]:
        timing.say(f"{name} {text}: again with the default malloc")
        rows.append(with_default_malloc(config, name, text))
    return [rated(row, rows) for row in rows], reasons


def with_default_malloc(config: Config, name: str, text: str) -> dict[str, Any]:
    """Return our own row from a process in which malloc is as the system has it."""
    with tempfile.TemporaryDirectory() as out:
        options = {
            "cells": name,
            "shapes": text,
            "contenders": "rnnjax",
            "rounds": config.rounds,
            "warm-ups": config.warm_ups,
            "out": out,
        }
        arguments = [f"--{key}={value}" for key, value in options.items()]
        subprocess.run(
            [sys.executable, __file__, *arguments],
            env=timing.default_malloc(),
            check=True,
            stdout=subprocess.DEVNULL,
        )
        (row,) = json.loads((Path(out) / "peers.json").read_text())["rows"]
    return row | {"contender": "rnnjax-default-malloc"}


def rated(row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return a row with its rate of work, as it is and as a share of a matmul's, and its ratio."""
    batch, length, input_size, features = row["shape"]
    tokens = batch * length
    known = FLOPS.get(row["cell"])  # of a cell of one's own nobody has counted them
    flops = known and known * features * (input_size + features) * tokens
    gflops = flops and flops / row["both_ms"] / 1e6
    ours = [other["both_ms"] for other in rows if other["contender"] == "rnnjax"]
    return row | {
        "gflops": gflops,
        "gemm_share": gflops and gflops / row["gemm_gflops"],
        "ratio": row["both_ms"] / ours[0] if ours else None,
    }


def shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as the table has it."""
    return {
        "cell": row["cell"],
        "B, T, D, H": ", ".join(map(str, row["shape"])),
        "contender": row["contender"],
        "devices": row["devices"],
        "forward ms": row["forward_ms"],
        "both ms": row["both_ms"],
        "quartiles": "-".join(f"{q:.3g}" for q in row["both_quartiles_ms"]),
        "GFLOP/s": row["gflops"],
        "of a matmul's": row["gemm_share"],
        "in units of rnnjax": row["ratio"],
        "compile s": row["compile_s"],
        "temporaries MB": row["temp_mb"],
    }


def verdicts(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line for each cell and shape: we in units of the fastest of the others."""
    lines = []
    for name, shape in dict.fromkeys((row["cell"], tuple(row["shape"])) for row in rows):
        here = [row for row in rows if (row["cell"], tuple(row["shape"])) == (name, shape)]
        ours = [row for row in here if row["contender"] == "rnnjax"]
        peers = [row for row in here if not row["contender"].startswith("rnnjax")]
        if ours and peers:
            best = min(peers, key=lambda row: row["both_ms"])
            ratio = ours[0]["both_ms"] / best["both_ms"]
            sizes_ = ", ".join(map(str, shape))
            lines.append(
                f"{name} at {sizes_}: {ratio:.2f} of the fastest peer, {best['contender']}"
            )
    return lines


def sweep(config: Config, name: str) -> list[dict[str, Any]]:
    """Return the milliseconds of both around one shape, with T, H and B varied one at a time.

    Where the batch cannot be split, peers run on one device.
    """
    rows = []
    for axis, values in GRID.items():
        for value in values:
            timing.say(f"sweep: {name} at {axis} = {value}")
            problem = make_problem(name, list((MIDDLE | {axis: value}).values()))
            split = problem.xs.shape[1] % jax.device_count() == 0
            names = {who if split else who.split("-")[0]: who for who in SWEPT}
            contenders, _ = gather(list(names), problem)
            calls = {names[who]: contender.both for who, contender in contenders.items()}
            seconds = timing.interleaved(calls, rounds=min(config.rounds, 5), warm_ups=1)
            for who, times in seconds.items():
                low, high = timing.quartiles(times)
                spread = {"median": timing.median(times), "q25": low, "q75": high}
                row = {"cell": name, "axis": axis, "value": value, "contender": who}
                rows.append(row | {key: 1e3 * time for key, time in spread.items()})
    return rows


def figure(table: Mapping[str, np.ndarray]) -> Any:
    """Draw milliseconds against T, H and B on logarithmic axes, a panel each.

    Args:
        table: columns `cell`, `axis`, `value`, `contender`, `median`, `q25`, `q75`.
    """
    from rnnjax.figures import drawing, styles

    labels = {"T": "length T", "H": "hidden units H", "B": "batch size B"}
    axes_of = drawing.unique(table["axis"])
    drawn, axes = drawing.panels(len(axes_of))
    style = styles.series(table["contender"].tolist())
    for ax, axis in zip(axes, axes_of, strict=True):
        panel = drawing.rows(table, axis=axis)
        for who in drawing.unique(panel["contender"]):
            rows = drawing.rows(panel, contender=who)
            drawing.line_with_band(ax, rows["value"], rows, style[who], who)
        ax.set(xscale="log", yscale="log", xlabel=labels[axis])
    axes[0].set_ylabel(f"{styles.name(table['cell'][0])}, forward and backward (ms)")
    axes[0].legend(fontsize="small")
    return drawn


def draw(config: Config, rows: Sequence[Mapping[str, Any]]) -> None:
    """Save the figure of a sweep in the requested places."""
    with tempfile.TemporaryDirectory() as scratch:
        directory = config.out or Path(scratch)
        timing.save_figure(directory, "peers", rows, figure)
        if config.docs:
            timing.DOCS.parent.mkdir(exist_ok=True)
            shutil.copy(directory / "peers.png", timing.DOCS.parent / "peers.png")


def describe() -> str:
    """Return the conditions of the run in a line."""
    return f"{timing.conditions(*PACKAGES)} {jax.device_count()} JAX devices."


def run(config: Config) -> list[dict[str, Any]]:
    """Time every cell at every shape, print tables, and write the requested files."""
    training.use_all_cores()
    rows, notes = [], []
    for text in config.shapes:
        for name in config.cells:
            timing.say(f"{name} {text}: compiling and checking")
            found, reasons = measure(config, name, text)
            missing = [f"{name} at {text} without {who}: {why}." for who, why in reasons.items()]
            print(timing.table([shown(row) for row in found]), *missing, "", sep="\n", flush=True)
            rows, notes = rows + found, notes + missing
            best = max((row["gemm_gflops"] for row in rows), default=None)
            written = {"gemm_gflops": best, "conditions": describe(), "rows": rows}
            timing.write_json(config.out, "peers", written)  # so that a long run loses nothing
    print(*verdicts(rows), sep="\n", flush=True)
    if config.sweep:
        draw(config, sweep(config, "lstm" if "lstm" in config.cells else config.cells[0]))
    if config.docs:
        timing.write_section("Peers", document(config, rows, notes))
    return rows


def document(config: Config, rows: Sequence[Mapping[str, Any]], notes: Sequence[str]) -> str:
    """Return the section of docs/benchmarks.md."""
    about = (
        "`python benchmarks/peers.py`: outputs from a zero state (forward), and gradients of a "
        "weighted sum of all outputs with respect to all parameters and to the inputs (both), the "
        f"same numbers for everyone to {TOLERANCE:.0e} of the largest. Medians of {config.rounds} "
        f"interleaved rounds after {config.warm_ups} to warm up, and the quartiles of both. A "
        "matmul's rate is the best of square ones, n = 1024 or 2048, in the same rounds. "
        "Temporaries are those of all devices. JAX has one device for each core. `rnnjax` splits "
        "the batch over them by itself; in `-by-hand` and `-sharded` each device differentiates "
        "its part, and the gradients are added up once; all else in JAX runs on one device, and "
        "PyTorch in threads on all cores. `rnnjax-default-malloc`: in a process of its own, "
        "without the setting by which malloc keeps memory that all others run with."
    )
    parts = [about]
    if rows:
        lines = [f"- {line}" for line in verdicts(rows)]
        parts += [timing.table([shown(row) for row in rows]), "\n".join(lines)]
    if notes:
        parts.append("\n".join(f"- {note}" for note in notes))
    if config.sweep:
        parts.append("![Milliseconds against length, hidden units and batch size](peers.png)")
    return "\n\n".join([*parts, describe()])


if __name__ == "__main__":
    run(parse(Config))
