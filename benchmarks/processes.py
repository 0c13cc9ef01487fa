"""Many small networks: a population in one program, or one process per network.

The same script, `small_training.py`, trains all networks or one. The time includes start-up and
compilation of all processes. Separate processes are scheduled in several ways, and the bound is for
the fastest. First, the results of the processes are compared with those of the population: to the
last bit, if both are compiled in the same way.

    python benchmarks/processes.py
    python benchmarks/processes.py --cells lstm --sample 64 --rounds 1     # no extrapolation
"""

import dataclasses
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import timing

if __name__ == "__main__":
    timing.keep_memory()

from rnnjax.command_line import ArgumentError, at_least, parse

import numpy as np
from libraries import CELLS, check_cells

SCRIPT = Path(__file__).parent / "small_training.py"
TOLERANCE, EARLY = 1e-4, 50  # of losses, and for how many updates: see check
CACHE = "JAX_COMPILATION_CACHE_DIR"
CACHE_ALL = "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"
ONE_DEVICE = {"JAX_NUM_CPU_DEVICES": "1"}
WAYS = {
    "as many processes as cores": "one device each, the next one started when one ends",
    "the same, each pinned to a core": "of its own",
    "one process after another": "each with all cores, over which its batch is split",
    "pinned, code cached": "the second, with compiled code kept on disk by JAX from one run before",
}
CACHED = "pinned, code cached"
BOUND = 8
WHOLE = "population.npz"


@dataclasses.dataclass(frozen=True)
class Config:
    """Time a population in one program beside its members as separate processes.

    The bound is one that the library promises for the default sizes.
    """

    cells: tuple[str, ...] = CELLS
    """Which cells: elman, lstm, gru, or one of your own, ./mine.py:MyCell."""
    members: int = 64
    """Networks."""
    sample: int = 8
    """Of these, how many are run as separate processes in a round; the time is scaled up."""
    steps: int = 500
    """Updates of each."""
    batch_size: int = 16
    """B, of each."""
    length: int = 100
    """T."""
    features: int = 32
    """H."""
    rounds: int = 3
    """How often everything is timed, in turn; medians and quartiles are reported."""
    out: Path | None = None
    """Directory for processes.json."""
    docs: bool = False
    """Write the table into docs/benchmarks.md."""

    def __post_init__(self):
        sizes = "members", "sample", "steps", "batch_size", "length", "features", "rounds"
        at_least(1, self, *sizes)
        if self.sample > self.members:
            raise ArgumentError(f"--sample must be at most --members, got {self.sample}")
        check_cells(self.cells)
        timing.check_directory(self.out)


def command(config: Config, cell: str, save: Path, *, seed: int, members: int) -> list[str]:
    """Return the command that trains some members."""
    same = "steps", "batch_size", "length", "features"
    options = {name: getattr(config, name) for name in same}
    options |= {"cell": cell, "save": save, "seed": seed, "members": members}
    pairs = [(f"--{name.replace('_', '-')}", str(value)) for name, value in options.items()]
    return [sys.executable, str(SCRIPT), *(word for pair in pairs for word in pair)]


def cores() -> list[int]:
    """Return the cores that this process may use."""
    return sorted(os.sched_getaffinity(0))


def now() -> np.ndarray:
    """Return a clock, in seconds, and the processor seconds of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return np.array([time.perf_counter(), used.ru_utime + used.ru_stime])


def population(config: Config, cell: str, save: Path) -> np.ndarray:
    """Train all in one program, and return what its process took."""
    words = command(config, cell, save, seed=0, members=config.members)
    start = now()
    subprocess.run(words, check=True)
    return now() - start


def separate(config: Config, cell: str, folder: Path, way: str) -> np.ndarray:
    """Train a sample as separate processes, and return what as many as all would take."""
    saves = [folder / f"{seed}.npz" for seed in range(config.sample)]
    waiting = [command(config, cell, save, seed=seed, members=1) for seed, save in enumerate(saves)]
    every, each = [cores()], [[core] for core in cores()]
    environment, places = {
        "as many processes as cores": (ONE_DEVICE, every * len(each)),
        "the same, each pinned to a core": ({}, each),
        "one process after another": ({}, every),
        CACHED: ({CACHE: str(folder / "cache"), CACHE_ALL: "0"}, each),
    }[way]
    environment = os.environ | environment
    if way == CACHED:
        run_all(waiting[:1], environment, places[:1])
    start = now()
    run_all(waiting, environment, places)
    taken = now() - start
    whole, exact = np.load(folder / WHOLE), way == "as many processes as cores"
    for seed, save in enumerate(saves):
        check(f"{cell}, {way}", np.load(save), whole, seed, exact=exact)
        save.unlink()
    return taken * config.members / config.sample


def run_all(commands: list[list[str]], environment: dict, places: list[Sequence[int]]) -> None:
    """Run the commands, as many at a time as there are places, sets of cores.

    A thread serves each place: it begins the next command as soon as its last has ended.
    """
    waiting = iter(commands)

    def serve(place):
        os.sched_setaffinity(0, place)  # of this thread, and of the processes that it starts
        for words in waiting:
            subprocess.run(words, check=True, env=environment)

    with ThreadPoolExecutor(len(places)) as pool:
        list(pool.map(serve, places))


def check(label: str, alone: Any, whole: Any, member: int, *, exact: bool) -> None:
    """Assert that a network trained alone is the population's.

    Exactly: the losses at every step and the parameters at the end, to the last bit. Otherwise the
    program is compiled for fewer cores, or a batch is split: sums in another order, which hundreds
    of updates blow up. Then the first losses are compared.
    """
    for name in whole if exact else ["loss"]:
        want = whole[name][:, member] if name == "loss" else whole[name][member]
        got = alone[name][:, 0] if name == "loss" else alone[name][0]
        if not exact:
            got, want = got[:EARLY], want[:EARLY]
        difference = np.abs(got - want).max() / np.abs(want).max()
        allowed = 0 if exact else TOLERANCE
        assert difference <= allowed, f"{label}: {name} of member {member}: {difference:.1e}"


def measure(config: Config, cell: str, folder: Path) -> list[dict[str, Any]]:
    """Return a row for each way of a cell."""
    first = dataclasses.replace(config, steps=1)
    taken: dict[str, list[np.ndarray]] = {}
    for _ in range(config.rounds):
        for way in ("population", "population, one update", *WAYS):
            timing.say(f"{cell}: {way}")
            if way in WAYS:
                took = separate(config, cell, folder, way)
            else:
                which, save = (config, WHOLE) if way == "population" else (first, "first.npz")
                took = population(which, cell, folder / save)
            taken.setdefault(way, []).append(took)
    seconds = {way: [float(clock) for clock, _ in times] for way, times in taken.items()}
    busy = {way: timing.median([float(used) for _, used in times]) for way, times in taken.items()}
    middle = {way: timing.median(times) for way, times in seconds.items()}
    best = min((way for way in WAYS if way != CACHED), key=lambda way: middle[way])
    return [
        {
            "cell": cell,
            "what": way,
            "seconds": middle[way],
            "quartiles_s": timing.quartiles(seconds[way]),
            "ratio": middle[way] / middle["population"],
            "bound": f">= {BOUND}" if way == best else "",
            "processor_seconds": busy[way],
            "processor_ratio": busy[way] / busy["population"],
        }
        for way in taken
    ]


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row as the table has it."""
    return {
        "cell": row["cell"],
        "what": row["what"],
        "s": row["seconds"],
        "quartiles": "-".join(f"{q:.3g}" for q in row["quartiles_s"]),
        "in units of the population": row["ratio"],
        "bound": row["bound"],
        "processor s": row["processor_seconds"],
        "in units": row["processor_ratio"],
    }


def run(config: Config) -> list[dict[str, Any]]:
    """Time every cell, print the table, and write the requested files."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for cell in config.cells:
            found = measure(config, cell, Path(folder))
            print(timing.table([shown(row) for row in found]), "", sep="\n", flush=True)
            rows += found
            written = {"conditions": timing.conditions("optax"), "rows": rows}
            timing.write_json(config.out, "processes", written)
    if config.docs:
        sizes = f"B = {config.batch_size}, T = {config.length}, H = {config.features}"
        ways = "; ".join(f"{way}: {how}" for way, how in WAYS.items())
        text = (
            f"`python benchmarks/processes.py`: {config.members} networks ({sizes}), "
            f"{config.steps} updates each on the adding problem, by `small_training.py`; seconds "
            f"with start-up and compilation, medians of {config.rounds} rounds. The population is "
            "one process. Separate processes are the same script for one network, "
            f"{config.sample} a round, their time scaled to {config.members}; {ways}. In the "
            "first way the losses and parameters of each are, to the last bit, the population's. "
            "The bound is for the fastest of the first three; code that is cached is compiled "
            "once for all, by the population too if it were given the cache. Processor seconds, of "
            "all cores, depend less on what else a machine does.\n\n"
            f"{timing.table([shown(row) for row in rows])}\n\n{timing.conditions('optax')}"
        )
        timing.write_section("A population or separate processes", text)
    return rows


if __name__ == "__main__":
    run(parse(Config))
