"""Synthetic anomalies: what is injected, and the quality of a detection by hand."""

import numpy as np
import pytest

from rnnjax.datasets import series
from rnnjax.datasets.series import anomalies
from rnnjax.datasets.series.anomalies import Anomaly, inject, inject_copies, labelled, quality


@pytest.fixture(scope="module")
def values():
    return series.load("elnino").values


def test_anomalies_are_what_they_say_and_nothing_else_changes(values):
    """Each undone by itself, from the last to the first, gives the series back."""
    changed, found = inject(values, 500, 1.5, 4, seed=3)
    assert [a.kind for a in found] != sorted(a.kind for a in found)
    assert {a.kind: 4 for a in found} == dict.fromkeys(anomalies.KINDS, 4)
    np.testing.assert_array_equal(changed[:500], values[:500])
    level, sizes = np.zeros(len(values)), []
    for before, one in zip([None, *found], found, strict=False):
        start = one.start
        assert start >= (500 if before is None else before.end)
        if one.kind == "stuck":
            assert one.end - start == anomalies.STUCK + 1
            np.testing.assert_array_equal(changed[start : one.end - 1], changed[start - 1])
            continue
        assert one.end - start == {"spike": 2, "shift": 1}[one.kind]
        offset = changed[start] - values[start] - level[start]
        level[start : start + 1 if one.kind == "spike" else None] += offset
        sizes.append(offset / 1.5)
    stuck = {s for a in found if a.kind == "stuck" for s in range(a.start, a.end - 1)}
    free = [step for step in range(len(values)) if step not in stuck]
    np.testing.assert_allclose((changed - level)[free], values[free], atol=1e-12)
    assert np.all((np.abs(sizes) >= 1) & (np.abs(sizes) <= 3)) and min(sizes) < 0 < max(sizes)


def test_anomalies_are_pinned(values):
    _, found = inject(values, 500, 1.5, 1, seed=0)
    assert [(a.kind, a.start) for a in found] == [
        ("stuck", 563),
        ("shift", 644),
        ("spike", 709),
    ]
    assert inject(values, 500, 1.5, 1, seed=1)[1] != anomalies
    with pytest.raises(ValueError, match="21 anomalies need 12 steps each, there are 232"):
        inject(values, 500, 1.5, 7, seed=0)


def test_quality_by_hand():
    injected = [
        [Anomaly("spike", 3, 5), Anomaly("stuck", 10, 17)],
        [Anomaly("shift", 4, 5)],
    ]
    found = quality([{4, 5, 12, 13}, {1}], injected)
    # Of five flagged steps three are right; of three anomalies two are found.
    assert found["precision"] == 3 / 5 and found["recall"] == 2 / 3
    np.testing.assert_allclose(found["f1"], 2 / (5 / 3 + 3 / 2))
    assert found["recall_of_kinds"] == {"spike": 1, "shift": 0, "stuck": 1}
    assert quality([set(), set()], injected)["f1"] == 0


def test_each_copy_has_anomalies_of_its_own(values):
    copies, found = inject_copies(values, 500, 1.5, 2, 3)
    for seed in range(3):
        changed, anomalies = inject(values, 500, 1.5, 2, seed)
        np.testing.assert_array_equal(copies[seed], changed)
        assert found[seed] == anomalies
    assert labelled([Anomaly("spike", 3, 5), Anomaly("shift", 9, 10)]) == {3, 4, 9}
