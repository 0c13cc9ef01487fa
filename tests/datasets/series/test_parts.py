"""A series cut in time: what is learned from, and what is missing."""

import numpy as np
import pytest

from rnnjax.datasets import series

OPTIONS = {"train_share": 0.5, "validation_share": 0.2, "window": 6}


@pytest.fixture(scope="module")
def values():
    return series.load("elnino").values


def test_the_parts_follow_each_other(values):
    parts = series.cut(values, season=12, **OPTIONS)
    ends = round(731 * 0.5), round(731 * 0.7)
    assert parts.train.tolist() == list(range(6, ends[0]))
    assert parts.validation.tolist() == list(range(ends[0], ends[1]))
    assert parts.test.tolist() == list(range(ends[1], 731))
    np.testing.assert_allclose(parts.scaling.std, [np.diff(values)[: ends[0]].std()])
    scaled = (np.diff(values) - parts.scaling.mean) / parts.scaling.std
    found = parts.scaled(np.stack([parts.changes] * 2))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [scaled] * 2, rtol=1e-5)


def test_what_is_missing_is_not_learned_from():
    values = series.load("co2").values
    parts = series.cut(values, season=52, **OPTIONS)
    assert len(parts.values) == len(values)
    for origin in (*parts.train, *parts.validation):
        assert not np.isnan(values[origin : origin + 2]).any()
    assert np.isfinite(parts.changes).all()


def test_a_part_that_is_too_short_is_refused(values):
    with pytest.raises(ValueError, match="700 changes leave too little"):
        series.cut(values, season=12, **OPTIONS | {"window": 700})
