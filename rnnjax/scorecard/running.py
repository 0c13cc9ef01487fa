"""One row run in a process of its own, up to a time limit; the next call goes on."""

import contextlib
import dataclasses
import importlib.metadata
import os
import platform
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rnnjax.runs import Run
from rnnjax.scorecard.records import Record, load_record, save_record
from rnnjax.scorecard.rows import Row

GRACE = 60  # seconds in which a terminated run saves its checkpoint
PACKAGES = "jax", "numpy", "flax", "optax"


def run_row(row: Row, folder: Path, *, full: bool) -> Record:
    """Run a row in FOLDER/ID, or go on with it, and return what came out.

    What it prints goes to FOLDER/ID.log, the record to FOLDER/ID.json. A finished run is not run
    again. At its limit, counted over all calls, a run is told to stop; it saves a checkpoint.
    """
    out, log, kept = (folder / f"{row.id}{end}" for end in ("", ".log", ".json"))
    before = load_record(kept)
    if before is not None and before.finished and _is_finished(out):
        return before
    spent = before.seconds if before is not None and out.exists() else 0.0
    options = row.options(full)
    command = [sys.executable, str(row.script.resolve()), "--out", str(out.resolve()), *options]
    out.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with open(log, "a" if spent else "w", encoding="utf-8") as printed:
        code = _run(command, printed, row, spent, 60 * row.limit(full))
    record = Record(
        id=row.id,
        full=full or not row.quick,
        outcome="",
        command=shlex.join(["python", _place(row.script), *options]),
        seconds=round(spent + time.monotonic() - start, 1),
        commit=_commit(row.script.parent),
        versions=_versions(),
    )
    record = dataclasses.replace(record, **_outcome(out, log, code))
    save_record(kept, record)
    return record


def _run(command: list[str], printed: Any, row: Row, spent: float, limit: float) -> int | None:
    """Return the exit code, or None at the time limit; a terminal shows how long it has taken."""
    process = subprocess.Popen(command, stdout=printed, stderr=subprocess.STDOUT)
    start = time.monotonic() - min(spent, limit - 1)  # there is always a second
    try:
        with _sigterm_raises(), _status(row) as show:
            while (taken := time.monotonic() - start) < limit:
                show(f"{taken:.0f} s of at most {limit:.0f} s")
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return process.wait(min(1, limit - taken))
            return None
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def _status(row: Row) -> Iterator[Callable[[str], None]]:
    """Yield a function that shows a text beside the row's id, if standard error is a terminal."""
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.console import Console

    with Console(stderr=True).status(row.id) as status:
        yield lambda text: status.update(f"{row.id}: {text}")


@contextlib.contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Let SIGTERM end the wait for a row, so that its process is told, too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number, frame):
        from rnnjax.training import TerminatedError

        raise TerminatedError("terminated; the same command goes on")

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _outcome(out: Path, log: Path, code: int | None) -> dict[str, Any]:
    if code is None:
        return {"outcome": "stopped at its limit", "reason": "the same command goes on"}
    if code == os.EX_TEMPFAIL:
        return {"outcome": "runs elsewhere"}
    if code or not _is_finished(out):
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return {"outcome": "failed", "reason": lines[-1] if lines else f"exit code {code}"}
    run = Run(out)
    verdict, config = run.read_object("summary.json")["verdict"], run.read_object("config.json")
    first, count = config.get("seed", 0), config.get("seeds")
    seeds = "" if count is None else f"{first} to {first + count - 1}"
    return {
        "outcome": verdict["outcome"],
        "conditions": verdict["conditions"],
        "reason": verdict.get("reason", ""),
        "seeds": seeds,
    }


def _is_finished(out: Path) -> bool:
    return out.is_dir() and Run(out).finished


def _versions() -> str:
    found = [f"Python {platform.python_version()}"]
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    return ", ".join(found)


def _commit(folder: Path) -> str:
    """Return the commit of a working tree, with a plus if files in it have changed; or nothing."""

    def git(*words):
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else None

    try:
        commit, changed = git("rev-parse", "--short", "HEAD"), git("status", "--porcelain", "-uno")
    except OSError:
        return ""
    return f"{commit}{'+' if changed else ''}" if commit else ""


def _place(script: Path) -> str:
    """Return a script as the README names it: from the folder above `experiments`."""
    parts = script.parts
    return (
        "/".join(parts[len(parts) - 1 - parts[::-1].index("experiments") :])
        if ("experiments" in parts)
        else script.name
    )
