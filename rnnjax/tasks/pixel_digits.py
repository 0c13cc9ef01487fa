"""Naming a handwritten digit after reading its pixels one by one."""

import dataclasses
import math
from collections.abc import Mapping
from typing import SupportsFloat, final

from jaxtyping import Array, Bool, Float

from rnnjax.tasks.base import Batch, Classification


@final
@dataclasses.dataclass(frozen=True)
class PixelDigits(Classification):
    """Name the digit in an 8x8 image after reading its 64 pixels, one per step.

    It scores the sequences of `rnnjax.datasets.digits.pipeline`: inputs `[64, B, 1]` in [0, 1], and
    the label as the target of the last step. The loss is the cross-entropy there, and chance is
    ln 10. The data are real, so there is nothing to sample. A sequence is correct if its label is.
    No paper has a rule for a run on these images. Ours: 90 % of the held-out images are correct.

    Source of the form: Le, Jaitly, Hinton 2015, "A simple way to initialize recurrent networks of
    rectified linear units", on 28x28 images; these are 8x8.

    Raises:
        ValueError: `length` is not 64.
    """

    length: int = 64

    def __post_init__(self):
        if self.length != 64:
            raise ValueError(f"length must be 64, the pixels of a digit, got {self.length!r}")

    @property
    def input_size(self) -> int:
        """One intensity."""
        return 1

    @property
    def output_size(self) -> int:
        """Ten classes."""
        return 10

    @property
    def total_length(self) -> int:
        """The 64 pixels."""
        return self.length

    @property
    def chance(self) -> float:
        """ln 10: the classes are balanced to within one part in fifty."""
        return math.log(10)

    def correct(self, outputs: Float[Array, "T B O"], batch: Batch) -> Bool[Array, " B"]:
        """Return whether the last step's largest logit is the label's."""
        return self.hits(outputs, batch)[-1]

    def success(self, metrics: Mapping[str, SupportsFloat]) -> bool:
        """Return whether at least 90 % of the held-out images are named correctly."""
        return float(metrics["accuracy"]) >= 0.9
