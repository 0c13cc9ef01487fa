"""Linear cells, whose recurrence can be run in several ways, and Newton's method for the others.

Forward is the outputs from a zero state; "both" is the gradients of sum(outputs * w), w fixed and
random, with respect to all parameters and to the inputs. All run on one device. Before anything is
timed, outputs and gradients of each way are compared with a plain scan in float64. They may be four
times as far from it as a plain scan in float32, or 1e-5 of the largest entry.

    rnnjax               rnnjax.unroll
    rnnjax-parallel      rnnjax.unroll_parallel
    lax.scan             a plain scan over the steps of the same cell, as JAX differentiates it
    associative_scan     jax.lax.associative_scan of the same coefficients, likewise
    memax                the same in memax's words, for the cell that it has too, the LRU

The second part times rnnjax.unroll_newton beside rnnjax.unroll.

    python benchmarks/linear.py
    python benchmarks/linear.py --cells lru mingru --shapes 16,512,64,32 --newton-cells
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import timing

if __name__ == "__main__":
    timing.keep_memory()

import rnnjax
from rnnjax import networks
from rnnjax.command_line import ArgumentError, at_least, parse

import contenders
import jax
import jax.numpy as jnp
import libraries
from jax import lax
from libraries import LeftOut, Network
from peers import sizes
from population import plain_scan

MATRICES = "mlstm", "retnet", "gla", "mamba2", "deltanet", "gateddeltanet"
LINEAR = "lru", "s5", "mingru", "minlstm", "rglru", *MATRICES
CONTENDERS = "rnnjax", "rnnjax-parallel", "lax.scan", "associative_scan", "memax"
RIVALS = "lax.scan", "associative_scan", "memax"
# How much further from float64 than a plain scan in float32 a way may be, where that is beyond
# contenders.TOLERANCE. A rounded phase is multiplied by the steps that the state of an LRU lasts;
# an mLSTM divides by max(|n q|, 1), and roundings cross that kink.
SLACK = 4
COMPILE_BOUND = 3.0


@dataclasses.dataclass(frozen=True)
class Config:
    """Time linear cells by each way of running them, and Newton's method beside a loop.

    The default run takes about half an hour on two cores and tells what it is timing. States that
    are matrices are those of heads, H / --head-size of them, so that a state has H * --head-size
    numbers. The bounds are that rnnjax is no slower than the other libraries' ways, and that
    gradients compile in three seconds.
    """

    cells: tuple[str, ...] = LINEAR
    """Which cells; those that are not linear run by unroll and a plain scan only."""
    shapes: tuple[str, ...] = ("16,4096,64,128", "1,65536,16,64")
    """Sizes B,T,D,H."""
    contenders: tuple[Literal[CONTENDERS], ...] = CONTENDERS  # pyright: ignore
    """Who takes part."""
    head_size: int = 8
    """Width of keys and values in each head, where the state consists of matrices."""
    newton_cells: tuple[str, ...] = ("gru", "indrnn", "paragru")
    """Cells to run by Newton's method, with dense Jacobians and with diagonal ones; or none."""
    newton_shapes: tuple[str, ...] = ("4,1024,8,16", "4,4096,8,16")
    """Their sizes B,T,D,H; an iteration with dense Jacobians takes B T H^3 multiplications."""
    rounds: int = 7
    """How often everything is timed; medians and quartiles are reported."""
    warm_ups: int = 2
    """Untimed rounds before."""
    out: Path | None = None
    """Directory for linear.json."""
    docs: bool = False
    """Write the tables into docs/benchmarks.md."""

    def __post_init__(self):
        at_least(1, self, "rounds", "head_size")
        at_least(0, self, "warm_ups")
        for option, names in (("--cells", self.cells), ("--newton-cells", self.newton_cells)):
            if len(set(names)) < len(names):
                raise ArgumentError(f"{option} must name each cell once, got {' '.join(names)}")
            for name in names:
                try:
                    networks.cell_class(name)
                except ValueError as error:
                    raise ArgumentError(f"{option} {error}") from None
        if not (self.cells or self.newton_cells):
            raise ArgumentError("--cells and --newton-cells must not both be empty")
        if not self.contenders:
            raise ArgumentError(f"--contenders must name some of {', '.join(CONTENDERS)}")
        for text in self.newton_shapes:
            sizes(text, "--newton-shapes")
        for text in self.shapes:
            if sizes(text)[3] % self.head_size and set(self.cells) & set(MATRICES):
                raise ArgumentError(f"--head-size must divide H, got {self.head_size} and {text}")
        timing.check_directory(self.out)


def cell_options(config: Config, name: str, features: int) -> dict[str, Any]:
    """Return the cell's arguments beside `features`."""
    return {"num_heads": features // config.head_size} if name in MATRICES else {}


def associative(cell: Any) -> Network:
    """Return a linear cell by `jax.lax.associative_scan` over the coefficients of all steps."""
    if not isinstance(cell, rnnjax.Linear):
        raise LeftOut("it is not linear")

    def after(first, second):
        (a, b), (c, d) = first, second
        return jax.tree.map(jnp.multiply, c, a), jax.tree.map(lambda c, b, d: c * b + d, c, b, d)

    def run(params, xs):
        coefficients = cell.project(cell.prepare(params), xs)
        return cell.output(lax.associative_scan(after, coefficients)[1])

    return Network(run, lambda params: params)


def memax(cell: Any) -> Network:
    """Return the LRU as memax runs it, with our coefficients: a sequence at a time, vmapped."""
    if not isinstance(cell, rnnjax.cells.LRU):
        raise LeftOut("memax does not have it with our equations")
    scans = libraries.import_library("memax.equinox.scans")
    semigroup = libraries.import_library("memax.equinox.semigroups.lru").LRUSemigroup(cell.features)

    def run(params, xs):
        a, b = cell.project(cell.prepare(params), xs)

        def one(a, b):
            return scans.semigroup_scan(semigroup, semigroup.initialize_carry(), (a, b))[1]

        return cell.output(type(a)(jax.vmap(one, 1, 1)(a.s, b.s)))

    return Network(run, lambda params: params)


def network(who: str, problem: contenders.Problem) -> Network:
    """Return one way of running the problem's cell.

    Raises:
        LeftOut: there is no such way; why.
    """
    cell = problem.cell
    if who == "rnnjax":
        return Network(lambda params, xs: rnnjax.unroll(cell, params, xs)[1], lambda p: p)
    if who == "lax.scan":
        return plain_scan(problem.name, problem.features, **problem.options)
    if who == "rnnjax-parallel":
        if not isinstance(cell, rnnjax.Linear):
            raise LeftOut("it is not linear")
        return Network(lambda params, xs: rnnjax.unroll_parallel(cell, params, xs)[1], lambda p: p)
    return memax(cell) if who == "memax" else associative(cell)


def timed(
    config: Config, problem: contenders.Problem, ways: Mapping[str, Network]
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return a row for each way that computes the right numbers, and why the others have none.

    Raises:
        AssertionError: a way of rnnjax computes wrong numbers.
    """
    found = {who: contenders.compiled(way, problem) for who, way in ways.items()}
    want, scan = contenders.reference(problem), found.get("lax.scan")
    scan = scan or contenders.compiled(network("lax.scan", problem), problem)
    errors = contenders.differences(scan, want)
    least, wrong = {what: SLACK * error for what, error in errors.items()}, {}
    for who, contender in list(found.items()):
        try:
            contenders.check({who: contender}, want, least)
        except AssertionError as error:
            if who not in RIVALS:
                raise
            wrong[who] = f"at T = {problem.xs.shape[0]}, {str(error).removeprefix(f'{who}: ')}"
            del found[who]
    calls = {}
    for who, contender in found.items():
        calls |= {f"{who} forward": contender.forward, f"{who} both": contender.both}
    seconds = timing.interleaved(calls, rounds=config.rounds, warm_ups=config.warm_ups)
    length, batch, input_size = problem.xs.shape
    rows = [
        {
            "cell": problem.name,
            "shape": [batch, length, input_size, problem.features],
            "contender": who,
            "forward_ms": 1e3 * timing.median(seconds[f"{who} forward"]),
            "both_ms": 1e3 * timing.median(seconds[f"{who} both"]),
            "forward_quartiles_ms": [1e3 * q for q in timing.quartiles(seconds[f"{who} forward"])],
            "both_quartiles_ms": [1e3 * q for q in timing.quartiles(seconds[f"{who} both"])],
            "compile_s": contender.compile_s,
            "temp_mb": contender.temp_mb,
        }
        for who, contender in found.items()
    ]
    ours = next((row for row in rows if row["contender"] == "rnnjax"), None)
    for kind in ("forward", "both"):
        for row in rows:
            row[f"{kind}_ratio"] = ours and row[f"{kind}_ms"] / ours[f"{kind}_ms"]
    return rows, wrong


def measure(config: Config, name: str, text: str) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return a row for each way of running a cell at a shape, and why there are not more."""
    shape = sizes(text)
    problem = contenders.make_problem(name, shape, **cell_options(config, name, shape[3]))
    ways, reasons = {}, {}
    for who in config.contenders:
        try:
            ways[who] = network(who, problem)
        except LeftOut as reason:
            reasons[who] = str(reason)
    rows, wrong = timed(config, problem, ways)
    return rows, reasons | wrong


def measure_newton(config: Config, name: str, text: str) -> list[dict[str, Any]]:
    """Return a row for `unroll`, and one for each Jacobian that Newton's method has here."""
    problem = contenders.make_problem(name, sizes(text))
    cell, ways, iterations = problem.cell, {"rnnjax": network("rnnjax", problem)}, {}
    for jacobian in ("dense", "diagonal"):
        who = f"newton-{jacobian}"

        def run(params, xs, jacobian=jacobian):
            return rnnjax.unroll_newton(cell, params, xs, jacobian=jacobian)

        report = jax.jit(run)(problem.params, problem.xs)[-1]
        iterations[who] = int(report.iterations.max())
        if bool(report.converged.all()):
            ways[who] = Network(lambda params, xs, run=run: run(params, xs)[1], lambda p: p)
    rows, _ = timed(config, problem, ways)
    for row in rows:
        row["iterations"] = iterations.get(row["contender"])
    unsolved = set(iterations) - {row["contender"] for row in rows}
    return rows + [
        dict.fromkeys(rows[0])
        | {"cell": name, "shape": rows[0]["shape"], "contender": f"{who}, not converged"}
        | {"iterations": iterations[who]}
        for who in sorted(unsolved)
    ]


def shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as the table has it."""
    quartiles = row["both_quartiles_ms"]
    columns = {
        "cell": row["cell"],
        "B, T, D, H": ", ".join(map(str, row["shape"])),
        "contender": row["contender"],
        "forward ms": row["forward_ms"],
        "in units of rnnjax": row["forward_ratio"],
        "both ms": row["both_ms"],
        "quartiles": quartiles and "-".join(f"{q:.3g}" for q in quartiles),
        "both in units": row["both_ratio"],
        "compile s": row["compile_s"],
        "temporaries MB": row["temp_mb"],
    }
    if "iterations" in row:
        columns["iterations"] = row["iterations"]
    return columns


def verdicts(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line for each cell and shape: how it stands to the bounds."""
    lines = []
    for name, shape in dict.fromkeys((row["cell"], tuple(row["shape"])) for row in rows):
        here = {r["contender"]: r for r in rows if (r["cell"], tuple(r["shape"])) == (name, shape)}
        ours, rivals = here.get("rnnjax"), [here[who] for who in RIVALS if who in here]
        if ours is None or not rivals:
            continue
        ratios = [ours[kind] / min(r[kind] for r in rivals) for kind in ("forward_ms", "both_ms")]
        kept = max(ratios) <= 1 and ours["compile_s"] <= COMPILE_BOUND
        lines.append(
            f"{name} at {', '.join(map(str, shape))}: forward {ratios[0]:.2f} and both "
            f"{ratios[1]:.2f} of the fastest other way; the gradient compiles in "
            f"{ours['compile_s']:.1f} s: {'within' if kept else 'beyond'} the bounds"
        )
    return lines


def run(config: Config) -> list[dict[str, Any]]:
    """Time everything, print tables, and write the requested files."""
    conditions = timing.conditions("memax", "equinox")
    rows, newton, notes = [], [], []

    def write():  # so that a long run loses nothing
        written = {"conditions": conditions, "rows": rows, "newton": newton}
        timing.write_json(config.out, "linear", written)

    for text in config.shapes if config.cells else ():
        for name in config.cells:
            timing.say(f"{name} {text}: compiling, checking and timing")
            found, reasons = measure(config, name, text)
            missing = [f"{name} without {who}: {why}." for who, why in reasons.items()]
            print(timing.table([shown(row) for row in found]), *missing, "", sep="\n", flush=True)
            rows += found
            notes += [note for note in missing if note not in notes]
            write()
    for text in config.newton_shapes if config.newton_cells else ():
        for name in config.newton_cells:
            timing.say(f"{name} {text}: Newton's method")
            found = measure_newton(config, name, text)
            print(timing.table([shown(row) for row in found]), "", sep="\n", flush=True)
            newton += found
            write()
    print(*verdicts(rows), conditions, sep="\n", flush=True)
    if config.docs:
        timing.write_section("Linear cells", document(config, rows, newton, notes, conditions))
    return rows + newton


def document(config: Config, rows: Sequence, newton: Sequence, notes: Sequence, last: str) -> str:
    """Return the section of docs/benchmarks.md."""
    about = (
        "`python benchmarks/linear.py`: outputs from a zero state (forward), and gradients of a "
        "weighted sum of all outputs with respect to all parameters and to the inputs (both), the "
        f"same numbers by every way. Medians of {config.rounds} "
        f"interleaved rounds after {config.warm_ups} to warm up; one device. `rnnjax` is `unroll`, "
        "`rnnjax-parallel` is `unroll_parallel`, `lax.scan` is a plain scan over the cell's steps, "
        "`associative_scan` is JAX's, over the coefficients of all steps; JAX differentiates the "
        f"last two. Where the state consists of matrices, heads are {config.head_size} wide. "
        "Compile s is the time to compile the gradient."
    )
    parts = [about]
    if rows:
        lines = [f"- {line}" for line in (*verdicts(rows), *notes)]
        parts += [timing.table([shown(row) for row in rows]), "\n".join(lines)]
    if newton:
        parts += [
            "`unroll_newton` beside `unroll`, the largest number of iterations in the batch:",
            timing.table([shown(row) for row in newton]),
        ]
    return "\n\n".join([*parts, last])


if __name__ == "__main__":
    run(parse(Config))
