"""Runs that are killed at random times and resumed: is every number that of a whole run?

A run of experiments/vanishing_gradients.py is killed (SIGKILL) at a random time, started again with
the same arguments, killed again, ..., and finally left to finish. All that it wrote, and the
parameters and the optimiser's state in its last checkpoint, are then compared with those of an
uninterrupted run, byte by byte.

    python benchmarks/kills.py
    python benchmarks/kills.py --kills 12 --cells gru --at-once 1
"""

import concurrent.futures
import dataclasses
import functools
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from rnnjax.command_line import at_least, parse

import timing
from libraries import CELLS, check_cells

SCRIPT = Path(__file__).parents[1] / "experiments" / "vanishing_gradients.py"
OWN_TIME = "times.jsonl", ".rnnjax"  # these differ between runs: times, and the order of writing


@dataclasses.dataclass(frozen=True)
class Config:
    """Kill runs at random times, resume them, and compare the result with an uninterrupted run."""

    kills: int = 200
    """Number of processes to kill, over all cells."""
    cells: tuple[str, ...] = CELLS
    """Which cells: elman, lstm, gru, or one of your own, ./mine.py:MyCell."""
    kills_of_a_run: int = 4
    """Largest number of kills of one run."""
    steps: int = 400
    """Updates of a run."""
    checkpoint_every: int = 20
    """Updates between two checkpoints."""
    seed: int = 0
    """Seed of the times of the kills."""
    at_once: int = 2
    """Number of runs at the same time."""
    out: Path | None = None
    """Directory for kills.json."""

    def __post_init__(self):
        at_least(1, self, "kills", "kills_of_a_run", "steps", "checkpoint_every", "at_once")
        check_cells(self.cells)
        timing.check_directory(self.out)


LOADING = threading.Lock()


def command(config: Config, cell: str, out: Path) -> list[str]:
    """Return the command of a short run, which has all parts of a long one."""
    arguments = (
        f"--cells {cell} --length 15 --features 8 --steps {config.steps} --snapshots 5 --seeds 2 "
        f"--batch-size 8 --record-every 5 --checkpoint-every {config.checkpoint_every} --out {out}"
    )
    return [sys.executable, "-W", "error", str(SCRIPT), *arguments.split()]


def fingerprint(out: Path) -> dict[str, str]:
    """Return a digest of every file of a finished run, and of the arrays in its checkpoints."""
    import warnings

    from orbax.checkpoint import v1 as ocp

    found = {}
    for path in sorted(out.iterdir()):
        if path.is_file() and path.name not in OWN_TIME:
            text = path.read_bytes().replace(str(out).encode(), b"OUT")
            found[path.name] = hashlib.sha256(text).hexdigest()
    for step in sorted(out.glob("training/*/steps/*")):
        with LOADING, warnings.catch_warnings():  # whose filters all threads share
            warnings.simplefilter("ignore")  # it warns about loading without a sharding
            tree = ocp.load_checkpointables(str(step))["tree"]
        digest = hashlib.sha256()
        for name, leaf in leaves(tree):
            digest.update(f"{name} {leaf.dtype} {leaf.shape}".encode())
            digest.update(leaf.tobytes())
        found[step.relative_to(out).as_posix()] = digest.hexdigest()
    return found


def leaves(tree: Any) -> list[tuple[str, Any]]:
    """Return the arrays of a tree by name, typed keys as integers."""
    import jax
    import numpy as np

    def plain(leaf):
        typed = jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if typed else leaf)

    found = jax.tree_util.tree_leaves_with_path(tree)
    return [(jax.tree_util.keystr(path), plain(leaf)) for path, leaf in found]


def finish(command: list[str], log: Path) -> float:
    """Run a command to its end, and return the time in seconds."""
    start = time.monotonic()
    with open(log, "ab") as file:
        done = subprocess.run(command, stdout=file, stderr=file, env=environment())
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}:\n{log.read_text()[-2000:]}")
    return time.monotonic() - start


def environment() -> dict[str, str]:
    """Return an environment in which compilation takes little time and one core."""
    return {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "JAX_NUM_CPU_DEVICES": "1", **os.environ}


def killed(command: list[str], after: float, log: Path) -> bool:
    """Run a command and kill it after so many seconds; return whether it was still running."""
    with open(log, "ab") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=environment())
        try:
            process.wait(after)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.wait()
    if process.returncode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"exit code {process.returncode}:\n{log.read_text()[-2000:]}")
    return process.returncode == -signal.SIGKILL


def interrupted_run(
    config: Config, cell: str, number: int, times: int, whole: Any, place: Path
) -> dict:
    """Kill a run the given number of times, let it finish, and compare it with a whole one."""
    want, seconds = whole[cell]
    chance = random.Random(f"{config.seed} {cell} {number}")
    out, log = place / f"{cell}-{number}", place / f"{cell}-{number}.log"
    run = command(config, cell, out)
    kill_times = []
    while len(kill_times) < times:
        after = chance.uniform(0, seconds)
        if killed(run, after, log):
            kill_times.append(round(after, 2))
        elif not (out / ".finished").exists():
            raise RuntimeError(f"{out} ended without a result")
        else:
            break
    finish(run, log)
    got = fingerprint(out)
    differ = sorted(n for n in want.keys() | got.keys() if want.get(n) != got.get(n))
    timing.say(f"{cell} {number}: killed after {kill_times} s; {differ or 'the same'}")
    return {"cell": cell, "run": number, "killed_after_s": kill_times, "differ": differ}


def run(config: Config) -> dict[str, Any]:
    """Kill runs, compare them with whole runs, and print the result."""
    with tempfile.TemporaryDirectory() as folder:
        place, whole = Path(folder), {}
        for cell in config.cells:
            out = place / f"{cell}-whole"
            seconds = finish(command(config, cell, out), place / f"{cell}.log")
            whole[cell] = fingerprint(out), seconds
            timing.say(
                f"{cell}: {seconds:.1f} s uninterrupted, {len(whole[cell][0])} files compared"
            )
        one = functools.partial(interrupted_run, config, whole=whole, place=place)
        rows, number = [], 0
        with concurrent.futures.ThreadPoolExecutor(config.at_once) as pool:
            while (left := config.kills - sum(len(r["killed_after_s"]) for r in rows)) > 0:
                batch = []
                for at in range(config.at_once):
                    share = left // config.at_once + (at < left % config.at_once)
                    if share:
                        cell = config.cells[number % len(config.cells)]
                        batch.append((cell, number, min(config.kills_of_a_run, share)))
                        number += 1
                rows += pool.map(one, *zip(*batch, strict=True))
    kills = sum(len(row["killed_after_s"]) for row in rows)
    same = sum(len(row["killed_after_s"]) for row in rows if not row["differ"])
    print(f"{same} of {kills} kills left no trace, in {len(rows)} runs.")
    found = {"kills": kills, "bit_identical": same, "runs": rows}
    timing.write_json(config.out, "kills", found)
    return found


if __name__ == "__main__":
    found = run(parse(Config))
    raise SystemExit(found["bit_identical"] != found["kills"])
