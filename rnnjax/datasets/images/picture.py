"""A user's own image file, in the form that the networks read."""

import os
from pathlib import Path

import numpy as np
from jaxtyping import Float32


def read_file(path: str | os.PathLike, size: int) -> Float32[np.ndarray, "size size"]:
    """Read an image file in the form that the networks read: square, grey, ink 1 on ground 0.

    The picture is reduced to `size` x `size` pixels. If the median of its border is lighter than
    middle grey, as with ink on paper, light and dark are exchanged.

    Raises:
        ValueError: the file is not an image.
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
