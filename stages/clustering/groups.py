"""Groups of speaker embeddings: centroids, and the merging and splitting that every clustering
method ends with. Labels are int64 [N], 0..K-1; vectors float32 [N, D], each of length 1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Labels = NDArray[np.int64]


class Counts(NamedTuple):
    """How many speakers there may be, both bounds included."""

    lower: int
    upper: int


def normalised(vectors: Vectors) -> Vectors:
    """Rows of length 1; a row of zeros stays one."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    result: Vectors = (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
    return result


def blended(spans: NDArray[np.int32], vectors: Vectors, share: float) -> Vectors:
    """Each vector and `share` of those of the windows before and after it, where these overlap
    it: a window of 1.5 s says little by itself, and its neighbours mostly have its speaker."""
    result = vectors.copy()
    linked = spans[1:, 0] < spans[:-1, 1]
    result[1:][linked] += share * vectors[:-1][linked]
    result[:-1][linked] += share * vectors[1:][linked]
    return normalised(result)


def totals(vectors: Vectors, labels: Labels) -> Vectors:
    """The sum of each group's vectors, float32 [K, D]; every group has a member."""
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], np.arange(int(labels.max()) + 1))
    sums: Vectors = np.add.reduceat(vectors[order], starts, axis=0)
    return sums


def centroids(vectors: Vectors, labels: Labels) -> Vectors:
    """The direction of each group's mean, float32 [K, D]."""
    return normalised(totals(vectors, labels))


def compact(labels: Labels) -> Labels:
    """The same groups, numbered 0..K-1 without gaps."""
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def absorb_small(vectors: Vectors, labels: Labels, smallest: int, lower: int) -> Labels:
    """Groups of fewer than `smallest` members go, member by member, to the nearest remaining
    group; the `lower` largest groups always remain."""
    labels = compact(labels)
    sizes = np.bincount(labels)
    keep = sizes >= smallest
    keep[np.argsort(-sizes, kind="stable")[: max(1, lower)]] = True
    if keep.all():
        return labels
    stays = keep[labels]
    centres = centroids(vectors[stays], compact(labels[stays]))
    result = labels.copy()
    result[stays] = compact(labels[stays])
    result[~stays] = np.argmax(vectors[~stays] @ centres.T, axis=1)
    return result


class Closeness(NamedTuple):
    """When two groups are one: where the cosine of their centroids is above `threshold`, or
    differs from 1 by less than `doubt` over the square root of the smaller one's members: the
    fewer windows, the less their mean says."""

    threshold: float
    doubt: float


def merge_close(vectors: Vectors, labels: Labels, closeness: Closeness, counts: Counts) -> Labels:
    """Joins the two groups that are closest, as long as there are two that are close enough, or
    more than `counts.upper`; stops at `counts.lower`."""
    labels = compact(labels)
    while (groups := int(labels.max()) + 1) > counts.lower:
        centres = centroids(vectors, labels)
        sizes = np.bincount(labels)
        certain = 1 - closeness.doubt / np.sqrt(np.minimum(sizes[:, None], sizes))
        above = centres @ centres.T - np.minimum(closeness.threshold, certain)
        np.fill_diagonal(above, -np.inf)
        one, other = divmod(int(np.argmax(above)), groups)
        if above[one, other] <= 0 and groups <= counts.upper:
            break
        labels[labels == max(one, other)] = min(one, other)
        labels = compact(labels)
    return labels


def split_largest(vectors: Vectors, labels: Labels, lower: int, seed: int) -> Labels:
    """Splits the group with the greatest scatter in two until there are `lower` groups (or as
    many as there are vectors)."""
    from sklearn.cluster import KMeans

    labels = compact(labels)
    while (groups := int(labels.max()) + 1) < min(lower, len(vectors)):
        sizes = np.bincount(labels)
        scatter = sizes - np.linalg.norm(totals(vectors, labels), axis=1)
        scatter[sizes < 2] = -np.inf
        widest = np.flatnonzero(labels == int(np.argmax(scatter)))
        half = KMeans(2, n_init=10, random_state=seed).fit_predict(vectors[widest]).astype(bool)
        if half.all() or not half.any():  # equal vectors: any split is as good
            half = np.arange(len(widest)) > 0
        labels[widest[half]] = groups
    return labels
