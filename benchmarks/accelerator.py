"""What an accelerator can answer in eight minutes: one script, five sections with a budget each.

    checks       gradients of our fast path on the device beside those in float64 on the host
    lengths      step by step, by a scan and by Newton's method, against the length T
    cudnn        our LSTM beside cuDNN's, through jax.experimental.rnn: results and times
    peers        our networks beside those of other libraries in JAX
    experiment   experiments/vanishing_gradients.py --preset long, stopped after its budget

Each section prints what it has at once, and leaves out what it has no time for. Checks run with
matrix products in float32. It runs on a CPU as well, where cuDNN has to be left out.

    python benchmarks/accelerator.py
    python benchmarks/accelerator.py --quick                  # small sizes, on a CPU too
    python benchmarks/accelerator.py --sections lengths cudnn --out results
"""

import dataclasses
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import timing

if __name__ == "__main__":
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the experiment needs some too
    timing.keep_memory()

import rnnjax
from rnnjax import networks
from rnnjax.command_line import ArgumentError, at_least, parse

import contenders
import jax
import libraries
import numpy as np
import peers
from budgeted import Section, run_for
from libraries import Network

BUDGETS = {"checks": 80, "lengths": 120, "cudnn": 40, "peers": 100, "experiment": 120}
EXPERIMENT = Path(__file__).parents[1] / "experiments" / "vanishing_gradients.py"
PEERS = "rnnjax", "linen", "nnx", "keras", "equinox", "haiku"


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What is run: B,T,D,H of the problems, and lengths."""

    check: str
    lengths: tuple[int, ...]
    length_sizes: str  # B,D,H
    cudnn: tuple[str, ...]
    peers: tuple[str, ...]
    peer_cells: tuple[str, ...]
    experiment: tuple[str, ...]
    rounds: int


SIZES = Sizes(
    check="16,200,32,64",
    lengths=(100, 1000, 10_000, 100_000),
    length_sizes="16,8,16",
    cudnn=("16,512,64,128", "64,512,128,512", "32,1000,32,128"),
    peers=peers.Config.shapes,
    peer_cells=peers.CELLS,
    experiment=("--preset", "long"),
    rounds=5,
)
QUICK = Sizes(
    check="2,6,3,4",
    lengths=(4, 8),
    length_sizes="2,3,4",
    cudnn=("2,5,3,4",),
    peers=("2,4,3,5",),
    peer_cells=("elman",),
    experiment=(
        *("--preset", "long", "--cells", "elman", "lstm", "--length", "20", "--features", "4"),
        *("--steps", "20", "--seeds", "1", "--batch-size", "4", "--snapshots", "1"),
    ),
    rounds=1,
)
CHECKED = "elman", "lstm", "gru", "slstm", "indrnn", "mingru", "rglru", "mlstm", "deltanet"
WAYS = {
    "gru": ("unroll", "newton-dense", "newton-diagonal"),
    "lstm": ("unroll", "newton-dense", "newton-diagonal"),
    "paragru": ("unroll", "newton-dense"),
    "mingru": ("unroll", "parallel"),
    "lru": ("unroll", "parallel"),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Check and time rnnjax on an accelerator, in under eight minutes.

    Exits with 1 if a check fails.
    """

    sections: tuple[Literal[tuple(BUDGETS)], ...] = tuple(BUDGETS)  # pyright: ignore
    """Which sections, in this order."""
    quick: bool = False
    """Small sizes, to try the script out."""
    cells: tuple[str, ...] = CHECKED
    """Cells whose gradients are checked."""
    seconds: int = sum(BUDGETS.values())
    """Time for all sections together, shared out in proportion to what they need."""
    out: Path | None = None
    """Directory for accelerator.json."""
    docs: bool = False
    """Write the tables into docs/benchmarks.md."""

    def __post_init__(self):
        at_least(1, self, "seconds")
        if not self.sections or len(set(self.sections)) < len(self.sections):
            raise ArgumentError(f"--sections must name some of {', '.join(BUDGETS)}, each once")
        for name in self.cells:
            try:
                networks.cell_class(name)
            except ValueError as error:
                raise ArgumentError(f"--cells {error}") from None
        timing.check_directory(self.out)

    @property
    def sizes(self):
        return QUICK if self.quick else SIZES


def largest_difference(got: Mapping[str, Any], want: Mapping[str, Any]) -> tuple[str, float]:
    """Return what differs most, and by how much, in units of its largest entry."""
    found = {key: np.abs(got[key] - w).max() / np.abs(w).max() for key, w in want.items()}
    found = {key: float(difference) for key, difference in found.items()}
    worst = max(found, key=lambda key: np.inf if np.isnan(found[key]) else found[key])
    return worst, found[worst]


def judge(section: Section, cell: str, what: str, got: Mapping, want: Mapping) -> None:
    """Add a row that says whether results are right, by `contenders.tolerance`."""
    worst, difference = largest_difference(got, want)
    length, batch = want["outputs"].shape[:2]
    allowed = contenders.tolerance(worst, length * batch)
    right = difference <= allowed
    section.failed |= not right
    section.add(
        cell=cell, what=what, worst=worst, difference=difference, allowed=allowed, right=right
    )


def checks(config: Config, section: Section) -> None:
    """Compare gradients of `unroll` with those of a plain scan in float64 on the host."""
    for name in config.cells:
        with section.attempt(name), jax.default_matmul_precision("float32"):
            section.require()
            problem = contenders.make_problem(name, peers.sizes(config.sizes.check))
            ours = contenders.compiled(unrolled(problem.cell), problem).in_our_terms()
            judge(
                section,
                name,
                "unroll, float64 on the host",
                ours,
                contenders.reference_on_host(problem),
            )


def unrolled(cell: Any) -> Network:
    """Return a cell by `rnnjax.unroll`."""
    return Network(lambda params, xs: rnnjax.unroll(cell, params, xs)[1], lambda params: params)


def way(cell: Any, name: str) -> Callable[[Any, Any], tuple]:
    """Return one of the ways of running a cell over time."""
    if name.startswith("newton"):
        jacobian: Any = name.removeprefix("newton-")
        return lambda params, xs: rnnjax.unroll_newton(cell, params, xs, jacobian=jacobian)
    run = {"unroll": rnnjax.unroll, "parallel": rnnjax.unroll_parallel}[name]
    return lambda params, xs: run(cell, params, xs)


def lengths(config: Config, section: Section) -> None:
    """Time each way of running a cell against T, every cell at the shortest length first."""
    batch, input_size, features = map(int, config.sizes.length_sizes.split(","))
    a_step: dict[tuple[str, str], float] = {}  # seconds, forward and backward
    for total in config.sizes.lengths:
        for name, ways in WAYS.items():
            shape, unit = (batch, total, input_size, features), None
            problem = contenders.make_problem(name, shape)
            for which in ways:
                with section.attempt(f"{name} by {which}, T = {total}"):
                    section.require(6 * total * a_step.get((name, which), 0.0))
                    unit, row = length_row(config, section, problem, which, unit)
                    a_step[name, which] = row["both ms"] / 1e3 / total
                    section.add(cell=name, T=total, way=which, **row)


def length_row(config, section, problem, which, unit):
    """Return the outputs and the time of `unroll`, the unit of the others, and a row."""
    run = way(problem.cell, which)
    found = jax.jit(run)(problem.params, problem.xs)
    contender = contenders.compiled(Network(lambda p, xs: run(p, xs)[1], lambda p: p), problem)
    calls = {"forward": contender.forward, "both": contender.both}
    once = sum(timing.interleaved(calls, rounds=1)["both"])
    rounds = max(1, min(config.sizes.rounds, int(section.left() / 20 / once)))
    seconds = timing.interleaved(calls, rounds=rounds)
    forward, both = (1e3 * timing.median(seconds[kind]) for kind in calls)
    got = np.asarray(found[1])
    unit = unit or (got, both)
    report = found[-1] if which.startswith("newton") else None
    return unit, {
        "forward ms": forward,
        "both ms": both,
        "in units of unroll": both / unit[1],
        "difference": float(np.abs(got - unit[0]).max() / np.abs(unit[0]).max()),
        "iterations": report and int(report.iterations.max()),
        "converged": report and bool(report.converged.all()),
        "compile s": contender.compile_s,
        "temporaries MB": contender.temp_mb,
    }


def cudnn(config: Config, section: Section) -> None:
    """Compare our LSTM with cuDNN's: results, and times at the device's own precision."""
    from jax.experimental import rnn

    lstm = rnn.lstm
    if jax.default_backend() != "gpu":
        section.note("cuDNN needs a GPU: its times are left out; JAX's own code is checked for it.")
        lstm = libraries.without_cudnn
    for text in config.sizes.cudnn:
        with section.attempt(f"cuDNN at {text}"):
            section.require()
            problem = contenders.make_problem("lstm", peers.sizes(text))
            ways = {
                "rnnjax": unrolled(problem.cell),
                "cuDNN": libraries.cudnn(problem.features, lstm),
            }
            with jax.default_matmul_precision("float32"):
                exact = [contenders.compiled(network, problem) for network in ways.values()]
                ours, theirs = (contender.in_our_terms() for contender in exact)
            judge(section, "lstm", f"cuDNN beside ours at {text}", theirs, ours)
            if lstm is not rnn.lstm:
                continue
            found = {who: contenders.compiled(network, problem) for who, network in ways.items()}
            calls = {who: contender.both for who, contender in found.items()}
            calls |= {f"{who} forward": contender.forward for who, contender in found.items()}
            seconds = timing.interleaved(calls, rounds=config.sizes.rounds, warm_ups=2)
            times = {label: 1e3 * timing.median(taken) for label, taken in seconds.items()}
            for who in ways:
                section.add(
                    **{"B, T, D, H": text, "contender": who},
                    **{"forward ms": times[f"{who} forward"], "both ms": times[who]},
                    **{"in units of rnnjax": times[who] / times["rnnjax"]},
                )


def peers_table(config: Config, section: Section) -> None:
    """Time our networks beside those of other libraries, as benchmarks/peers.py does."""
    own = dataclasses.replace(peers.Config(), contenders=PEERS, rounds=config.sizes.rounds)
    own = dataclasses.replace(own, warm_ups=1, shapes=config.sizes.peers)
    for text in config.sizes.peers:
        for name in config.sizes.peer_cells:
            what = f"{name} at {text}"
            with section.attempt(what), jax.default_matmul_precision("float32"):
                section.require()
                rows, reasons = peers.measure(own, name, text)
                for row in rows:
                    section.add(**peers.shown(row))
                for who, why in reasons.items():
                    section.note(f"{what} without {who}: {why}.")


def experiment(config: Config, section: Section) -> None:
    """Run the main experiment until it ends or its time is over."""
    with tempfile.TemporaryDirectory() as folder, section.attempt("the experiment"):
        section.require()
        out = Path(folder) / "run"
        command = [sys.executable, str(EXPERIMENT), *config.sizes.experiment, "--out", str(out)]
        start = time.perf_counter()
        code, errors = run_for(section.left(), command)
        seconds = time.perf_counter() - start
        summary = out / "summary.json"
        ended = code == 0 and summary.exists()
        stopped = code in (143, -signal.SIGTERM, -signal.SIGKILL)
        last = errors.strip().splitlines()[-1:]
        assert ended or stopped, f"exit code {code}: {' '.join(last)}"
        for cell, (steps, loss) in progress(out / "metrics.jsonl").items():
            section.add(cell=cell, updates=steps, loss=loss)
        if ended:
            outcome = json.loads(summary.read_text())["verdict"]["outcome"]
            section.note(f"ended after {seconds:.0f} s: {outcome}.")
        else:
            section.note(f"stopped after {seconds:.0f} s.")


def progress(path: Path) -> dict[str, tuple[int, float]]:
    """Return the last recorded update and its mean loss, by cell."""
    found: dict[str, dict[int, list]] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        row = json.loads(line)
        found.setdefault(row["cell"], {}).setdefault(row["step"], []).append(row["loss"])
    return {cell: (max(by), float(np.mean(by[max(by)]))) for cell, by in found.items()}


SECTIONS = {
    "checks": checks,
    "lengths": lengths,
    "cudnn": cudnn,
    "peers": peers_table,
    "experiment": experiment,
}


def run(config: Config) -> list[Section]:
    """Run the sections, print their tables, and write the requested files."""
    start, done, parts = time.perf_counter(), [], []
    conditions = f"{timing.conditions(*peers.PACKAGES)} {jax.device_count()} JAX devices."
    share = config.seconds / sum(BUDGETS[name] for name in config.sections)
    for name in config.sections:
        section = Section(name, BUDGETS[name] * share)
        SECTIONS[name](config, section)
        done.append(section)
        parts.append(section.text())
        print(parts[-1], "", sep="\n", flush=True)
        written = [{"section": s.name, "rows": s.rows, "notes": s.notes} for s in done]
        timing.write_json(
            config.out, "accelerator", {"conditions": conditions, "sections": written}
        )
    print(f"{conditions} {time.perf_counter() - start:.0f} s in all.", flush=True)
    if config.docs:
        about = (
            "`python benchmarks/accelerator.py`: checks, and times, with matrix products in "
            "float32 except where T and cuDNN are timed, which is at the device's own precision."
        )
        timing.write_section("On an accelerator", "\n\n".join([about, *parts, conditions]))
    return done


if __name__ == "__main__":
    sys.exit(any(section.failed for section in run(parse(Config))))
