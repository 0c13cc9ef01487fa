"""Clusters of units, against scikit-learn."""

import numpy as np
import pytest
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import silhouette_score

from rnnjax import experiment


def drawn(seed, spread=0.1):
    """Return five rows around each of the axes e_2, e_0 and e_1, in this order."""
    noise = np.random.default_rng(seed).normal(scale=spread, size=(15, 3))
    return np.repeat(np.eye(3)[[2, 0, 1]], 5, axis=0) + noise


@pytest.mark.parametrize("seed", range(3))
def test_the_silhouette_is_scikit_learns(seed):
    rng = np.random.default_rng(seed)
    rows, labels = rng.normal(size=(20, 3)), rng.integers(0, 4, 20)
    labels[0] = 7  # alone
    assert experiment.silhouette(rows, labels) == pytest.approx(silhouette_score(rows, labels))


def test_rows_that_coincide_have_no_silhouette():
    assert experiment.silhouette(np.ones((4, 2)), np.array([0, 0, 1, 1])) == 0


def test_the_number_of_clusters_is_that_of_the_largest_silhouette():
    rows = drawn(0)
    found = experiment.clusters(rows, 6)
    assert found.num == 3
    assert found.labels.tolist() == [2] * 5 + [0] * 5 + [1] * 5  # numbered by their largest column
    assert found.silhouette == pytest.approx(silhouette_score(rows, found.labels))


@pytest.mark.parametrize("seed", range(3))
def test_of_all_numbers_of_wards_clusters_the_best_is_taken(seed):
    rows = np.random.default_rng(seed).normal(size=(17, 4))
    want = [
        silhouette_score(rows, AgglomerativeClustering(num, linkage="ward").fit_predict(rows))
        for num in range(2, 9)
    ]
    found = experiment.clusters(rows, 8)
    assert found.silhouette == pytest.approx(max(want)) and found.num == 2 + np.argmax(want)


def test_there_are_never_more_clusters_than_rows_but_one():
    assert experiment.clusters(np.array([[0.0], [1.0], [1.1], [5.0]]), 9).num in (2, 3)
    twins = np.repeat([[0.0], [1.0], [5.0]], 2, axis=0)  # merges of height zero
    assert experiment.clusters(twins, 5).num == 3


def test_what_has_no_clusters_is_refused():
    with pytest.raises(ValueError, match="most must be at least 2, got 1"):
        experiment.clusters(drawn(0), 1)
    with pytest.raises(ValueError, match="three different"):
        experiment.clusters(np.ones((5, 2)), 3)
    with pytest.raises(ValueError, match=r"at least two clusters, got \[1\]"):
        experiment.silhouette(np.ones((3, 2)), np.ones(3, int))


def test_the_control_shuffles_each_row_for_itself():
    rows = drawn(0)
    found = experiment.silhouettes(rows, most=6, shuffles=3, seed=5)
    rng, control = np.random.default_rng(5), []
    for _ in range(3):
        shuffled = rng.permuted(rows, axis=1)
        np.testing.assert_allclose(np.sort(shuffled, axis=1), np.sort(rows, axis=1))
        control.append(experiment.clusters(shuffled, 6).silhouette)
    assert found == (3, experiment.clusters(rows, 6).silhouette, max(control))
    num, *values = experiment.silhouettes(np.ones((4, 2)), most=6, shuffles=3, seed=5)
    assert num == 0 and np.isnan(values).all()
