"""What all benchmarks share: a process fit for timing, interleaved rounds, tables.

Ratios of medians within one interleaved run are what counts; absolute times depend on the machine
and on its neighbours.
"""

import importlib.metadata
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1] / "docs" / "benchmarks.md"
KEEP_MEMORY = (
    "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:"
    "glibc.malloc.trim_threshold=8000000000:glibc.malloc.top_pad=1000000000"
)
DEFAULT_MALLOC = "RNNJAX_DEFAULT_MALLOC"


def keep_memory() -> None:
    """Start this program anew with a malloc that returns no memory to the system.

    A page fault is dear on virtual machines: without this, footprints are measured, not work. Call
    it before anything else. Elsewhere than under glibc the variable has no effect. In the
    environment of `default_malloc` nothing happens.
    """
    if DEFAULT_MALLOC in os.environ:
        return
    if os.environ.get("GLIBC_TUNABLES") != KEEP_MEMORY:
        os.environ["GLIBC_TUNABLES"] = KEEP_MEMORY
        os.execv(sys.executable, [sys.executable, *sys.argv])


def default_malloc() -> dict[str, str]:
    """Return an environment in which a benchmark runs under malloc as the system has it."""
    kept = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    return kept | {DEFAULT_MALLOC: "1"}


def interleaved(
    contenders: Mapping[str, Callable[[], Any]],
    *,
    rounds: int,
    warm_ups: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Return the seconds that each contender took in each round, after some untimed rounds.

    Contenders take turns within a round, so that a noisy neighbour meets them all. Each is called
    once untimed just before it is timed: it pays neither for its compilation nor for the state
    in which its predecessor left memory and caches. `clock` may be `time.process_time`, which adds
    up the processor time of all threads.
    """
    import jax

    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(warm_ups):
        for call in contenders.values():
            jax.block_until_ready(call())
    for _ in range(rounds):
        for name, call in contenders.items():
            jax.block_until_ready(call())
            start = clock()
            jax.block_until_ready(call())
            seconds[name].append(clock() - start)
    return seconds


def median(seconds: list[float]) -> float:
    """Return the median."""
    return statistics.median(seconds)


def quartiles(seconds: list[float]) -> list[float]:
    """Return the first and the third quartile."""
    if len(seconds) == 1:
        return seconds * 2
    first, _, third = statistics.quantiles(seconds, n=4, method="inclusive")
    return [first, third]


def say(text: str) -> None:
    """Print a line of progress on standard error."""
    print(text, file=sys.stderr, flush=True)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as a Markdown table; numbers with three digits, nothing for None."""

    def show(value):
        if value is None:
            return ""
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    if not rows:
        return ""
    header = list(rows[0])
    lines = [header, ["---"] * len(header), *([show(v) for v in row.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def conditions(*packages: str) -> str:
    """Return one line: date, versions (also of those packages that are here), processor, devices.

    If the user has set flags of XLA, they are at its end.
    """
    import rnnjax

    import jax

    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        processor = names[0].split(":")[1].strip() if names else processor
    versions = (
        f"rnnjax {rnnjax.__version__}, JAX {jax.__version__}, Python {platform.python_version()}"
    )
    versions = ", ".join([versions, *filter(None, map(_version, packages))])
    devices = ", ".join(sorted({device.device_kind for device in jax.devices()}))
    flags = f"; XLA_FLAGS={os.environ['XLA_FLAGS']}" if os.environ.get("XLA_FLAGS") else ""
    return f"{date.today()}; {versions}; {processor}, {os.cpu_count()} cores; {devices}{flags}."


def _version(package):
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return None


def write_section(title: str, text: str) -> None:
    """Put `text` under `## title` in docs/benchmarks.md, in place of the old text."""
    old = DOCS.read_text(encoding="utf-8") if DOCS.exists() else "# Benchmarks\n"
    head, *sections = old.split("\n## ")
    kept = {section.split("\n", 1)[0]: section for section in sections}
    kept[title] = f"{title}\n\n{text.strip()}\n"
    DOCS.parent.mkdir(exist_ok=True)
    DOCS.write_text("\n## ".join([head, *kept.values()]), encoding="utf-8")


def write_json(directory: Path | None, name: str, value: Any) -> None:
    """Write NAME.json into a directory, if one was given."""
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{name}.json").write_text(json.dumps(value, indent=2) + "\n")


def save_figure(
    directory: Path, name: str, parts: Sequence[Mapping[str, Any]], draw: Callable[[Any], Any]
) -> None:
    """Write NAME.csv, draw the figure from it, and save that as NAME.png and NAME.svg."""
    from rnnjax.runs import Run

    directory.mkdir(parents=True, exist_ok=True)
    run = Run(directory)
    run.write_table(name, parts)
    run.save_figure(name, draw(run.read_table(name)))


def check_directory(out: Path | None) -> None:
    """Raise an ArgumentError if results cannot be written there: before hours, not after them."""
    from rnnjax.command_line import ArgumentError

    if out is not None and out.exists() and not out.is_dir():
        raise ArgumentError(f"--out must be a directory, got the file {out}")
