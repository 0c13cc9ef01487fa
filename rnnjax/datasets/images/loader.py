"""Images with one of ten labels: handwritten digits, small and large, and clothes.

| source | images | size | from |
| --- | --- | --- | --- |
| digits | 1,442 + 355 | 8x8 | scikit-learn (see `rnnjax.datasets.digits`): demonstration scale |
| mnist | 60,000 + 10,000 | 28x28 | LeCun, Cortes, Burges 1998, downloaded |
| fashion_mnist | 60,000 + 10,000 | 28x28 | Xiao, Rasul, Vollgraf 2017, downloaded |
"""

import os

import numpy as np
from jaxtyping import Float32, Int32

from rnnjax.datasets import digits, preparing
from rnnjax.datasets.images.sources import SOURCES


def load(
    source: str, split: str, data_dir: str | os.PathLike | None = None
) -> tuple[Float32[np.ndarray, "N rows columns"], Int32[np.ndarray, " N"]]:
    """Return the images of a split, ink 1 on ground 0, and their labels 0..9.

    Args:
        source: `digits`, `mnist` or `fashion_mnist`.
        split: `train` or `test`, the source's own splits.
        data_dir: the folder of all data sets, see `preparing.prepare`.

    Raises:
        ValueError: there is no such source or split.
        Others as `preparing.read`.
    """
    preparing.check_source(source, SOURCES)
    if source == "digits":
        pixels, labels = digits.load(split, data_dir)
        return pixels.reshape(-1, 8, 8), labels
    from rnnjax.datasets.images.builder import BUILDERS  # imports TFDS

    rows = preparing.read(BUILDERS[source], split, data_dir)
    pixels = np.stack([row["image"] for row in rows]).astype(np.float32) / 255
    return pixels, np.array([row["label"] for row in rows], np.int32)
