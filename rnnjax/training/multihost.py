"""One program on several hosts: starting its processes, and exchanging values between them.

All processes run the same script with the same arguments. Each computes its part of what
`over_population` maps, and gets all results; everything else is computed by every process. Only the
first process writes, prints and draws.
"""

import atexit
import contextlib
import os
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from rnnjax.training.messages import decode, encode_error, encode_value

Result = TypeVar("Result")

HEARTBEAT = 60
"""Seconds without a heartbeat after which a process is considered dead and the others stop."""
SHUTDOWN_TIMEOUT = 10
"""Seconds that an ending process waits for the others to end."""


def initialize_distributed(
    coordinator: str, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Connect this process to the others of its program; call it before the first computation.

    Args:
        coordinator: HOST:PORT, a free port on the host of process 0; or `auto` on a cluster that
            JAX detects: Cloud TPU, Slurm, Open MPI, Kubernetes.
        num_processes: number of processes; None with `auto`.
        process_id: number of this process, counted from 0; None with `auto`.

    Raises:
        ValueError: the arguments are inconsistent; the message is one line.
        OSError: the processes could not connect.
    """
    if coordinator == "auto":
        if (num_processes, process_id) != (None, None):
            raise ValueError("auto sets the number of processes and the process id itself")
    elif not re.fullmatch(r"(\[[\da-fA-F:.]+\]|[^\s:]+):\d{1,5}", coordinator):
        raise ValueError(f"must be HOST:PORT or auto, got {coordinator!r}")
    elif num_processes is None or process_id is None:
        raise ValueError(f"{coordinator} needs the number of processes and the process id")
    elif not 0 <= process_id < num_processes:
        raise ValueError(f"{coordinator} has processes 0..{num_processes - 1}, got {process_id}")
    if process_id == 0:
        _check_port(int(coordinator.rpartition(":")[2]))
    jax.config.update("jax_enable_preemption_service", False)  # the training loop handles SIGTERM
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
            "auto found no cluster that JAX detects: Cloud TPU, Slurm, Open MPI, Kubernetes"
        ) from error
    except RuntimeError as error:
        raise OSError(f"the processes could not connect: {_first_line(error)}") from error
    _disconnect_at_exit()


def is_first_process() -> bool:
    """Return whether this process is the one that writes, prints and draws."""
    return not _several() or jax.process_index() == 0


def on_first_process(
    action: Callable[[], Result], *, errors: Sequence[type[Exception]] = ()
) -> Result:
    """Call `action()` on the first process only, and return its result on every process.

    What passes between processes cannot run code: see `rnnjax.training.messages`.

    Args:
        action: returns None, numbers, texts, NumPy arrays, or lists, tuples and dictionaries of
            them. An `Exception` that it raises is raised on every process.
        errors: types of exceptions that other processes raise too, beside Python's own; of another
            type, they raise its nearest base that is known.
    """
    if not _several():
        return action()
    data, own = b"", None
    if is_first_process():
        try:
            data = encode_value(action())
        except Exception as raised:
            data, own = encode_error(raised, errors), raised
    result, other = decode(_first_bytes(data), errors)
    if own or other:
        raise own or other  # pyright: ignore[reportGeneralTypeIssues]  # its own traceback is kept
    return result


def any_process(flag: bool) -> bool:
    """Return on every process whether the flag is true on any; all processes must call it."""
    if not _several():
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.bool_(flag))))


def _check_port(port):
    """Raise a ValueError if the port is not free; JAX would wait for minutes."""
    try:
        with socket.create_server(("", port)):
            pass
    except (OSError, OverflowError) as error:
        raise ValueError(f"cannot listen on port {port} here: {error}") from error


@contextlib.contextmanager
def report_lost_processes() -> Iterator[None]:
    """Raise an OSError of one line if a computation fails because another process has ended."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        if _several() and re.search("Gloo|NCCL|DEADLINE|UNAVAILABLE", str(error)):
            raise OSError(f"another process has stopped ({_first_line(error)})") from error
        raise


def _disconnect_at_exit():
    """Disconnect from the other processes when this one ends.

    If they do not end within `SHUTDOWN_TIMEOUT`, this process ends with exit code 1: it has failed
    alone, the others may be waiting for it, and they must notice that it has ended. The thread is
    started now, because Python starts no threads while it shuts down.
    """
    ending = threading.Event()

    def shut_down():
        ending.wait()
        jax.distributed.shutdown()

    thread = threading.Thread(target=shut_down, daemon=True)
    thread.start()

    def disconnect():
        ending.set()
        thread.join(SHUTDOWN_TIMEOUT)
        if thread.is_alive():
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(1)

    atexit.register(disconnect)


def _first_bytes(data):
    """Return the bytes of the first process; the bytes of the others are ignored."""
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(data))))
    padded = np.zeros(size, np.uint8)
    if is_first_process():
        padded[:] = np.frombuffer(data, np.uint8)
    return multihost_utils.broadcast_one_to_all(padded).tobytes()


def _several():
    return jax.distributed.is_initialized() and jax.process_count() > 1


def _first_line(error):
    return str(error).splitlines()[0] if str(error) else type(error).__name__
