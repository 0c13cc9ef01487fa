"""The devices of a program as a mesh: members are split over its rows, batches over its columns."""

import contextlib
import contextvars
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh


class MeshShape(NamedTuple):
    """The number of groups that members are split into, and the number of parts of each batch."""

    population: int = 1
    data: int = 1

    @classmethod
    def parse(cls, text: str) -> "MeshShape":
        """Parse `data=4,population=2`; an omitted axis is 1.

        Raises:
            ValueError: the text has another form, there are too few devices, or the number of
                devices is not a multiple of the number of processes; the message is one line.
        """
        found: dict[str, int] = {}
        for part in text.split(","):
            name, equals, count = part.partition("=")
            if not equals or not count.isdecimal() or int(count) < 1 or name in found:
                raise ValueError(f"must be like data=4,population=2, got {text!r}")
            if name not in cls._fields:
                raise ValueError(f"has the axes data and population, got {name!r}")
            found[name] = int(count)
        shape, available = cls(**found), jax.device_count()
        devices = shape.population * shape.data
        if devices > available:
            raise ValueError(f"{text} needs {devices} devices, there are {available}")
        if devices % jax.process_count():
            raise ValueError(
                f"{text} needs {devices} devices, which must be a multiple of the "
                f"{jax.process_count()} processes"
            )
        return shape


_MESH_SHAPE: contextvars.ContextVar[MeshShape | None] = contextvars.ContextVar(
    "mesh_shape", default=None
)


@contextlib.contextmanager
def use_mesh_shape(shape: MeshShape | None) -> Iterator[None]:
    """Use a mesh shape in `over_population` and training within the context.

    None chooses it by the number of members: members are split over as many devices as possible,
    and the remaining devices split batches.
    """
    token = _MESH_SHAPE.set(shape)
    try:
        yield
    finally:
        _MESH_SHAPE.reset(token)


def population_mesh(members: int) -> Mesh:
    """Return the mesh, with axes "member" and "batch", that a population is split over."""
    grid = arrange_devices(jax.devices(), members, _MESH_SHAPE.get())
    return Mesh(grid, ("member", "batch"), axis_types=(AxisType.Auto,) * 2)


def arrange_devices(devices: Sequence[Any], members: int, shape: MeshShape | None) -> np.ndarray:
    """Return devices as an array: one row per group of members; a row splits the group's batches.

    The devices of one process are adjacent, so a batch is split over processes only if necessary.
    Every process takes part with the same number of devices, whether or not it has members.
    """
    own: dict[int, list] = {}
    for device in devices:
        own.setdefault(device.process_index, []).append(device)
    rows, columns = shape or _default_shape(members, len(devices), len(own))
    if len(own) == 1:
        rows = min(rows, members)
    per_process = rows * columns // len(own)
    chosen = [device for process in sorted(own) for device in own[process][:per_process]]
    return np.array(chosen).reshape(rows, columns)


def _default_shape(members, devices, processes):
    least = min(members, devices)
    if processes == 1:
        return least, devices // least
    rows = next(n for n in range(least, devices + 1) if devices % n == 0)
    return rows, devices // rows


def use_all_cores() -> None:
    """Make each CPU core a JAX device, so that `over_population` splits members over the cores.

    Call it before the first computation. It has no effect later, or if the user has set the number
    of devices (with `JAX_NUM_CPU_DEVICES=8`, for example).
    """
    chosen = jax.config.jax_num_cpu_devices > 0  # pyright: ignore[reportAttributeAccessIssue]
    if chosen or "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    with contextlib.suppress(RuntimeError):  # the backend is already running
        jax.config.update("jax_num_cpu_devices", cores or 1)


def batch_mesh() -> Mesh:
    """Return a mesh of all devices with one axis, "batch", for `jax.set_mesh`.

    Within it `rnnjax.unroll` splits its batch over the devices: after `use_all_cores()`, over the
    cores of a CPU. `over_population` makes its own mesh.
    """
    return Mesh(np.array(jax.devices()), "batch", axis_types=(AxisType.Auto,))
