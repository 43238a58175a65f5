"""UMAP, then HDBSCAN: clustering by density, without a number of speakers to find.
Sources: McInnes et al., UMAP (2018); Campello et al. (2013); the pairing as in 3D-Speaker.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from stages.clustering.groups import Labels, Vectors, centroids, compact


class UmapOptions(NamedTuple):
    """`neighbours` and `components` are UMAP's, `smallest` is HDBSCAN's `min_cluster_size`."""

    neighbours: int
    components: int
    smallest: int
    seed: int


def umap_hdbscan(vectors: Vectors, options: UmapOptions) -> Labels:
    """Labels int64 [N] of vectors float32 [N, D] of length 1. What HDBSCAN calls noise goes to
    the nearest centroid; where all is noise, there is one group."""
    from hdbscan import HDBSCAN
    from umap import UMAP

    if len(vectors) <= options.components + 2:  # UMAP's spectral start needs more points
        return np.zeros(len(vectors), dtype=np.int64)
    space = UMAP(
        n_neighbors=min(options.neighbours, len(vectors) - 1),
        n_components=options.components,
        min_dist=0.0,
        metric="cosine",
        random_state=options.seed,
        n_jobs=1,
    ).fit_transform(vectors)
    smallest = max(2, min(options.smallest, len(vectors) // 2))
    found = HDBSCAN(min_cluster_size=smallest, core_dist_n_jobs=1).fit_predict(space)
    labels = np.asarray(found, dtype=np.int64)
    noise = labels < 0
    if noise.all():
        return np.zeros(len(vectors), dtype=np.int64)
    labels[~noise] = compact(labels[~noise])
    centres = centroids(vectors[~noise], labels[~noise])
    labels[noise] = np.argmax(vectors[noise] @ centres.T, axis=1)
    return labels
