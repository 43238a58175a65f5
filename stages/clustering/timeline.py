"""From the similarity of windows to speakers to a timeline of who speaks when.

Between the centres of neighbouring windows the similarity to each speaker is interpolated
linearly: each moment is judged by the windows that cover it, the nearer centre counting more.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.records import Span, SpeakerSegment

if TYPE_CHECKING:
    from pyannote.core import Annotation

Scores = NDArray[np.float32]


def to_annotation(segments: Sequence[SpeakerSegment], uri: str) -> Annotation:
    """The timeline in the field's own type; seconds."""
    from pyannote.core import Annotation, Segment  # which imports matplotlib

    annotation = Annotation(uri=uri)
    for track, segment in enumerate(segments):
        annotation[Segment(segment.start / 1000, segment.end / 1000), track] = segment.label
    return annotation


def timeline(
    speech: Sequence[Span],
    spans: NDArray[np.int32],
    scores: Scores,
    step_ms: int,
    shortest_ms: int,
) -> tuple[SpeakerSegment, ...]:
    """Every moment of `speech` (sorted, disjoint) under one speaker, S1 being the first to speak.

    `spans` int32 [N, 2], N > 0: the windows, by start; `scores` float32 [N, K]: their similarity
    to each speaker. Stretches under `shortest_ms` go to a neighbour inside the same segment.
    """
    centres = spans.mean(axis=1)
    order = np.argsort(centres, kind="stable")
    centres, scores = centres[order], scores[order]
    found: list[tuple[int, int, int]] = []
    for segment in speech:
        first, last = np.searchsorted(centres, (segment.start, segment.end))
        if first == last:  # no window here: the nearest one in time speaks for it
            middle = (segment.start + segment.end) / 2
            near = [at for at in (first - 1, first) if 0 <= at < len(centres)]
            first = min(near, key=lambda at: abs(centres[at] - middle))
            last = first + 1
        found += _runs(segment, centres[first:last], scores[first:last], step_ms, shortest_ms)
    return _named(found)


def _runs(
    segment: Span, centres: NDArray[np.float64], scores: Scores, step_ms: int, shortest_ms: int
) -> list[tuple[int, int, int]]:
    """(start, end, speaker) over one segment of speech, without gaps."""
    edges = np.append(np.arange(segment.start, segment.end, step_ms), segment.end)
    moments = (edges[:-1] + edges[1:]) / 2
    speakers = range(scores.shape[1])
    grid = np.stack([np.interp(moments, centres, scores[:, k]) for k in speakers], axis=1)
    labels = np.argmax(grid, axis=1)
    changes = np.flatnonzero(np.diff(labels)) + 1
    bounds = [0, *changes.tolist(), len(labels)]
    runs = [
        (int(edges[start]), int(edges[end]), int(labels[start])) for start, end in pairwise(bounds)
    ]
    return _smoothed(runs, shortest_ms)


def _smoothed(runs: list[tuple[int, int, int]], shortest_ms: int) -> list[tuple[int, int, int]]:
    """The shortest run under `shortest_ms` is shared by its neighbours, until there is none."""
    while len(runs) > 1:
        at = min(range(len(runs)), key=lambda i: runs[i][1] - runs[i][0])
        start, end, _ = runs[at]
        if end - start >= shortest_ms:
            break
        before, after = runs[at - 1] if at else None, runs[at + 1] if at + 1 < len(runs) else None
        middle = end if after is None else start if before is None else (start + end) // 2
        patched = runs[: max(0, at - 1)]
        if before is not None:
            patched.append((before[0], middle, before[2]))
        if after is not None:
            patched.append((middle, after[1], after[2]))
        runs = _joined(patched + runs[at + 2 :])
    return runs


def _joined(runs: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Touching runs of one speaker as one."""
    joined: list[tuple[int, int, int]] = []
    for start, end, speaker in runs:
        if joined and joined[-1][1:] == (start, speaker):
            joined[-1] = (joined[-1][0], end, speaker)
        else:
            joined.append((start, end, speaker))
    return joined


def _named(runs: list[tuple[int, int, int]]) -> tuple[SpeakerSegment, ...]:
    """Speakers numbered S1, S2, ... in the order in which they first speak."""
    names: dict[int, str] = {}
    return tuple(
        SpeakerSegment(start, end, names.setdefault(speaker, f"S{len(names) + 1}"))
        for start, end, speaker in _joined(runs)
    )
