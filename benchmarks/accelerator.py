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

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
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
import jax.numpy as jnp
import libraries
import numpy as np
import peers
from libraries import LeftOut, Network

BUDGETS = {"checks": 80, "lengths": 120, "cudnn": 40, "peers": 100, "experiment": 120}
EXPERIMENT = Path(__file__).parents[1] / "experiments" / "vanishing_gradients.py"
GRACE = 20  # seconds that the experiment has for its last checkpoint
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
    length_sizes="16,8,32",
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


class Section:
    """The rows and remarks of one section, printed as they come, and the time that is left."""

    def __init__(self, name: str, seconds: float):
        self.name, self.rows, self.notes, self.failed = name, [], [], False
        self.end = time.perf_counter() + seconds
        timing.say(f"{name}: at most about {seconds:.0f} s")

    def left(self) -> float:
        """Return the seconds that are left."""
        return self.end - time.perf_counter()

    def add(self, **row: Any) -> None:
        """Add and print a row."""
        self.rows.append(row)
        timing.say("  " + ", ".join(f"{k} {_shown(v)}" for k, v in row.items() if v is not None))

    def note(self, text: str) -> None:
        """Add and print a remark."""
        self.notes.append(text)
        timing.say(f"  {text}")

    @contextlib.contextmanager
    def attempt(self, what: str):
        """Do something if there is time; what cannot be done becomes a remark."""
        try:
            if self.left() <= 0:
                raise LeftOut("no time left")
            yield
        except LeftOut as reason:
            self.note(f"{what} left out: {reason}.")
        except AssertionError as error:
            self.failed = True
            self.note(f"{what} failed: {_first_line(error)}")
        except jax.errors.JaxRuntimeError as error:  # memory, or what the device cannot do
            self.note(f"{what} left out: {_first_line(error)}")

    def text(self) -> str:
        """Return the section in Markdown."""
        notes = "\n".join(f"- {note}" for note in self.notes)
        tables = [timing.table([*group]) for group in _alike(self.rows)]
        return "\n\n".join([f"### {self.name}", *tables, *filter(None, [notes])])


def _alike(rows):
    """Return the rows in groups of equal columns."""
    groups: dict[tuple, list] = {}
    for row in rows:
        groups.setdefault(tuple(row), []).append(row)
    return groups.values()


def _shown(value):
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _first_line(error):
    return str(error).splitlines()[0][:200]


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


def on_host(problem: contenders.Problem) -> dict[str, Any]:
    """Return outputs and gradients in float64, computed on the host."""
    cpu = jax.local_devices(backend="cpu")[0]
    params, xs, w = jax.device_put((problem.params, problem.xs, problem.w), cpu)
    with jax.default_device(cpu):
        return contenders.reference(problem._replace(params=params, xs=xs, w=w))


def checks(config: Config, section: Section) -> None:
    """Compare gradients of `unroll` with those of a plain scan in float64 on the host."""
    for name in config.cells:
        with section.attempt(name), jax.default_matmul_precision("float32"):
            problem = contenders.make_problem(name, peers.sizes(config.sizes.check))
            ours = contenders.compiled(unrolled(problem.cell), problem).in_our_terms()
            judge(section, name, "unroll, float64 on the host", ours, on_host(problem))


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
    """Time each way of running a cell against T; all lengths of the shortest first."""
    batch, input_size, features = map(int, config.sizes.length_sizes.split(","))
    for total in config.sizes.lengths:
        for name, ways in WAYS.items():
            with section.attempt(f"{name}, T = {total}"):
                shape = batch, total, input_size, features
                problem = contenders.make_problem(name, shape)
                outputs, unit = None, None
                for which in ways:
                    with section.attempt(f"{name} by {which}, T = {total}"):
                        row, outputs, unit = length_row(config, problem, which, outputs, unit)
                        section.add(cell=name, T=total, way=which, **row)


def length_row(config, problem, which, outputs, unit):
    """Return a row, and the outputs and the time of `unroll`, to which the others are compared."""
    run = way(problem.cell, which)
    found = jax.jit(run)(problem.params, problem.xs)
    contender = contenders.compiled(Network(lambda p, xs: run(p, xs)[1], lambda p: p), problem)
    calls = {"forward": contender.forward, "both": contender.both}
    seconds = timing.interleaved(calls, rounds=config.sizes.rounds)
    forward, both = (1e3 * timing.median(seconds[kind]) for kind in calls)
    got = np.asarray(found[1])
    outputs, unit = (got, both) if outputs is None else (outputs, unit)
    report = found[-1] if which.startswith("newton") else None
    row = {
        "forward ms": forward,
        "both ms": both,
        "in units of unroll": both / unit,
        "difference": float(np.abs(got - outputs).max() / np.abs(outputs).max()),
        "iterations": report and int(report.iterations.max()),
        "converged": report and bool(report.converged.all()),
        "compile s": contender.compile_s,
        "temporaries MB": contender.temp_mb,
    }
    return row, outputs, unit


def cudnn_network(problem: contenders.Problem, lstm: Callable) -> Network:
    """Return the LSTM of `jax.experimental.rnn`, batch-major, with our parameters.

    Args:
        lstm: `jax.experimental.rnn.lstm`, or a function of the same arguments.
    """
    sizes = problem.input_size, problem.features

    def run(weights, xs):
        batch, total = xs.shape[:2]
        zeros = jnp.zeros((1, batch, problem.features), xs.dtype)
        steps = jnp.full(batch, total, jnp.int32)
        return lstm(xs, zeros, zeros, weights, steps, *sizes, 1, 0.0, False)[0]

    def weights(params):
        return jnp.concatenate([w.ravel() for w in libraries.torch_weights(params).values()])

    return Network(run, weights, batch_major=True)


def without_cudnn(xs, h, c, weights, steps, *sizes):
    """Return what `jax.experimental.rnn.lstm` returns, by that module's plain JAX."""
    from jax.experimental import rnn

    input_size, hidden_size, layers, _, both = sizes
    unpacked = rnn.unpack_lstm_weights(weights, input_size, hidden_size, layers, both)
    return rnn.lstm_ref(xs, h, c, *unpacked, steps, *sizes)


def cudnn(config: Config, section: Section) -> None:
    """Compare our LSTM with cuDNN's: results, and times at the device's own precision."""
    from jax.experimental import rnn

    lstm = rnn.lstm
    if jax.default_backend() != "gpu":
        section.note("cuDNN needs a GPU: its times are left out; JAX's own code is checked for it.")
        lstm = without_cudnn
    for text in config.sizes.cudnn:
        with section.attempt(f"cuDNN at {text}"):
            problem = contenders.make_problem("lstm", peers.sizes(text))
            ways = {"rnnjax": unrolled(problem.cell), "cuDNN": cudnn_network(problem, lstm)}
            with jax.default_matmul_precision("float32"):
                exact = {
                    who: contenders.compiled(network, problem) for who, network in ways.items()
                }
                ours, theirs = (contender.in_our_terms() for contender in exact.values())
            judge(section, "lstm", f"cuDNN beside ours at {text}", theirs, ours)
            if lstm is without_cudnn:
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
                rows, reasons = peers.measure(own, name, text)
                for row in rows:
                    section.add(**peers.shown(row))
                for who, why in reasons.items():
                    section.note(f"{what} without {who}: {why}.")


def experiment(config: Config, section: Section) -> None:
    """Run the main experiment until it ends or its time is over."""
    with tempfile.TemporaryDirectory() as folder, section.attempt("the experiment"):
        out = Path(folder) / "run"
        command = [sys.executable, str(EXPERIMENT), *config.sizes.experiment, "--out", str(out)]
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            errors = process.communicate(timeout=section.left())[1]
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            try:
                errors = process.communicate(timeout=GRACE)[1]
            except subprocess.TimeoutExpired:
                process.kill()
                errors = process.communicate()[1]
        seconds = time.perf_counter() - start
        summary = out / "summary.json"
        ended = process.returncode == 0 and summary.exists()
        stopped = process.returncode in (143, -signal.SIGTERM, -signal.SIGKILL)
        last = errors.decode(errors="replace").strip().splitlines()[-1:]
        assert ended or stopped, f"exit code {process.returncode}: {' '.join(last)}"
        for cell, (steps, loss) in progress(out / "metrics.jsonl").items():
            section.add(cell=cell, updates=steps, loss=loss)
        if ended:
            section.note(f"ended after {seconds:.0f} s: {verdict(summary)}.")
        else:
            section.note(f"stopped after {seconds:.0f} s.")


def progress(path: Path) -> dict[str, tuple[int, float]]:
    """Return the last recorded update and its mean loss, by cell."""
    found: dict[str, dict[int, list]] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        row = json.loads(line)
        found.setdefault(row["cell"], {}).setdefault(row["step"], []).append(row["loss"])
    return {cell: (max(by), float(np.mean(by[max(by)]))) for cell, by in found.items()}


def verdict(summary: Path) -> str:
    """Return the outcome in a summary."""
    return str(json.loads(summary.read_text()).get("verdict", {}).get("outcome", "no verdict"))


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
