"""The clustering rules that FunASR and 3D-Speaker share, and their settings.

Sources: FunASR `funasr/models/campplus/cluster_backend.py` and `utils.py` (2024);
3D-Speaker `speakerlab/process/cluster.py`, `speakerlab/bin/infer_diarization.py` (spectral) and
`egs/3dspeaker/speaker-diarization/conf/diar.yaml` (UMAP-HDBSCAN). Facts, not code, are theirs.
Random numbers are seeded here, and not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]
Vectors = NDArray[np.float32]
Stretch = tuple[float, float, int]
"""Start and end in s, and the speaker."""


@dataclass(frozen=True)
class Spectral:
    """Dense: the cosines of all pairs, of each row the largest `share` (at least `least`) kept,
    all eigenvectors of the Laplacian; as many speakers as the largest eigengap says."""

    share: float
    least: int = 6
    most_speakers: int = 15

    def __call__(self, vectors: Vectors) -> Labels:
        from scipy.linalg import eigh
        from sklearn.cluster import k_means
        from sklearn.metrics.pairwise import cosine_similarity

        similar = cosine_similarity(vectors)
        dropped = min(int((1 - self.share) * len(vectors)), len(vectors) - self.least)
        for row in similar:
            row[np.argsort(row)[:dropped]] = 0.0
        similar = 0.5 * (similar + similar.T)
        np.fill_diagonal(similar, 0.0)
        values, space = eigh(np.diag(np.abs(similar).sum(axis=1)) - similar)
        speakers = int(np.argmax(np.diff(values[: self.most_speakers + 1]))) + 1
        found: Labels = k_means(space[:, :speakers], speakers, random_state=0)[1]
        return found.astype(np.int64)


@dataclass(frozen=True)
class UmapHdbscan:
    """Noise stays label -1, as it does there."""

    neighbours: int
    samples: int
    one_cluster: bool
    components: int = 60
    smallest: int = 10

    def __call__(self, vectors: Vectors) -> Labels:
        from hdbscan import HDBSCAN
        from umap import UMAP

        space = UMAP(
            n_neighbors=min(self.neighbours, len(vectors) - 1),
            min_dist=0.0,
            n_components=min(self.components, len(vectors) - 2),
            metric="cosine",
            random_state=0,
            n_jobs=1,
        ).fit_transform(vectors)
        scan = HDBSCAN(
            min_samples=self.samples,
            min_cluster_size=self.smallest,
            allow_single_cluster=self.one_cluster,
        )
        return np.asarray(scan.fit_predict(space), dtype=np.int64)


def funasr(vectors: Vectors) -> Labels:
    """Under 20 windows one speaker, under 2048 spectral, else UMAP and HDBSCAN; speakers with a
    cosine of 0.78 are one."""
    if len(vectors) < 20:
        return np.zeros(len(vectors), np.int64)
    method = Spectral(0.022) if len(vectors) < 2048 else UmapHdbscan(20, 10, one_cluster=True)
    return merged(vectors, method(vectors), 0.78)


def three_d_speaker(vectors: Vectors, method: Spectral | UmapHdbscan, smallest: int) -> Labels:
    """Under 10 windows one speaker; small clusters go, window by window, to the nearest other;
    speakers with a cosine of 0.8 are one."""
    if len(vectors) < 10:
        return np.zeros(len(vectors), np.int64)
    return merged(vectors, _absorbed(vectors, method(vectors), smallest), 0.8)


def three_d_speaker_spectral(vectors: Vectors) -> Labels:
    return three_d_speaker(vectors, Spectral(0.012), smallest=4)


def three_d_speaker_umap(vectors: Vectors) -> Labels:
    return three_d_speaker(vectors, UmapHdbscan(40, 20, one_cluster=False), smallest=10)


def _absorbed(vectors: Vectors, labels: Labels, smallest: int) -> Labels:
    from sklearn.metrics.pairwise import cosine_similarity

    names, sizes = np.unique(labels, return_counts=True)
    large = names[sizes >= smallest]
    small = np.isin(labels, names[sizes < smallest])
    if not len(large) or not small.any():  # where none is large, the original fails
        return labels
    centres = np.stack([vectors[labels == name].mean(axis=0) for name in large])
    result = labels.copy()
    result[small] = large[cosine_similarity(vectors[small], centres).argmax(axis=1)]
    return result


def merged(vectors: Vectors, labels: Labels, threshold: float) -> Labels:
    """The two most similar speakers become one while their cosine is at least `threshold`."""
    from sklearn.metrics.pairwise import cosine_similarity

    labels = labels.copy()
    while len(names := np.unique(labels)) > 1:
        centres = np.stack([vectors[labels == name].mean(axis=0) for name in names])
        similar = np.triu(cosine_similarity(centres), 1)
        one, other = divmod(int(np.argmax(similar)), len(names))
        if similar[one, other] < threshold:
            break
        labels[labels == names[other]] = names[one]
    return labels


def stretches(spans: NDArray[np.int32], labels: Labels, shortest: float) -> list[Stretch]:
    """A timeline of windows (int32 [N, 2], ms, by start): equal neighbours joined, the overlap
    of different ones split in its middle; stretches under `shortest` s (FunASR: 0.7,
    3D-Speaker: 0) go to the nearer neighbour."""
    rows = [(a / 1000, b / 1000, n) for (a, b), n in zip(spans.tolist(), labels, strict=True)]
    found: list[Stretch] = []
    for start, end, name in _sequence(rows):
        if found and found[-1][1] > start:
            middle = (found[-1][1] + start) / 2
            found[-1] = (found[-1][0], middle, found[-1][2])
            start = middle
        found.append((start, end, int(name)))
    for at, (start, end, _) in enumerate(found):
        if len(found) > 1 and end - start < shortest:
            before = start - found[at - 1][1] if at else np.inf
            after = found[at + 1][0] - end if at + 1 < len(found) else np.inf
            found[at] = (start, end, found[at - 1 if before <= after else at + 1][2])
    return _sequence(found)


def _sequence(rows: Sequence[Stretch]) -> list[Stretch]:
    joined: list[Stretch] = []
    for start, end, name in rows:
        if joined and joined[-1][2] == name and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], end, name)
        else:
            joined.append((start, end, name))
    return joined
