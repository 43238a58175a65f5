"""Spectral clustering of speaker embeddings: a pruned cosine affinity, the eigengap of its
Laplacian, k-means on the leading eigenvectors. Source: 3D-Speaker's diarization (p-pruning);
von Luxburg, A Tutorial on Spectral Clustering (2007), section 4.

A long recording is first condensed to micro-clusters, so that memory and time stay bounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.clustering.groups import Counts, Labels, Vectors, centroids, compact

Affinity = NDArray[np.float32]
Eigen = tuple[NDArray[np.float64], NDArray[np.float64]]

AS_CLEAR = 0.8  # of the clearest gap: about as clear
_BLOCK = 1024
_ROUNDS = 8
_SEARCHED = 15


class Cut(NamedTuple):
    """What one pruning makes of the points: the eigengap for its size, the number of groups before
    it, and that many eigenvectors [M, groups]."""

    gap: float
    groups: int
    space: NDArray[np.float64]


class SpectralOptions(NamedTuple):
    """`pruning`: the shares of each row of the affinity that are tried, at least `neighbours`
    entries each; `condense_above`: the number of points from which micro-clusters stand in."""

    pruning: tuple[float, ...]
    neighbours: int
    condense_above: int
    seed: int


def spectral(vectors: Vectors, counts: Counts, options: SpectralOptions) -> Labels:
    """Labels int64 [N] of vectors float32 [N, D] of length 1, in order of time.

    Few neighbours tell many speakers apart but tear a single one to pieces, many do the
    reverse: which pruning decides says `decisive`.
    """
    from sklearn.cluster import KMeans

    if len(vectors) < 3 or counts.upper == 1:  # no gap to look for
        return np.zeros(len(vectors), dtype=np.int64)
    points, members = condense(vectors, options.condense_above)
    similar = cosines(points)
    cuts = []
    for share in options.pruning:
        kept = min(max(options.neighbours, round(share * len(points))), len(points))
        affinity = pruned(similar, kept)
        values, space = leading(laplacian(affinity), max(counts.upper, _SEARCHED) + 1)
        groups, gap = eigengap(values / affinity.sum(axis=1).mean(), counts)
        cuts.append(Cut(gap * len(points) / kept, groups, space[:, :groups]))
    cut = decisive(cuts)
    labels = KMeans(cut.groups, n_init=10, random_state=options.seed).fit_predict(cut.space)
    return compact(labels.astype(np.int64)[members])


def decisive(cuts: Sequence[Cut]) -> Cut:
    """The cut with the clearest gap; of several about as clear the one with the fewest groups,
    since chance alone would tear people apart."""
    clearest = max(cut.gap for cut in cuts)
    least = min(clearest, AS_CLEAR * clearest)  # rounding may make it less than nothing
    return min((cut for cut in cuts if cut.gap >= least), key=lambda cut: (cut.groups, -cut.gap))


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


def cosines(points: Vectors) -> Affinity:
    """float32 [M, M]; negative ones as 0, and the diagonal too."""
    similar: Affinity = np.maximum(points @ points.T, 0.0)
    np.fill_diagonal(similar, 0.0)
    return similar


def pruned(similar: Affinity, kept: int) -> Affinity:
    """Of each row only the `kept` largest; symmetric."""
    affinity = similar.copy()
    if kept < len(similar):
        drop = np.argpartition(similar, len(similar) - kept, axis=1)[:, : len(similar) - kept]
        np.put_along_axis(affinity, drop, 0.0, axis=1)
    affinity += affinity.T.copy()
    affinity *= 0.5
    return affinity


def laplacian(affinity: Affinity) -> Affinity:
    """D - A."""
    result: Affinity = -affinity
    np.fill_diagonal(result, affinity.sum(axis=1))
    return result


def leading(matrix: Affinity, count: int) -> Eigen:
    """The `count` smallest eigenvalues, ascending, and their vectors [M, count]."""
    from scipy.linalg import eigh

    last = min(count, len(matrix)) - 1
    found: Eigen = eigh(matrix.astype(np.float64), subset_by_index=(0, last))
    return found


def eigengap(values: NDArray[np.float64], counts: Counts) -> tuple[int, float]:
    """The number of groups after which the eigenvalues (ascending) rise most, brought within
    `counts`, and by how much they rise there."""
    gaps = np.diff(values)
    groups = min(max(int(np.argmax(gaps)) + 1, counts.lower), counts.upper, len(gaps))
    return groups, float(gaps[groups - 1])
