"""Spectral clustering of speaker embeddings: a pruned cosine affinity, the eigengap of its
Laplacian, k-means on the leading eigenvectors. Source: 3D-Speaker's diarization (p-pruning);
von Luxburg, A Tutorial on Spectral Clustering (2007), section 4.

A long recording is first condensed to micro-clusters, so that memory and time stay bounded.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.clustering.groups import Counts, Labels, Vectors, centroids, compact

Eigen = tuple[NDArray[np.float64], NDArray[np.float64]]

_BLOCK = 1024
_ROUNDS = 8


class SpectralOptions(NamedTuple):
    """`pruning`: the share of each row of the affinity that is kept, at least `neighbours`;
    `condense_above`: the number of points from which micro-clusters stand in for them."""

    pruning: float
    neighbours: int
    condense_above: int
    seed: int


def spectral(vectors: Vectors, counts: Counts, options: SpectralOptions) -> Labels:
    """Labels int64 [N] of vectors float32 [N, D] of length 1, in order of time."""
    from sklearn.cluster import KMeans

    if len(vectors) <= max(2, counts.lower):
        return np.arange(len(vectors)) if counts.lower > 1 else np.zeros(len(vectors), np.int64)
    points, members = condense(vectors, options.condense_above)
    kept = max(options.neighbours, round(options.pruning * len(points)))
    values, space = leading(laplacian(pruned_affinity(points, kept)), counts.upper + 1)
    groups = eigengap(values, counts)
    kmeans = KMeans(groups, n_init=10, random_state=options.seed)
    labels = kmeans.fit_predict(space[:, :groups]).astype(np.int64)
    return compact(labels[members])


def condense(vectors: Vectors, most: int) -> tuple[Vectors, Labels]:
    """At most `most` points for all vectors, and the point of each vector: spherical k-means
    from points spread evenly over time. Fewer vectors are returned as they are."""
    if len(vectors) <= most:
        return vectors, np.arange(len(vectors))
    points = vectors[np.linspace(0, len(vectors) - 1, most).astype(np.int64)]
    for _ in range(_ROUNDS):
        members = compact(nearest(vectors, points))
        points = centroids(vectors, members)
    return points, members


def nearest(vectors: Vectors, points: Vectors) -> Labels:
    """The most similar point of each vector, int64 [N], block by block."""
    found = [
        np.argmax(vectors[start : start + _BLOCK] @ points.T, axis=1)
        for start in range(0, len(vectors), _BLOCK)
    ]
    return np.concatenate(found).astype(np.int64)


def pruned_affinity(points: Vectors, kept: int) -> NDArray[np.float32]:
    """Cosines [M, M], of each row only the `kept` largest, negative ones as 0; symmetric."""
    affinity: NDArray[np.float32] = np.maximum(points @ points.T, 0.0)
    np.fill_diagonal(affinity, 0.0)
    if kept < len(points):
        drop = np.argpartition(affinity, len(points) - kept, axis=1)[:, : len(points) - kept]
        np.put_along_axis(affinity, drop, 0.0, axis=1)
    affinity += affinity.T.copy()
    affinity *= 0.5
    return affinity


def laplacian(affinity: NDArray[np.float32]) -> NDArray[np.float32]:
    """D - A."""
    result: NDArray[np.float32] = -affinity
    np.fill_diagonal(result, affinity.sum(axis=1))
    return result


def leading(matrix: NDArray[np.float32], count: int) -> Eigen:
    """The `count` smallest eigenvalues, ascending, and their vectors [M, count]."""
    from scipy.linalg import eigh

    last = min(count, len(matrix)) - 1
    found: Eigen = eigh(matrix.astype(np.float64), subset_by_index=(0, last))
    return found


def eigengap(values: NDArray[np.float64], counts: Counts) -> int:
    """The number of groups, within `counts`, after which the eigenvalues rise most."""
    upper = min(counts.upper, len(values) - 1)
    if counts.lower >= upper:
        return min(counts.lower, len(values))
    gaps = np.diff(values)[counts.lower - 1 : upper]
    return counts.lower + int(np.argmax(gaps))
