"""Sequential handwritten digits: 8x8 real images read one pixel a step, 64 steps.

Source: E. Alpaydin and C. Kaynak, UCI "Optical Recognition of Handwritten Digits" (1998), test
set, 1,797 images, as shipped in scikit-learn. The pixel-by-pixel task and its permuted variant
follow Le, Jaitly & Hinton (2015), section 4.2, at a twelfth of their 784 steps: demonstration
scale.

Axis letters: T = 64 steps, B batch, N images of a split.
"""

import functools
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, Int, Int32

if TYPE_CHECKING:
    import grain

SIZES = {"train": 1442, "test": 355}
STEPS = 64


def prepare(data_dir: str | os.PathLike | None = None) -> Path:
    """Writes the digits as ArrayRecord files, once, and returns the directory that holds them.

    `data_dir` defaults to the environment variable RNNJAX_DATA, else to `~/.cache/rnnjax/data`.
    The files are written in a private directory `.preparing-*` beside it and renamed into place:
    an interrupted preparation leaves nothing that looks finished (a killed one leaves its private
    directory, safe to delete), and of several processes at once the first wins. When there is
    something to prepare, TFDS's progress bars are turned off for this process.

    Raises ModuleNotFoundError when scikit-learn is missing and there is something to prepare, and
    RuntimeError when the directory exists without its `dataset_info.json`.
    """
    import tensorflow_datasets as tfds

    from rnnjax.datasets.digits_builder import SklearnDigits

    root = Path(data_dir or os.environ.get("RNNJAX_DATA") or "~/.cache/rnnjax/data").expanduser()
    directory = root / SklearnDigits.name / str(SklearnDigits.VERSION)
    info = directory / "dataset_info.json"
    if not info.exists():
        tfds.disable_progress_bar()
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".preparing-", dir=root) as private:
            builder = SklearnDigits(data_dir=private, file_format="array_record")
            builder.download_and_prepare()
            directory.parent.mkdir(exist_ok=True)
            try:
                os.rename(builder.data_dir, directory)
            except OSError:
                if not directory.exists():
                    raise
        if not info.exists():
            raise _damaged(directory, "dataset_info.json is missing")
    return directory


def load(
    split: str, data_dir: str | os.PathLike | None = None
) -> tuple[Float32[np.ndarray, "N 64"], Int32[np.ndarray, " N"]]:
    """Decodes a split to memory: pixels [N, 64] in [0, 1] (intensity / 16), labels [N] int32.

    Pixels are row-major within an image, images in the order of the source. Raises ValueError for
    a split other than "train" (1,442 images) or "test" (355), RuntimeError for damaged files, and
    what `prepare` raises.
    """
    if split not in SIZES:
        raise ValueError(f"split must be one of {', '.join(SIZES)}; got {split!r}")
    import tensorflow_datasets as tfds

    directory = prepare(data_dir)
    try:
        builder: Any = tfds.builder_from_directory(directory)
        source = builder.as_data_source(split)
        rows = sorted(source.__getitems__(range(len(source))), key=lambda row: row["index"])
        pixels = np.stack([row["image"] for row in rows]).reshape(len(rows), STEPS)
        labels = np.array([row["label"] for row in rows], np.int32)
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # TFDS and ArrayRecord raise all kinds, by the place of the damage
        raise _damaged(directory, f"{type(error).__name__}: {error}".splitlines()[0]) from error
    return pixels.astype(np.float32) / 16, labels


def permutation(seed: int = 0) -> Int[np.ndarray, "64"]:
    """Returns the fixed order of the permuted variant: step t shows pixel `permutation()[t]`."""
    return _shuffled(STEPS, seed)


def pipeline(
    split: str,
    batch_size: int,
    *,
    seed: int,
    permuted: bool = False,
    data_dir: str | os.PathLike | None = None,
    epochs: int | None = None,
) -> "grain.DatasetIterator":
    """Iterates over shuffled time-major batches; `get_state` and `set_state` make it resumable.

    Each batch is `dict(inputs, targets, mask)`: inputs [64, B, 1] float32 in [0, 1], targets
    [64, B] int32 (the label, at every step), mask [64, B] bool (True at the last step only).
    Every epoch is its own shuffle without replacement. "train" drops the images that do not fill
    a batch; "test" ends each epoch with a smaller batch, so that it counts every image. Endless
    when `epochs` is None. The state is the number of batches taken: restore it into a pipeline
    made with the same arguments.

    Raises ValueError for a `batch_size`, `seed` or `epochs` out of range, and what `load` raises.
    """
    import grain

    pixels, labels = load(split, data_dir)
    size = len(labels)
    if not 1 <= batch_size <= size:
        raise ValueError(
            f"batch_size must be between 1 and {size}, the images of {split!r}; got {batch_size}"
        )
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be between 0 and 2**32 - 1; got {seed}")
    if epochs is not None and epochs < 1:
        raise ValueError(f"epochs must be None or at least 1; got {epochs}")
    steps = np.ascontiguousarray((pixels[:, permutation()] if permuted else pixels).T)
    batches = size // batch_size if split == "train" else -(-size // batch_size)
    order = functools.lru_cache(maxsize=1)(functools.partial(_shuffled, size, seed))

    def batch(number: int) -> dict[str, np.ndarray]:
        epoch, position = divmod(number, batches)
        rows = order(epoch)[position * batch_size :][:batch_size]
        mask = np.zeros((STEPS, len(rows)), bool)
        mask[-1] = True
        inputs = np.take(steps, rows, axis=1)[..., None]
        targets = np.tile(labels[rows], (STEPS, 1))
        return {"inputs": inputs, "targets": targets, "mask": mask}

    # One element is one whole batch, gathered in this thread: over a million images a second, where
    # Grain's shuffle and batch of single images reach 30 thousand.
    total = sys.maxsize if epochs is None else epochs * batches
    here = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
    return iter(grain.MapDataset.range(total).map(batch).to_iter_dataset(here))


def _shuffled(size: int, *seeds: int) -> np.ndarray:
    # NumPy keeps a bit generator's stream for ever; `Generator.permutation` may change.
    return np.argsort(np.random.PCG64(seeds).random_raw(size), kind="stable")


def _damaged(directory: Path, why: str) -> RuntimeError:
    return RuntimeError(f"{directory} is damaged ({why}): delete it, and it is prepared again")
