"""The learning curve of a running script, read from its metrics.jsonl for the pruner."""

import json
import math
import statistics
from pathlib import Path
from typing import Any


class Curve:
    """The median over members of a metric at each recorded step, read while it is written.

    A step is complete when rows of another step follow, or the script has ended. A metric that is
    not finite counts as worse than every other. If rows with other labels follow (of another cell,
    for example), their steps are counted from the last step before, so the curve of a trial is that
    of all its trainings in sequence.

    Args:
        path: of metrics.jsonl; it may not exist yet. Rows are labels, `seed`, `step`, metrics.
        metric: its name; "" for none, which has no curve.
        direction: `minimize` or `maximize`.
    """

    def __init__(self, path: Path, metric: str, direction: str):
        self._path, self._metric = path, metric
        self._worst = math.inf if direction == "minimize" else -math.inf
        self._last = -1  # the last step returned
        self._reset()

    def read(self, *, ended: bool = False) -> list[tuple[int, float]]:
        """Return the steps completed since the last call, and their medians (NaN if not finite).

        Args:
            ended: whether the script has ended.

        Only whole lines are read. A file that was cut, because a run resumes from a checkpoint, is
        read from the start; steps that were returned before are not returned twice.
        """
        if not self._metric or not self._path.exists():
            return []
        if self._path.stat().st_size < self._read:
            self._reset()
        with open(self._path, "rb") as file:
            file.seek(self._read)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        found = []
        for line in whole.splitlines():
            row = json.loads(line)
            found += self._add(row, row.get("step"), row.get(self._metric))
        if ended:
            found += self._complete_step()
        new = [(step, value) for step, value in found if step > self._last]
        self._last = max([self._last, *(step for step, _ in new)])
        return new

    def _reset(self):
        self._read, self._labels, self._start = 0, None, 0
        self._step, self._values = 0, []

    def _add(self, row: dict[str, Any], step, value):
        if step is None or value is None:
            return []
        names = list(row)
        labels = [row[name] for name in names[: names.index("seed")]] if "seed" in row else []
        found = []
        if labels != self._labels or step != self._step:
            found = self._complete_step()
            if labels != self._labels and self._labels is not None:
                self._start += self._step
            self._labels, self._step = labels, step
        self._values.append(value if math.isfinite(value) else self._worst)
        return found

    def _complete_step(self):
        if not self._values:
            return []
        median = statistics.median(self._values)
        self._values = []
        return [(self._start + self._step, median if math.isfinite(median) else math.nan)]
