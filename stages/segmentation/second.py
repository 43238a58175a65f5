"""Who the second speaker is where two talk at once.

The network's local speakers say so where each of the two also talks alone in that chunk: then the
timeline tells who it is. Elsewhere it is the other speaker who is nearest in time, as in Otterson
and Ostendorf, Efficient use of overlap information in speaker diarization (2007).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.records import Segmentation, Span, SpeakerSegment
from stages.segmentation.chunks import placed

Indices = NDArray[np.int64]

_ALONE_MS = 300  # of a local speaker, at least, for the timeline to tell who it is
_UNKNOWN = -1


class Exclusive:
    """A timeline of one speaker at a time: disjoint segments, by start."""

    def __init__(self, segments: Sequence[SpeakerSegment]) -> None:
        self.segments = segments
        self.labels = list(dict.fromkeys(segment.label for segment in segments))
        index = {label: at for at, label in enumerate(self.labels)}
        self._starts = [segment.start for segment in segments]
        self._ends = np.array([segment.end for segment in segments], dtype=np.int64)
        self._owners = np.array([index[segment.label] for segment in segments], dtype=np.int64)
        self._before = _last_other(self._owners)
        self._after = len(segments) - 1 - _last_other(self._owners[::-1])[::-1]

    def speakers_at(self, times: NDArray[np.float64]) -> Indices:
        """Who is heard at each of `times` (ms), as an index into `labels`; -1 for nobody."""
        at = np.searchsorted(self._starts, times, side="right") - 1
        inside = (at >= 0) & (times < self._ends[at.clip(0)])
        return np.where(inside, self._owners[at.clip(0)], _UNKNOWN)

    def within(self, span: Span) -> Iterator[tuple[int, Span]]:
        """The parts of `span` in which somebody is heard, each with the segment's number."""
        at = max(0, bisect_right(self._starts, span.start) - 1)
        while at < len(self.segments) and self.segments[at].start < span.end:
            segment = self.segments[at]
            part = Span(max(span.start, segment.start), min(span.end, segment.end))
            if part.start < part.end:
                yield at, part
            at += 1

    def nearest_other(self, at: int, part: Span) -> int | None:
        """The speaker, another than segment `at`'s, who is heard nearest to `part` of it; None
        where there is no other."""
        before, after = int(self._before[at]), int(self._after[at])
        near = []
        if before >= 0:
            near.append((part.start - self.segments[before].end, before))
        if after < len(self.segments):
            near.append((self.segments[after].start - part.end, after))
        return int(self._owners[min(near)[1]]) if near else None


def _last_other(owners: Indices) -> Indices:
    """For each segment the last one before it of another speaker; -1 where there is none."""
    starts = np.flatnonzero(np.diff(owners, prepend=_UNKNOWN))
    begun = np.searchsorted(starts, np.arange(len(owners)), side="right") - 1
    found: Indices = starts[begun] - 1 if len(owners) else owners
    return found


def second_speakers(
    exclusive: Exclusive, overlapped: Sequence[Span], pairs: Indices, step_ms: int
) -> list[SpeakerSegment]:
    """Who else is heard in each of `overlapped`. `pairs` as of `local_pairs`."""
    found = []
    for span in overlapped:
        for at, part in exclusive.within(span):
            first = exclusive.labels.index(exclusive.segments[at].label)
            voted = pairs[part.start // step_ms : -(-part.end // step_ms)].ravel()
            votes = Counter(who for who in voted.tolist() if who not in (first, _UNKNOWN))
            who = max(votes, key=lambda one: (votes[one], -one)) if votes else None
            if who is None:
                who = exclusive.nearest_other(at, part)
            if who is not None:
                found.append(SpeakerSegment(*part, exclusive.labels[who]))
    return found


def local_pairs(exclusive: Exclusive, found: Segmentation, count: int, step_ms: int) -> Indices:
    """The two likeliest speakers of each of `count` steps, as the chunk says whose middle is
    nearest: indices into `exclusive.labels`, -1 where the timeline does not tell; int64
    [count, 2]."""
    pairs = np.full((count, 2), _UNKNOWN)
    central = np.zeros(count, np.float32)
    for start, active in zip(found.starts.tolist(), found.active, strict=True):
        names = _names(exclusive, start + found.centres.astype(np.float64), active)
        likeliest = names[np.argsort(-active.astype(np.int16), axis=1, kind="stable")[:, :2]]
        steps, frames, weight = placed(found.centres, start, step_ms)
        closer = weight > central[steps]
        pairs[steps[closer]] = likeliest[frames[closer]]
        central[steps[closer]] = weight[closer]
    return pairs


def _names(exclusive: Exclusive, times: NDArray[np.float64], active: NDArray[np.uint8]) -> Indices:
    """Who each local speaker of a chunk is, [S]: whoever the timeline has where the local speaker
    talks alone, everybody once at most."""
    from scipy.optimize import linear_sum_assignment

    heard = active > 127
    alone = heard & (heard.sum(axis=1, keepdims=True) == 1)
    owners = exclusive.speakers_at(times)
    shared = np.stack(
        [(alone & (owners == who)[:, None]).sum(axis=0) for who in range(len(exclusive.labels))],
        axis=1,
    )
    rows, columns = linear_sum_assignment(-shared)
    frame_ms = (times[-1] - times[0]) / max(1, len(times) - 1)
    names = np.full(active.shape[1], _UNKNOWN)
    enough = shared[rows, columns] * frame_ms >= _ALONE_MS
    names[rows[enough]] = columns[enough]
    return names
