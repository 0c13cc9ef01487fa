"""One program on several hosts: how its processes find each other, and what they agree on.

All processes run the same script with the same arguments. Each computes its part of what
`over_population` maps, and gets all of the results; what else they compute, each computes itself.
The first one alone writes, prints and draws.
"""

import pickle
import re
from collections.abc import Callable
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

Result = TypeVar("Result")

HEARTBEAT = 60
"""Seconds after which a process that is not heard of is taken for dead, and the others stop."""


def join(coordinator: str, num_processes: int | None = None, process_id: int | None = None) -> None:
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
    numbers = (num_processes, process_id)
    if coordinator == "auto":
        if numbers != (None, None):
            raise ValueError("auto finds the number of processes itself, and this one's")
    elif not re.fullmatch(r"(\[[\da-fA-F:.]+\]|[^\s:]+):\d{1,5}", coordinator):
        raise ValueError(f"must be HOST:PORT or auto, got {coordinator!r}")
    elif num_processes is None or process_id is None:
        raise ValueError(f"{coordinator} needs the number of processes, and this one's")
    elif not 0 <= process_id < num_processes:
        raise ValueError(f"has processes 0..{num_processes - 1}, got {process_id}")
    jax.config.update("jax_enable_preemption_service", False)  # SIGTERM is the training loop's
    known = {} if coordinator == "auto" else {"cluster_detection_method": "deactivate"}
    try:
        jax.distributed.initialize(
            None if coordinator == "auto" else coordinator,
            *numbers,
            heartbeat_timeout_seconds=HEARTBEAT,
            **known,
        )
    except ValueError as error:
        raise ValueError(f"auto finds no cluster here: {error}") from error
    except RuntimeError as error:
        raise OSError(f"the processes did not find each other: {_line(error)}") from error


def is_first_process() -> bool:
    """Return whether this process is the one that writes, prints and draws."""
    return jax.process_index() == 0


def on_first(action: Callable[[], Result]) -> Result:
    """Return on every process what `action()` returns on the first, which alone does it.

    What it raises there, an `Exception`, is raised by all. The result must be picklable.
    """
    if jax.process_count() == 1:
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


def agreed(flag: bool) -> bool:
    """Return on every process whether any of them has the flag; all must ask."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.bool_(flag))))


def _first_bytes(data):
    """Return the first process's bytes; others' must be there too, and are not looked at."""
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(data))))
    padded = np.zeros(size, np.uint8)
    if is_first_process():
        padded[:] = np.frombuffer(data, np.uint8)
    return multihost_utils.broadcast_one_to_all(padded).tobytes()


def _line(error):
    return str(error).splitlines()[0] if str(error) else type(error).__name__
