"""Positions of the iterators that batches come from, saved beside a checkpoint."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class ResumableIterator(Protocol):
    """An iterator of batches whose position can be saved and restored, such as Grain's."""

    def __next__(self) -> Any: ...

    def get_state(self) -> Any:
        """Return the position, a value that JSON can hold."""
        ...

    def set_state(self, state: Any, /) -> None:
        """Move to a position."""
        ...


def positions(iterators: Sequence[Iterator[Any]]) -> list[Any]:
    """Return the position of each `ResumableIterator`, and None for other iterators."""
    return [i.get_state() if isinstance(i, ResumableIterator) else None for i in iterators]


def restore_positions(iterators: Sequence[Iterator[Any]], saved: Sequence[Any], used: int) -> None:
    """Move iterators to where they were after `used` batches.

    A `ResumableIterator` is moved to its saved position. Of other iterators, the batches that were
    used are drawn and discarded.
    """
    for iterator, position in zip(iterators, saved, strict=True):
        if isinstance(iterator, ResumableIterator) and position is not None:
            iterator.set_state(position)
        else:
            for _ in range(used):
                next(iterator)
