"""Orbax's many exceptions and log lines as one OSError of one line."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def saving(directory: Path) -> Iterator[None]:
    """Turn any exception while Orbax writes into an OSError that says why."""
    try:
        yield
    except Exception as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise OSError(f"cannot save in {directory}: {why}") from error


@contextlib.contextmanager
def reading(directory: Path) -> Iterator[None]:
    """Turn any exception while Orbax reads into an OSError."""
    try:
        with quiet():
            yield
    except Exception as error:
        raise OSError(f"{directory} is damaged: {str(error).splitlines()[0]}") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress Orbax's log; its errors are raised."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def read_metadata(directory: Path) -> Any:
    """Return the metadata of a checkpoint.

    Raises:
        FileNotFoundError: there is no checkpoint.
        OSError: it is damaged.
    """
    from orbax.checkpoint import v1 as ocp

    try:
        with quiet():
            found = ocp.checkpointables_metadata(str(directory))
            tree = found.metadata["tree"]
    except Exception as error:  # the type of Orbax's exception depends on what is missing
        raise FileNotFoundError(f"{directory} holds no checkpoint") from error
    if tree is None:
        raise OSError(f"{directory} is damaged")
    return found
