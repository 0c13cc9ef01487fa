"""The history of a training on disk: what was measured before a checkpoint, one file per chunk.

FIRST-LAST.npz   metrics and observations of a complete chunk
FIRST.npz        metrics of a chunk that a checkpoint interrupts

The checkpoint has the state; the history has the metrics and observations up to it. A resumed
training returns both, as if it had never been stopped.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from rnnjax.runs import read_arrays, write_arrays
from rnnjax.training.loop import Chunk, MemberStop
from rnnjax.training.multihost import on_first_process

PyTree = Any


class ChunkRecord(NamedTuple):
    """The metrics and observations of a chunk of training, without its state."""

    first_step: int  # number of the first update in `metrics`, counted from 1
    step: int  # number of the last update
    metrics: dict[str, np.ndarray]  # name -> [steps of this chunk, S]; NaN after a member's stop
    counts: np.ndarray  # [S], the number of these updates that each member did
    stops: tuple[MemberStop, ...]  # of members that stopped in this chunk
    observed: PyTree  # returned by `observe` after the last step


def save_chunk(folder: Path, record: ChunkRecord, *, complete: bool) -> None:
    """Write a chunk to the history.

    Args:
        complete: whether the chunk is complete; observations are saved only then.
    """
    arrays = {f"metric {name}": value for name, value in record.metrics.items()}
    arrays |= {"counts": record.counts, "names": np.array([s.metric for s in record.stops])}
    for field in ("member", "step", "value"):
        arrays[f"stop {field}"] = np.array([getattr(s, field) for s in record.stops])
    if complete:
        leaves = jax.tree.leaves(record.observed)
        arrays |= {f"observed {i}": leaf for i, leaf in enumerate(leaves)}
        write_arrays(_complete(folder, record.first_step, record.step), arrays)
        _partial(folder, record.first_step).unlink(missing_ok=True)
    else:
        write_arrays(_partial(folder, record.first_step), arrays)


def load_chunks(
    folder: Path, ends: Sequence[int], step: int, structure: Any
) -> tuple[list[ChunkRecord], ChunkRecord | None]:
    """Return the complete chunks up to a step, and the part of a chunk that ends at that step.

    In a program of several processes all call it; the first process reads.

    Args:
        ends: the last step of each chunk.
        structure: of the trees that `observe` returns.

    Raises:
        OSError: the history is damaged.
        ValueError: `observe` returned trees of another structure.
    """
    firsts = [1, *(end + 1 for end in ends)]
    begun = [(first, end) for first, end in zip(firsts, ends, strict=False) if first <= step]
    files = on_first_process(lambda: [_read(folder, *chunk, step) for chunk in begun])
    chunks, partial = [], None
    for arrays, (first, end) in zip(files, begun, strict=True):
        if end <= step:
            observed = _observed(arrays, first, end, structure)
            chunks.append(_record(arrays, first, end)._replace(observed=observed))
        else:
            partial = _record(arrays, first, step)
    return chunks, partial


def join_chunks(parts: Sequence[Chunk | ChunkRecord]) -> ChunkRecord:
    """Return successive chunks as one, without observations."""
    metrics = {
        name: np.concatenate([part.metrics[name] for part in parts]) for name in parts[0].metrics
    }
    counts = sum(part.counts for part in parts)
    stops = tuple(stop for part in parts for stop in part.stops)
    return ChunkRecord(parts[0].first_step, parts[-1].step, metrics, np.asarray(counts), stops, ())


def _complete(folder, first, last):
    return folder / f"{first:09}-{last:09}.npz"


def _partial(folder, first):
    return folder / f"{first:09}.npz"


def _read(folder, first, last, step):
    path = _complete(folder, first, last)
    return read_arrays(path if last <= step or path.exists() else _partial(folder, first))


def _record(arrays, first, last):
    """Return what a file of the history holds of the steps up to `last`."""
    size = last - first + 1
    metrics = {
        name.removeprefix("metric "): value[:size]
        for name, value in arrays.items()
        if name.startswith("metric ")
    }
    if any(len(value) < size for value in metrics.values()):
        raise OSError(f"the history of steps {first} to {last} is damaged")
    columns = (arrays[f"stop {field}"].tolist() for field in ("member", "step"))
    rows = zip(*columns, arrays["names"].tolist(), arrays["stop value"].tolist(), strict=True)
    stops = tuple(stop for stop in (MemberStop(*row) for row in rows) if stop.step <= last)
    return ChunkRecord(first, last, metrics, np.minimum(arrays["counts"], size), stops, ())


def _observed(arrays, first, last, structure):
    leaves = [value for name, value in arrays.items() if name.startswith("observed ")]
    if len(leaves) != structure.num_leaves:
        raise ValueError(
            f"the history of steps {first} to {last} holds {len(leaves)} observed arrays, "
            f"expected {structure.num_leaves}"
        )
    return jax.tree.unflatten(structure, leaves)
