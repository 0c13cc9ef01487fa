"""Clusters of units: Ward's method, with the number of clusters that the silhouette chooses."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


class Clusters(NamedTuple):
    """What `clusters` returns."""

    labels: Int[np.ndarray, " M"]  # 0 .. num - 1, numbered by the first axis that is largest
    silhouette: float  # the mean over all rows
    num: int


def clusters(rows: Float[np.ndarray, "M N"], most: int) -> Clusters:
    """Return the clusters of rows, as many as give the largest mean silhouette.

    Ward's method merges the two clusters whose union adds least to the sum of squared distances
    from the means of clusters. Clusters are numbered by the column in which their mean is largest.

    Args:
        rows: `[M, N]`, with at least three different ones.
        most: the largest number of clusters; the smallest is two, and M - 1 is the limit.

    Raises:
        ValueError: there are fewer than three different rows, or `most` is below 2.

    Source: Ward 1963, "Hierarchical grouping to optimize an objective function"; Rousseeuw 1987,
    "Silhouettes: a graphical aid to the interpretation and validation of cluster analysis".
    """
    from scipy.cluster.hierarchy import fcluster, linkage

    rows = np.asarray(rows, float)
    if most < 2:
        raise ValueError(f"most must be at least 2, got {most}")
    if not can_cluster(rows):
        raise ValueError("rows must hold at least three different ones")
    tree, found = linkage(rows, "ward"), []
    for num in range(2, min(most, len(rows) - 1) + 1):
        labels = fcluster(tree, num, "maxclust")
        if labels.max() == num:  # fewer, where several merges have the same height
            found.append(Clusters(labels - 1, silhouette(rows, labels), num))
    best = max(found, key=lambda entry: entry.silhouette)  # the first of equal ones
    means = np.array([rows[best.labels == label].mean(0) for label in range(best.num)])
    order = np.argsort(means.argmax(1), kind="stable")
    return best._replace(labels=np.argsort(order)[best.labels])


def can_cluster(rows: Float[np.ndarray, "M N"]) -> bool:
    """Return whether there are at least three different rows."""
    return len(np.unique(rows, axis=0)) > 2


class Silhouettes(NamedTuple):
    """What `silhouettes` returns."""

    num: int  # of clusters; 0 if there are fewer than three different rows
    silhouette: float  # NaN then
    shuffled: float  # the largest of the control's


def silhouettes(rows: Float[np.ndarray, "M N"], most: int, shuffles: int, seed: int) -> Silhouettes:
    """Return how good the `clusters` of rows are, beside those of rows shuffled each for itself.

    Rows that share nothing but the numbers that they hold have clusters as good as that by chance.

    Args:
        rows, most: as for `clusters`.
        shuffles: how often all rows are shuffled.
        seed: of the shuffles.
    """
    if not can_cluster(rows):
        return Silhouettes(0, float("nan"), float("nan"))
    found, rng = clusters(rows, most), np.random.default_rng(seed)
    control = [clusters(rng.permuted(rows, axis=1), most).silhouette for _ in range(shuffles)]
    return Silhouettes(found.num, found.silhouette, max(control))


def silhouette(rows: Float[np.ndarray, "M N"], labels: Int[np.ndarray, " M"]) -> float:
    """Return the mean silhouette of clusters: 1 if they are far apart, near 0 if they overlap.

        s = (b - a) / max(a, b)

    with a the mean distance of a row from the others of its cluster, and b the smallest mean
    distance from the rows of another cluster; s = 0 for a row that is alone, and where a = b = 0.

    Args:
        rows: `[M, N]`.
        labels: of the clusters, `[M]`; at least two different ones.

    Raises:
        ValueError: there is one cluster only.
    """
    rows = np.asarray(rows, float)
    names, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise ValueError(f"labels must name at least two clusters, got {names.tolist()}")
    distance = np.linalg.norm(rows[:, None] - rows, axis=-1)
    sums = distance @ (place[:, None] == np.arange(len(names)))
    own = np.arange(len(rows)), place
    within = sums[own] / np.maximum(counts[place] - 1, 1)
    means = sums / counts
    means[own] = np.inf
    nearest = means.min(1)
    larger = np.maximum(within, nearest)
    alone = (counts[place] == 1) | (larger == 0)
    return float(np.mean(np.where(alone, 0, (nearest - within) / np.where(larger > 0, larger, 1))))
