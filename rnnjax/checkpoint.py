"""Arrays on disk: one tree, or the checkpoints of a training. The only file that knows Orbax."""

import concurrent.futures
import contextlib
import functools
import json
import logging
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

PyTree = Any

NOTE = "files.json"  # beside a tree: sizes and checksums of its files, by which damage is noticed


def save(directory: Path, tree: PyTree) -> None:
    """Write a tree of arrays to a new directory: whole, or not there at all.

    In a program of several processes all call it, with the same tree.

    Raises:
        FileExistsError: the directory is there already.
        OSError: it cannot be written; the message says why.
    """
    from orbax.checkpoint import v1 as ocp

    if directory.exists():
        raise FileExistsError(f"{directory} is there already")
    tree = jax.tree.map(np.asarray, tree)
    with _saving(directory), _quiet():
        ocp.save_checkpointables(str(directory.absolute()), {"tree": tree})
        if jax.process_index() == 0:
            (directory / NOTE).write_text(json.dumps(_files(directory)))


def load(directory: Path, like: PyTree) -> PyTree:
    """Read a tree of arrays, onto the first device.

    Args:
        directory: what `save` has written.
        like: a tree of the same structure, shapes and types, of arrays or `jax.ShapeDtypeStruct`s.

    Raises:
        FileNotFoundError: there is no such directory, or it is no checkpoint.
        ValueError: the tree is another one; the message says where they differ.
        OSError: the files are damaged.
    """
    from orbax.checkpoint import v1 as ocp

    place = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    like = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=place), like)
    directory = directory.absolute()
    noted = _read_note(directory / NOTE)
    if noted and noted != _files(directory):
        raise OSError(f"{directory} is damaged")
    check_fit(directory, _metadata(directory).metadata["tree"], like)
    with _reading(directory):
        return ocp.load_checkpointables(str(directory), {"tree": like})["tree"]


class Checkpoints:
    """The checkpoints of a training: saved in the background, the newest few and the best kept.

    A context manager: on leaving it the last save is finished. A process that is killed while it
    saves leaves the checkpoints before it as they were. In a program of several processes all of
    them make the same calls, and see the same directory.

    steps/STEP       as Orbax writes it
    files/STEP.json  sizes and checksums of its files, by which damage is noticed
    damaged/STEP     what was found damaged, kept for inspection
    """

    def __init__(self, directory: Path, *, keep: int):
        """Open a directory, made if need be.

        What a killed process left unfinished is removed, what is damaged put aside: nothing is
        read that is not, file by file, what was written.

        Args:
            keep: how many of the newest to keep, beside the one of least loss.

        Raises:
            OSError: the directory cannot be written to; the message says why.
        """
        from orbax.checkpoint import v1 as ocp

        self._directory = directory.absolute()
        self._last: concurrent.futures.Future | None = None
        self._notes = concurrent.futures.ThreadPoolExecutor(1)
        policies: Any = ocp.training.preservation_policies
        best = policies.BestN(get_metric_fn=lambda m: m["loss"], reverse=True, n=1)
        with contextlib.ExitStack() as quiet, _saving(directory):
            quiet.enter_context(_quiet())  # its threads report errors that `save` raises
            if jax.process_index() == 0:
                self._check()
            _wait_for_all("checked")
            saving: Any = ocp.options.ArrayOptions.Saving(use_replica_parallel=False)
            self._orbax = ocp.training.Checkpointer(
                str(self._directory / "steps"),
                # What lies on several devices is written by one: to cut it up takes longer.
                context=ocp.Context(array_options=ocp.options.ArrayOptions(saving=saving)),
                preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(keep), best]),
            )
            self._quiet = quiet.pop_all()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind, error, trace) -> None:
        # If there is an error, that is what is to be told.
        telling = contextlib.suppress(Exception) if error else _saving(self._directory)
        with self._quiet, telling, contextlib.closing(self._orbax), self._notes:
            self._settle()

    def steps(self) -> list[int]:
        """Return the steps that have a checkpoint, the newest first."""
        return sorted((c.step for c in self._orbax.checkpoints), reverse=True)

    def damaged(self) -> list[int]:
        """Return the steps of the checkpoints that were put aside."""
        place = self._directory / "damaged"
        return sorted(int(p.name) for p in place.iterdir()) if place.exists() else []

    def save(self, step: int, tree: PyTree, facts: Mapping[str, Any], loss: float) -> None:
        """Begin to save; what has to be waited for is that the save before is finished.

        Args:
            step: one that has no checkpoint yet.
            tree: of arrays, sharded or not; typed keys are allowed.
            facts: whatever else JSON can hold.
            loss: by which the best is chosen.

        Raises:
            OSError: this save, or the one before, failed; the message says why.
        """
        with _saving(self._directory):
            self._settle()
            response = self._orbax.save_checkpointables_async(
                step,
                {"tree": tree},
                force=True,
                metrics={"loss": loss},
                custom_metadata={**facts, "digest": digest(tree)},
            )
            self._last = self._notes.submit(self._note, step, response)

    def load(self, step: int, like: PyTree) -> tuple[PyTree, dict[str, Any]]:
        """Read a tree back, and the facts beside it.

        Args:
            like: a tree of the same structure, shapes and types, of arrays or
                `jax.ShapeDtypeStruct`s with the shardings that are wanted.

        Raises:
            ValueError: the tree is another one; the message says where they differ.
            OSError: the files are damaged.
        """
        place = self._directory / "steps" / str(step)
        wanted = jax.tree.map(_abstract, like)
        try:
            stored: Any = _metadata(place)
        except FileNotFoundError as error:
            raise OSError(f"{place} is damaged") from error
        check_fit(place, stored.metadata["tree"], wanted)
        with _reading(place):
            found = self._orbax.load_checkpointables(step, {"tree": wanted})["tree"]
        facts = dict(stored.custom_metadata or {})
        if facts.pop("digest", None) != digest(found):
            raise OSError(f"{place} is damaged: its numbers are not those that were saved")
        return found, facts

    def quarantine(self, step: int) -> None:
        """Keep a checkpoint that is of no use, but not among the steps."""
        with _saving(self._directory):
            if jax.process_index() == 0:
                self._move(step)
            _wait_for_all(f"put aside {step}")
            self._orbax.reload()

    def _settle(self):
        """Wait for the save before."""
        if self._last is not None:
            last, self._last = self._last, None
            last.result()

    def _note(self, step, response):
        """Note what the files of a save are, when it is finished."""
        response.result()
        if jax.process_index() == 0:
            notes, steps = self._directory / "files", self._directory / "steps"
            notes.mkdir(exist_ok=True)
            for note in notes.iterdir():
                if not (steps / note.stem).exists():
                    note.unlink()
            self._write_note(step)

    def _write_note(self, step):
        notes = self._directory / "files"
        unfinished = notes / f".{step}.json.unfinished"
        unfinished.write_text(json.dumps(_files(self._directory / "steps" / str(step))))
        unfinished.replace(notes / f"{step}.json")

    def _check(self):
        """Remove what was not finished; put aside what is not what was written."""
        steps, found = self._directory / "steps", []
        for path in steps.iterdir() if steps.exists() else ():
            if path.name.isdecimal():
                found.append(int(path.name))
            else:  # Orbax finds only some of what it has begun
                shutil.rmtree(path)
        for step in sorted(found):
            note = self._directory / "files" / f"{step}.json"
            if not note.exists() and step == max(found):  # the process ended between the two
                note.parent.mkdir(exist_ok=True)
                self._write_note(step)
                continue
            noted, here = _read_note(note), _files(steps / str(step))
            if here.items() < noted.items() and step != max(found):  # it was being removed
                shutil.rmtree(steps / str(step))
            elif here != noted:
                self._move(step)

    def _move(self, step):
        target = self._directory / "damaged" / str(step)
        target.parent.mkdir(exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        (self._directory / "steps" / str(step)).rename(target)


def _files(directory: Path, checked: int = 2**24) -> dict[str, list[int]]:
    """Return size and, of all but large files, checksum by name."""
    return {
        path.relative_to(directory).as_posix(): [
            path.stat().st_size,
            zlib.crc32(path.read_bytes()) if path.stat().st_size <= checked else 0,
        ]
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path != directory / NOTE
    }


def _read_note(path):
    try:
        return dict(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):  # it is gone, or damaged
        return {}


def _wait_for_all(what: str) -> None:
    """Wait until all processes of the program are here."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(f"checkpoints {what}")


def digest(tree: PyTree) -> int:
    """Return a sum, modulo 2^32, that changes if a word of the tree changes or moves.

    It is one of integers, so that it does not depend on how the tree is spread over devices.
    """
    leaves = jax.tree.leaves(tree)
    together: dict[Any, list[int]] = {}  # what lies on the same devices
    for at, leaf in enumerate(leaves):
        devices = leaf.sharding.device_set if isinstance(leaf, jax.Array) else ()
        together.setdefault(frozenset(devices), []).append(at)
    sums = {}
    for places in together.values():
        sums |= zip(places, map(int, _sums([leaves[at] for at in places])), strict=True)
    return functools.reduce(lambda total, at: (total * 31 + sums[at]) % 2**32, sorted(sums), 0)


@jax.jit
def _sums(leaves):
    """Return for each leaf the sum of its words, each mixed with its place (MurmurHash3's way)."""
    found = []
    for leaf in leaves:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        if leaf.dtype == bool:
            leaf = leaf.astype(np.uint8)
        size = min(leaf.dtype.itemsize, 4)
        words = lax.bitcast_convert_type(leaf, jnp.dtype(f"uint{8 * size}")).astype(np.uint32)
        place = jnp.uint32(0)
        for axis in range(words.ndim):
            place = place * np.uint32(words.shape[axis] | 1) + lax.broadcasted_iota(
                np.uint32, words.shape, axis
            )
        mixed = words + place * np.uint32(2654435761)
        for shift, factor in ((16, 2246822507), (13, 3266489909)):
            mixed = (mixed ^ (mixed >> shift)) * np.uint32(factor)
        found.append(jnp.sum(mixed ^ (mixed >> 16), dtype=np.uint32))
    return found


def check_fit(directory: Path, stored: PyTree, wanted: PyTree) -> None:
    """Raise a ValueError that names the first leaf in which two trees differ."""
    expected, found = _shapes(wanted), _shapes(stored)
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise ValueError(
                f"{directory} holds {name} as {found.get(name, 'nothing')}, "
                f"wanted is {expected.get(name, 'nothing')}"
            )


def _abstract(leaf):
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    sharding = getattr(leaf, "sharding", None) or here
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _metadata(directory):
    """Return what a checkpoint says of itself.

    Raises:
        FileNotFoundError: there is none.
        OSError: it is damaged.
    """
    from orbax.checkpoint import v1 as ocp

    try:
        with _quiet():
            found = ocp.checkpointables_metadata(str(directory))
            tree = found.metadata["tree"]
    except Exception as error:  # Orbax raises all kinds, by what is missing
        raise FileNotFoundError(f"{directory} holds no checkpoint") from error
    if tree is None:
        raise OSError(f"{directory} is damaged")
    return found


@contextlib.contextmanager
def _saving(directory):
    """Turn whatever Orbax raises while it writes into an OSError that says why."""
    try:
        yield
    except Exception as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise OSError(f"cannot save in {directory}: {why}") from error


@contextlib.contextmanager
def _reading(directory):
    """Turn whatever Orbax raises while it reads into an OSError."""
    try:
        with _quiet():
            yield
    except Exception as error:
        raise OSError(f"{directory} is damaged: {str(error).splitlines()[0]}") from error


@contextlib.contextmanager
def _quiet():
    """Keep Orbax from explaining over many lines what is raised in one."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def _shapes(tree):
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{leaf.dtype} {tuple(leaf.shape)}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(jax.tree.map(_stored, tree))
    }


def _stored(leaf):
    """Return a leaf as it lies on disk: a typed key as its words."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.eval_shape(jax.random.key_data, leaf)
    return leaf
