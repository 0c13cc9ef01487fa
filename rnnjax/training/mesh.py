"""Which devices a program runs on, and how they are shared out: members by the batch of each."""

import contextlib
import contextvars
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh


class MeshShape(NamedTuple):
    """How many ways members are split over devices, and the batch of each."""

    population: int = 1
    data: int = 1

    @classmethod
    def parse(cls, text: str) -> "MeshShape":
        """Read `data=4,population=2`; an axis that is left out is 1.

        Raises:
            ValueError: it is none, or there are too few devices, or they are not a multiple of the
                processes; the message is one line.
        """
        found: dict[str, int] = {}
        for part in text.split(","):
            name, equals, count = part.partition("=")
            if not equals or not count.isdecimal() or int(count) < 1 or name in found:
                raise ValueError(f"must be like data=4,population=2, got {text!r}")
            if name not in cls._fields:
                raise ValueError(f"has the axes data and population, got {name!r}")
            found[name] = int(count)
        shares, there = cls(**found), jax.device_count()
        devices = shares.population * shares.data
        if devices > there:
            raise ValueError(f"{text} needs {devices} devices, there are {there}")
        if devices % jax.process_count():
            raise ValueError(
                f"{text} needs {devices} devices, which must be a multiple of the "
                f"{jax.process_count()} processes"
            )
        return shares


_SHARES: contextvars.ContextVar[MeshShape | None] = contextvars.ContextVar("shares", default=None)


@contextlib.contextmanager
def use_mesh_shape(shares: MeshShape | None) -> Iterator[None]:
    """Share out devices so in `over_population` and training within the context.

    None leaves it to the number of members: as many devices as there are members each take some,
    and what is left over splits batches.
    """
    token = _SHARES.set(shares)
    try:
        yield
    finally:
        _SHARES.reset(token)


def population_mesh(members: int) -> Mesh:
    """Return the mesh, with axes "member" and "batch", over which so many members are split."""
    grid = arrange_devices(jax.devices(), members, _SHARES.get())
    return Mesh(grid, ("member", "batch"), axis_types=(AxisType.Auto,) * 2)


def arrange_devices(devices: Sequence[Any], members: int, shares: MeshShape | None) -> np.ndarray:
    """Return devices as an array: a row for each group of members, which split its batches.

    The devices of one process stand together, so that a batch is split over processes only where
    it must be. Several processes all take part with the same number of devices, members or not.
    """
    own: dict[int, list] = {}
    for device in devices:
        own.setdefault(device.process_index, []).append(device)
    rows, columns = shares or _unasked(members, len(devices), len(own))
    if len(own) == 1:
        rows = min(rows, members)
    each = rows * columns // len(own)
    chosen = [device for process in sorted(own) for device in own[process][:each]]
    return np.array(chosen).reshape(rows, columns)


def _unasked(members, devices, processes):
    least = min(members, devices)
    if processes == 1:
        return least, devices // least
    rows = next(n for n in range(least, devices + 1) if devices % n == 0)
    return rows, devices // rows


def use_all_cores() -> None:
    """Give JAX one CPU device for each core, which `over_population` then splits members over.

    Call it before the first computation; later, or where the user has chosen a number of devices
    (`JAX_NUM_CPU_DEVICES=8`, say), it changes nothing.
    """
    chosen = jax.config.jax_num_cpu_devices > 0  # pyright: ignore[reportAttributeAccessIssue]
    if chosen or "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with contextlib.suppress(RuntimeError):  # the backend runs already
        jax.config.update("jax_num_cpu_devices", cores or 1)


def batch_mesh() -> Mesh:
    """Return a mesh of all devices with one axis, "batch", for `jax.set_mesh`.

    Within it `rnnjax.unroll` splits its batch over the devices; so, in a script of your own, after
    `use_all_cores()`, over the cores of a CPU. `over_population` needs none.
    """
    return Mesh(np.array(jax.devices()), "batch", axis_types=(AxisType.Auto,))
