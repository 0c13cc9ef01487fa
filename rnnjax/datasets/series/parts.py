"""A series cut in time, for detection: a part to learn from, one for the threshold, one to test.

Axis letters: T steps of a series, N steps of a part, W window.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Float64, Int

from rnnjax.datasets.series.forecasts import origins
from rnnjax.datasets.series.transforms import Scaling, carried_forward


class Parts(NamedTuple):
    """A series cut in time. Change t leads to value t + 1."""

    values: Float64[np.ndarray, " T"]  # missing values carried forward
    changes: Float64[np.ndarray, " T-1"]
    scaling: Scaling  # of the changes, fitted on the training part
    train: Int[np.ndarray, " N"]  # origins: the changes to predict
    validation: Int[np.ndarray, " N"]
    test: Int[np.ndarray, " N"]

    def scaled(self, changes: Float[np.ndarray, "*n"]) -> Float32[np.ndarray, "*n"]:
        """Return scaled changes."""
        return self.scaling.apply(changes[..., None])[..., 0].astype(np.float32)


def cut(
    values: Float64[np.ndarray, " T"],
    *,
    train_share: float,
    validation_share: float,
    window: int,
    season: int,
) -> Parts:
    """Return the parts of a series, beginning with its first known value.

    Changes to or from a missing value are neither learned nor used for the threshold.

    Args:
        values: NaN where a value is missing.
        train_share, validation_share: fractions of the changes; the rest is the test.
        window: changes that a prediction reads.
        season: changes that a rule reads; neither the threshold nor the test begins before them.

    Raises:
        ValueError: a part has fewer than two changes to predict.
    """
    there = ~np.isnan(values)
    first = int(there.argmax())
    values, there = carried_forward(values[first:]), there[first:]
    changes, known = np.diff(values), there[1:] & there[:-1]
    ends = [round(len(changes) * train_share)]
    ends.append(round(len(changes) * (train_share + validation_share)))
    after = (max(end, season) for end in ends)
    train, validation, test = (
        origins(start, end, window, 1)
        for start, end in zip((0, *after), (*ends, len(changes)), strict=True)
    )
    train, validation = train[known[train]], validation[known[validation]]
    if min(map(len, (train, validation, test))) < 2:
        raise ValueError(
            f"{window} changes leave too little to learn from or to test: "
            f"{len(train)}, {len(validation)} and {len(test)} steps"
        )
    scaling = Scaling.fit(changes[: ends[0], None])
    return Parts(values, changes, scaling, train, validation, test)
