"""One program on several hosts: how its processes find each other, and what they agree on.

All processes run the same script with the same arguments. Each computes its part of what
`over_population` maps, and gets all of the results; what else they compute, each computes itself.
The first one alone writes, prints and draws.
"""

import atexit
import contextlib
import os
import pickle
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

Result = TypeVar("Result")

HEARTBEAT = 60
"""Seconds after which a process that is not heard of is taken for dead, and the others stop."""
PARTING = 10
"""Seconds that a process which ends waits for the others to end as well."""


def initialize_distributed(
    coordinator: str, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Make this process one of several; call it before the first computation.

    Args:
        coordinator: HOST:PORT, a free port on the host of process 0; or `auto`, where JAX knows the
            cluster: Cloud TPU, Slurm, Open MPI, Kubernetes.
        num_processes: how many there are; none with `auto`.
        process_id: of this process, counted from 0; none with `auto`.

    Raises:
        ValueError: the arguments do not fit; the message is one line.
        OSError: the processes did not find each other.
    """
    if coordinator == "auto":
        if (num_processes, process_id) != (None, None):
            raise ValueError("auto finds the number of processes itself, and this one's")
    elif not re.fullmatch(r"(\[[\da-fA-F:.]+\]|[^\s:]+):\d{1,5}", coordinator):
        raise ValueError(f"must be HOST:PORT or auto, got {coordinator!r}")
    elif num_processes is None or process_id is None:
        raise ValueError(f"{coordinator} needs the number of processes, and this one's")
    elif not 0 <= process_id < num_processes:
        raise ValueError(f"{coordinator} has processes 0..{num_processes - 1}, got {process_id}")
    if process_id == 0:
        _check_port(int(coordinator.rpartition(":")[2]))
    jax.config.update("jax_enable_preemption_service", False)  # SIGTERM is the training loop's
    auto = coordinator == "auto"
    try:
        jax.distributed.initialize(
            None if auto else coordinator,
            num_processes,
            process_id,
            cluster_detection_method=None if auto else "deactivate",
            heartbeat_timeout_seconds=HEARTBEAT,
        )
    except ValueError as error:
        raise ValueError(
            "auto finds no cluster that JAX knows: Cloud TPU, Slurm, Open MPI, Kubernetes"
        ) from error
    except RuntimeError as error:
        raise OSError(f"the processes did not find each other: {_line(error)}") from error
    _part_at_exit()


def is_first_process() -> bool:
    """Return whether this process is the one that writes, prints and draws."""
    return not _several() or jax.process_index() == 0


def on_first_process(action: Callable[[], Result]) -> Result:
    """Return on every process what `action()` returns on the first, which alone does it.

    What it raises there, an `Exception`, is raised by all. The result must be picklable.
    """
    if not _several():
        return action()
    result = error = None
    if is_first_process():
        try:
            result = action()
        except Exception as raised:
            error = raised
    result, other = pickle.loads(_first_bytes(pickle.dumps((result, error))))
    if error or other:
        raise error or other  # with its own traceback, where there is one
    return result


def any_process(flag: bool) -> bool:
    """Return on every process whether any of them has the flag; all must ask."""
    if not _several():
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.bool_(flag))))


def _check_port(port):
    """Raise a ValueError if no server can be started there; JAX would wait for minutes."""
    try:
        with socket.create_server(("", port)):
            pass
    except (OSError, OverflowError) as error:
        raise ValueError(f"cannot listen on port {port} here: {error}") from error


@contextlib.contextmanager
def report_lost_processes() -> Iterator[None]:
    """Say in one line, as an OSError, that a computation failed because another process is gone."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        if _several() and re.search("Gloo|NCCL|DEADLINE|UNAVAILABLE", str(error)):
            raise OSError(f"another process has stopped ({_line(error)})") from error
        raise


def _part_at_exit():
    """See to it that this process, when it ends, takes leave of the others.

    If they do not come, it ends with exit code 1: they may wait for this one, which failed alone,
    and that it is gone is what they must notice. The thread is started now, since none can be when
    Python ends.
    """
    ending = threading.Event()

    def shut_down():
        ending.wait()
        jax.distributed.shutdown()

    leave = threading.Thread(target=shut_down, daemon=True)
    leave.start()

    def part():
        ending.set()
        leave.join(PARTING)
        if leave.is_alive():
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(1)

    atexit.register(part)


def _first_bytes(data):
    """Return the first process's bytes; others' must be there too, and are not looked at."""
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(data))))
    padded = np.zeros(size, np.uint8)
    if is_first_process():
        padded[:] = np.frombuffer(data, np.uint8)
    return multihost_utils.broadcast_one_to_all(padded).tobytes()


def _several():
    return jax.distributed.is_initialized() and jax.process_count() > 1


def _line(error):
    return str(error).splitlines()[0] if str(error) else type(error).__name__
