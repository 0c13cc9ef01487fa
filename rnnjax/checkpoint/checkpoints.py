"""The checkpoints of a training: saved in the background, verified when they are read."""

import concurrent.futures
import contextlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from rnnjax.checkpoint.digests import digest
from rnnjax.checkpoint.file_sums import file_sums, read_sums, write_sums
from rnnjax.checkpoint.orbax_errors import quiet, read_metadata, reading, saving
from rnnjax.checkpoint.shapes import abstract, check_shapes

PyTree = Any


class Checkpoints:
    """The checkpoints of a training: the newest few and the best, saved in the background.

    It is a context manager; on exit the last save is completed. If the process is killed while it
    saves, the earlier checkpoints are unchanged. In a program of several processes all make the
    same calls, on the same directory.

    steps/STEP       a checkpoint, as Orbax writes it
    files/STEP.json  sizes and checksums of its files, by which damage is found
    damaged/STEP     a damaged checkpoint, kept for inspection
    """

    def __init__(self, directory: Path, *, keep: int):
        """Open a directory, which is created if needed.

        Unfinished checkpoints of a killed process are removed, and damaged ones are quarantined.
        The remaining checkpoints are, file by file, what was written.

        Args:
            keep: number of newest checkpoints to keep, besides the one of least loss.

        Raises:
            OSError: the directory cannot be written to; the message says why.
        """
        from orbax.checkpoint import v1 as ocp

        self._directory = directory.absolute()
        self._pending: concurrent.futures.Future | None = None
        self._background = concurrent.futures.ThreadPoolExecutor(1)
        policies: Any = ocp.training.preservation_policies
        best = policies.BestN(get_metric_fn=lambda m: m["loss"], reverse=True, n=1)
        with contextlib.ExitStack() as silenced, saving(directory):
            silenced.enter_context(quiet())  # Orbax's threads log errors that `save` raises
            if jax.process_index() == 0:
                self._check_all()
            _wait_for_all("checked")
            options: Any = ocp.options.ArrayOptions.Saving(use_replica_parallel=False)
            self._orbax = ocp.training.Checkpointer(
                str(self._directory / "steps"),
                # One device writes a replicated array: splitting it over devices takes longer.
                context=ocp.Context(array_options=ocp.options.ArrayOptions(saving=options)),
                preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(keep), best]),
            )
            self._silenced = silenced.pop_all()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind, error, trace) -> None:
        # An earlier error takes precedence over errors of the last save.
        explained = contextlib.suppress(Exception) if error else saving(self._directory)
        with self._silenced, explained, contextlib.closing(self._orbax), self._background:
            self._finish_pending()

    def steps(self) -> list[int]:
        """Return the steps that have a checkpoint, the newest first."""
        return sorted((c.step for c in self._orbax.checkpoints), reverse=True)

    def damaged(self) -> list[int]:
        """Return the steps of the quarantined checkpoints."""
        folder = self._directory / "damaged"
        found = folder.iterdir() if folder.is_dir() else ()
        return sorted(int(path.name) for path in found if path.name.isdecimal())

    def save(self, step: int, tree: PyTree, metadata: Mapping[str, Any], loss: float) -> None:
        """Start a save in the background, after the previous one is completed.

        Args:
            step: has no checkpoint yet.
            tree: of arrays, sharded or not; typed keys are allowed.
            metadata: other values, which JSON can hold.
            loss: the best checkpoint is the one of least loss.

        Raises:
            OSError: this save, or the previous one, failed; the message says why.
        """
        with saving(self._directory):
            self._finish_pending()
            response = self._orbax.save_checkpointables_async(
                step,
                {"tree": tree},
                force=True,
                metrics={"loss": loss},
                custom_metadata={**metadata, "digest": digest(tree)},
            )
            self._pending = self._background.submit(self._record_files, step, response)

    def load(self, step: int, like: PyTree) -> tuple[PyTree, dict[str, Any]]:
        """Read a tree, and the metadata saved with it.

        Args:
            like: a tree of arrays or `jax.ShapeDtypeStruct`s with the same structure, shapes and
                types, and with the shardings to load onto.

        Raises:
            ValueError: the tree has another structure, shape or type; the message says where.
            OSError: the files are damaged.
        """
        path = self._directory / "steps" / str(step)
        expected = jax.tree.map(abstract, like)
        try:
            stored: Any = read_metadata(path)
        except FileNotFoundError as error:
            raise OSError(f"{path} is damaged") from error
        check_shapes(path, stored.metadata["tree"], expected)
        with reading(path):
            tree = self._orbax.load_checkpointables(step, {"tree": expected})["tree"]
        metadata = dict(stored.custom_metadata or {})
        if metadata.pop("digest", None) != digest(tree):
            raise OSError(f"{path} is damaged: its numbers differ from those that were saved")
        return tree, metadata

    def quarantine(self, step: int) -> None:
        """Move a damaged checkpoint to the folder `damaged`."""
        with saving(self._directory):
            if jax.process_index() == 0:
                self._move(step)
            _wait_for_all(f"quarantined {step}")
            self._orbax.reload()

    def _finish_pending(self):
        """Wait for the previous save."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()

    def _record_files(self, step, response):
        """Record the sizes and checksums of a checkpoint's files when its save is completed."""
        response.result()
        if jax.process_index() == 0:
            folder, steps = self._directory / "files", self._directory / "steps"
            folder.mkdir(exist_ok=True)
            for path in folder.iterdir():
                if not (steps / path.stem).exists():
                    path.unlink()
            self._write_sums(step)

    def _write_sums(self, step):
        write_sums(
            self._directory / "files" / f"{step}.json", self._directory / "steps" / str(step)
        )

    def _check_all(self):
        """Remove unfinished checkpoints; quarantine those whose files have changed."""
        steps, found = self._directory / "steps", []
        for path in steps.iterdir() if steps.exists() else ():
            if path.name.isdecimal():
                found.append(int(path.name))
            elif path.is_dir():  # Orbax itself finds only some of its unfinished folders
                shutil.rmtree(path)
            else:
                path.unlink()
        for step in sorted(found):
            path = self._directory / "files" / f"{step}.json"
            if not path.exists() and step == max(found):  # killed before the sums were written
                path.parent.mkdir(exist_ok=True)
                self._write_sums(step)
                continue
            recorded, current = read_sums(path), file_sums(steps / str(step))
            if current.items() < recorded.items() and step != max(found):  # killed while removing
                shutil.rmtree(steps / str(step))
            elif current != recorded:
                self._move(step)

    def _move(self, step):
        target = self._directory / "damaged" / str(step)
        target.parent.mkdir(exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        (self._directory / "steps" / str(step)).rename(target)


def _wait_for_all(what: str) -> None:
    """Wait until all processes of the program have reached this point."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(f"checkpoints {what}")
