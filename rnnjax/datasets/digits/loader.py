"""Sequential handwritten digits: 8x8 real images read one pixel per step, 64 steps.

Source: E. Alpaydin and C. Kaynak, UCI "Optical Recognition of Handwritten Digits" (1998), test
set, 1,797 images, as shipped in scikit-learn. The pixel-by-pixel task and its permuted variant
follow Le, Jaitly & Hinton (2015), section 4.2, at a twelfth of their 784 steps: demonstration
scale.

Axis letters: T = 64 steps, B batch, N images of a split.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Int, Int32

from rnnjax.datasets import preparing
from rnnjax.datasets.batches import shuffled, shuffled_batches

if TYPE_CHECKING:
    import grain

SIZES = {"train": 1442, "test": 355}
STEPS = 64


def prepare(data_dir: str | os.PathLike | None = None) -> Path:
    """Write the digits as ArrayRecord files, once, and return the directory that holds them.

    See `rnnjax.datasets.preparing.prepare`.

    Raises:
        ModuleNotFoundError: the digits are not prepared, and scikit-learn is missing.
        DamagedError: the directory exists without its `dataset_info.json`.
    """
    from rnnjax.datasets.digits.builder import SklearnDigits  # imports TFDS

    return preparing.prepare(SklearnDigits, data_dir)


def load(
    split: str, data_dir: str | os.PathLike | None = None
) -> tuple[Float32[np.ndarray, "N 64"], Int32[np.ndarray, " N"]]:
    """Return the pixels of a split `[N, 64]` in [0, 1] (intensity / 16), and its labels `[N]`.

    Pixels are row-major within an image; images are in the order of the source.

    Raises:
        ValueError: `split` is neither "train" (1,442 images) nor "test" (355).
        DamagedError: the files are damaged.
        Others as `prepare`.
    """
    from rnnjax.datasets.digits.builder import SklearnDigits  # imports TFDS

    rows = preparing.read(SklearnDigits, split, data_dir)
    pixels = np.stack([row["image"] for row in rows]).reshape(len(rows), STEPS)
    return pixels.astype(np.float32) / 16, np.array([row["label"] for row in rows], np.int32)


def permutation(seed: int = 0) -> Int[np.ndarray, "64"]:
    """Return the fixed order of the permuted variant: step t shows pixel `permutation()[t]`."""
    return shuffled(STEPS, seed)


def pipeline(
    split: str,
    batch_size: int,
    *,
    seed: int,
    permuted: bool = False,
    data_dir: str | os.PathLike | None = None,
    epochs: int | None = None,
) -> "grain.DatasetIterator":
    """Iterate over shuffled time-major batches; `get_state` and `set_state` make it resumable.

    Each batch is `dict(inputs, targets, mask)`: inputs `[64, B, 1]` float32 in [0, 1], targets
    `[64, B]` int32 (the label, at every step), mask `[64, B]` bool (True at the last step only).
    Every epoch is a new permutation. "train" drops the images that do not fill a batch; "test" ends
    each epoch with a smaller batch, so that every image counts. There is no end if `epochs` is
    None. The state is the number of batches taken: restore it into a pipeline with the same
    arguments.

    Raises:
        ValueError: `batch_size`, `seed` or `epochs` is out of range.
        Others as `load`.
    """
    pixels, labels = load(split, data_dir)
    pixels = pixels[:, permutation()] if permuted else pixels
    return shuffled_batches(
        {"pixels": pixels, "labels": labels},
        batch_size,
        seed=seed,
        epochs=epochs,
        drop_remainder=split == "train",
        transform=_question,
    )


def _question(batch):
    mask = np.zeros((STEPS, len(batch["labels"])), bool)
    mask[-1] = True
    inputs = np.ascontiguousarray(batch["pixels"].T)[..., None]
    return {"inputs": inputs, "targets": np.tile(batch["labels"], (STEPS, 1)), "mask": mask}
