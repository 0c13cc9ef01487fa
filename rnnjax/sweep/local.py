"""Several workers on one machine, each with its own cores and GPUs."""

import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from rnnjax.command_line import ArgumentError
from rnnjax.sweep import processes
from rnnjax.sweep.worker import print_line


def divide(things: Sequence[Any], workers: int) -> list[list[Any]]:
    """Divide things among workers, in order; if there are fewer things, workers share them."""
    if len(things) < workers:
        return [[things[i % len(things)]] for i in range(workers)]
    ends = [len(things) * i // workers for i in range(workers + 1)]
    return [list(things[a:b]) for a, b in itertools.pairwise(ends)]


def gpus() -> list[str]:
    """Return the GPUs that this process may use: those in CUDA_VISIBLE_DEVICES, or all."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip()]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return []
    return [str(i) for i, line in enumerate(listed.stdout.splitlines()) if line.startswith("GPU")]


def environments(workers: int, gpus_per_worker: int) -> list[dict[str, str]]:
    """Return the environment variables that differ between workers.

    Raises:
        ArgumentError: there are too few GPUs.
    """
    if gpus_per_worker == 0:
        return [{} for _ in range(workers)]
    available = gpus()
    if len(available) < workers * gpus_per_worker:
        raise ArgumentError(
            f"--workers {workers} with --gpus-per-worker {gpus_per_worker} need "
            f"{workers * gpus_per_worker} GPUs, but {len(available)} can be seen"
        )
    ends = range(0, workers * gpus_per_worker, gpus_per_worker)
    return [{"CUDA_VISIBLE_DEVICES": ",".join(available[i : i + gpus_per_worker])} for i in ends]


def worker_command(out: Path, trust: Iterable[str | Path]) -> list[str]:
    """Return the command that joins a sweep with one worker."""
    command = [sys.executable, "-m", "rnnjax.sweep", "work", "--out", str(out)]
    trusted = [str(Path(path).resolve()) for path in trust]
    return [*command, "--trust", *trusted] if trusted else command


def run_workers(
    out: Path,
    workers: int,
    *,
    gpus_per_worker: int = 0,
    trust: Iterable[str | Path] = (),
    report_line: Callable[[str], None] = print_line,
) -> int:
    """Start workers as separate processes, forward their lines, and wait for them.

    The cores (so that workers do not slow each other down) and the GPUs are divided among them. If
    this process is asked to stop, so are the workers.

    Args:
        out: the directory of a sweep.
        workers: number of processes.
        gpus_per_worker: 0 means that all workers see all GPUs.
        trust: as in `work`.
        report_line: called with each line of a worker.

    Returns:
        The largest of the workers' exit codes: 0 if all ran until no trial was left.

    Raises:
        ArgumentError: there are too few GPUs.
    """
    children, readers = [], []
    own = environments(workers, gpus_per_worker)
    cores = processes.available_cores()
    divided = divide(cores, workers) if cores else [[] for _ in own]
    with processes.stop_requests() as request:
        for environment, mine in zip(own, divided, strict=True):
            command = worker_command(out, trust)
            if mine:
                command += ["--cores", *map(str, mine)]
            child = processes.start(
                command,
                env={**os.environ, **environment},
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
            )
            children.append(child)
            readers.append(threading.Thread(target=_forward, args=(child.stderr, report_line)))
            readers[-1].start()
        forwarded = False
        while any(child.poll() is None for child in children):
            processes.pause(processes.POLL, processes.StopRequest() if forwarded else request)
            if request.signal and not forwarded:
                forwarded = True
                for child in children:
                    child.terminate()
        for reader in readers:
            reader.join()
    if request.signal == signal.SIGINT:
        raise KeyboardInterrupt
    if request.signal:
        raise SystemExit(128 + request.signal)
    codes = [child.returncode for child in children]
    return max(code if code >= 0 else 128 - code for code in codes)


def _forward(lines, report_line):
    with lines:
        for line in lines:
            report_line(line.rstrip("\n"))
