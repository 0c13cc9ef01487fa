"""Grain pipelines over arrays in memory: shuffled batches with a state that can be saved."""

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Int32, Shaped

if TYPE_CHECKING:
    import grain


def shuffled_batches(
    columns: Mapping[str, np.ndarray],
    batch_size: int,
    *,
    seed: int,
    epochs: int | None = None,
    drop_remainder: bool = True,
    transform: Callable[[dict[str, np.ndarray]], Any] | None = None,
) -> "grain.DatasetIterator":
    """Iterate over shuffled batches; `get_state` and `set_state` make it resumable.

    Each batch is a dictionary of rows of the columns. Every epoch is a new permutation. The state
    is the number of batches taken: restore it into a pipeline with the same arguments.

    Args:
        columns: arrays with a common leading axis N.
        batch_size: at most N.
        seed: 0 to 2**32 - 1.
        epochs: number of epochs; None means infinitely many.
        drop_remainder: leave out the rows of each epoch that do not fill a batch; otherwise each
            epoch ends with a smaller batch.
        transform: applied to every batch.

    Raises:
        ValueError: an argument is out of range, or the columns' lengths differ.
    """
    import grain

    sizes = {len(column) for column in columns.values()}
    if len(sizes) != 1:
        raise ValueError(f"columns need one common length, got {sorted(sizes)}")
    (size,) = sizes
    if not 1 <= batch_size <= size:
        raise ValueError(
            f"batch_size must be between 1 and {size}, the number of examples; got {batch_size}"
        )
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be between 0 and 2**32 - 1; got {seed}")
    if epochs is not None and epochs < 1:
        raise ValueError(f"epochs must be None or at least 1; got {epochs}")
    batches = size // batch_size if drop_remainder else -(-size // batch_size)
    order = functools.lru_cache(maxsize=1)(functools.partial(shuffled, size, seed))

    def batch(number: int) -> Any:
        epoch, position = divmod(number, batches)
        rows = order(epoch)[position * batch_size :][:batch_size]
        taken = {name: column[rows] for name, column in columns.items()}
        return transform(taken) if transform else taken

    # One element is a whole batch, gathered in this thread: over a million images per second.
    # Grain's own shuffling and batching of single images reaches 30 thousand.
    total = sys.maxsize if epochs is None else epochs * batches
    here = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
    return iter(grain.MapDataset.range(total).map(batch).to_iter_dataset(here))


def pad(
    rows: Sequence[Any], length: int | None = None
) -> tuple[Shaped[np.ndarray, "N T ..."], Int32[np.ndarray, " N"]]:
    """Return rows of different lengths as one array, padded with zeros, and their lengths.

    Args:
        rows: arrays `[T_i, ...]` with the same type and the same trailing axes.
        length: T; None means the length of the longest row. Longer rows are cut.

    Raises:
        ValueError: there are no rows.
    """
    if not len(rows):
        raise ValueError("there are no rows to pad")
    arrays = [np.asarray(row) for row in rows]
    length = max(map(len, arrays)) if length is None else length
    padded = np.zeros((len(arrays), length, *arrays[0].shape[1:]), arrays[0].dtype)
    for place, row in zip(padded, arrays, strict=True):
        place[: len(row)] = row[:length]
    return padded, np.array([min(len(row), length) for row in arrays], np.int32)


def valid(lengths: Int32[np.ndarray, "*N"], length: int) -> Bool[np.ndarray, "*N T"]:
    """Return where rows that `pad` has padded to `length` hold entries of their own."""
    return np.arange(length) < lengths[..., None]


def shuffled(size: int, *seeds: int) -> np.ndarray:
    """Return a permutation of 0..size-1 that never changes with a new version of NumPy."""
    # NumPy guarantees the stream of a bit generator; `Generator.permutation` may change.
    return np.argsort(np.random.PCG64(seeds).random_raw(size), kind="stable")


def fold(key: str, folds: int) -> int:
    """Return the fold of a text, a fixed function of the text, for splits by document."""
    import hashlib

    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % folds
