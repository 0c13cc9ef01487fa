"""Images with one of ten labels: handwritten digits, small and large, and clothes.

| source | images | size | from |
| --- | --- | --- | --- |
| digits | 1,442 + 355 | 8x8 | scikit-learn (see `rnnjax.datasets.digits`): demonstration scale |
| mnist | 60,000 + 10,000 | 28x28 | LeCun, Cortes, Burges 1998, downloaded |
| fashion_mnist | 60,000 + 10,000 | 28x28 | Xiao, Rasul, Vollgraf 2017, downloaded |
"""

import os
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int32

from rnnjax.datasets import digits, preparing

DIGITS = "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"
CLOTHES = (
    *("t-shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
NAMES = {"digits": DIGITS, "mnist": DIGITS, "fashion_mnist": CLOTHES}
SIZES = {"digits": 8, "mnist": 28, "fashion_mnist": 28}
SOURCES = {
    "digits": "scikit-learn's 1,797 handwritten digits of 8x8 pixels (UCI): demonstration scale",
    "mnist": "MNIST, 70,000 handwritten digits of 28x28 pixels",
    "fashion_mnist": "Fashion-MNIST, 70,000 pictures of clothes of 28x28 pixels",
}


def load(
    source: str, split: str, data_dir: str | os.PathLike | None = None
) -> tuple[Float32[np.ndarray, "N rows columns"], Int32[np.ndarray, " N"]]:
    """Return the images of a split, ink 1 on ground 0, and their labels 0..9.

    Args:
        source: `digits`, `mnist` or `fashion_mnist`.
        split: `train` or `test`, as the source has them.
        data_dir: where prepared data are kept, see `preparing.prepare`.

    Raises:
        ValueError: there is no such source or split.
        Others as `preparing.read`.
    """
    if source not in SOURCES:
        raise ValueError(f"source must be one of {', '.join(SOURCES)}; got {source!r}")
    if source == "digits":
        pixels, labels = digits.load(split, data_dir)
        return pixels.reshape(-1, 8, 8), labels
    from rnnjax.datasets import images_builder

    builder = {"mnist": images_builder.Mnist, "fashion_mnist": images_builder.FashionMnist}[source]
    rows = preparing.read(builder, split, data_dir)
    pixels = np.stack([row["image"] for row in rows]).astype(np.float32) / 255
    return pixels, np.array([row["label"] for row in rows], np.int32)


def read_file(path: str | os.PathLike, size: int) -> Float32[np.ndarray, "size size"]:
    """Read an image file as the networks see images: square, grey, ink 1 on ground 0.

    The picture is reduced to `size` x `size` pixels; if its border is lighter than its middle grey,
    as ink on paper, light and dark are exchanged.

    Raises:
        ValueError: the file is no image.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(Path(path)) as image:
            small = image.convert("L").resize((size, size), Image.Resampling.BOX)
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{path} is not an image file: {error}") from None
    grey = np.asarray(small, np.float32) / 255
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    return 1 - grey if np.median(border) > 0.5 else grey
