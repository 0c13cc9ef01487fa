"""Several workers on one machine, each with cores and GPUs of its own."""

import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rnnjax.command_line import ArgumentError
from rnnjax.sweep import processes
from rnnjax.sweep.worker import say


def share(things: Sequence[Any], workers: int) -> list[list[Any]]:
    """Divide things among workers: all of them, in order; one each in turn if there are fewer."""
    if len(things) < workers:
        return [[things[i % len(things)]] for i in range(workers)]
    ends = [len(things) * i // workers for i in range(workers + 1)]
    return [list(things[a:b]) for a, b in itertools.pairwise(ends)]


def cores() -> list[int]:
    """Return the cores that this process may use, none where the system does not say."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def gpus() -> list[str]:
    """Return the GPUs that this process may use: those of CUDA_VISIBLE_DEVICES, or all."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip()]
    try:
        said = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return []
    return [str(i) for i, line in enumerate(said.stdout.splitlines()) if line.startswith("GPU")]


def environments(workers: int, gpus_per_worker: int) -> list[dict[str, str]]:
    """Return what each worker's environment has of its own.

    Raises:
        ArgumentError: there are too few GPUs.
    """
    if gpus_per_worker == 0:
        return [{} for _ in range(workers)]
    there = gpus()
    if len(there) < workers * gpus_per_worker:
        raise ArgumentError(
            f"--workers {workers} with --gpus-per-worker {gpus_per_worker} need "
            f"{workers * gpus_per_worker} GPUs, but {len(there)} can be seen"
        )
    ends = range(0, workers * gpus_per_worker, gpus_per_worker)
    return [{"CUDA_VISIBLE_DEVICES": ",".join(there[i : i + gpus_per_worker])} for i in ends]


def run_workers(
    out: Path, workers: int, *, gpus_per_worker: int = 0, tell: Callable[[str], None] = say
) -> int:
    """Start workers as processes of their own, pass on what they tell, and wait for them.

    Each gets its share of the cores (so that they do not slow each other down) and of the GPUs. If
    this process is asked to leave, so are they.

    Returns:
        The largest of the workers' exit codes: 0 if all have run until nothing was left to do.

    Raises:
        ArgumentError: there are too few GPUs.
    """
    children, readers = [], []
    own = environments(workers, gpus_per_worker)
    divided = share(cores(), workers) if cores() else [[] for _ in own]
    with processes.leaving() as leave:
        for environment, mine in zip(own, divided, strict=True):
            command = [sys.executable, "-m", "rnnjax.sweep", "work", "--out", str(out)]
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
            readers.append(threading.Thread(target=_pass_on, args=(child.stderr, tell)))
            readers[-1].start()
        asked = False
        while any(child.poll() is None for child in children):
            processes.pause(processes.SOON, leave if not asked else processes.Leave())
            if leave.signal and not asked:
                asked = True
                for child in children:
                    child.terminate()
        for reader in readers:
            reader.join()
    if leave.signal == signal.SIGINT:
        raise KeyboardInterrupt
    if leave.signal:
        raise SystemExit(128 + leave.signal)
    codes = [child.returncode for child in children]
    return max(code if code >= 0 else 128 - code for code in codes)


def _pass_on(lines, tell):
    with lines:
        for line in lines:
            tell(line.rstrip("\n"))
