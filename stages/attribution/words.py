"""Words to speakers: by largest overlap, else by the nearest segment in time; very short
flips between two words of one speaker are smoothed. All vectorised: hours take seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.records import SpeakerSegment, Word

Indices = NDArray[np.int64]


class Attribution(NamedTuple):
    """`speakers` int64 [N]: the speaker of each word, as an index into `labels`;
    `distances` int64 [N]: ms to the segment that a word was given to, 0 where they overlap."""

    speakers: Indices
    distances: Indices
    labels: tuple[str, ...]


def attribute(words: Sequence[Word], segments: Sequence[SpeakerSegment]) -> Attribution:
    """The speaker of each word. Segments, at least one, may overlap each other. At equal
    overlap or distance the segment that starts first has the word."""
    labels = tuple(dict.fromkeys(segment.label for segment in segments))
    index = {label: at for at, label in enumerate(labels)}
    owner = np.array([index[segment.label] for segment in segments])
    starts = np.array([word.start for word in words], dtype=np.int64)
    # A word without length still lies somewhere.
    ends = np.maximum(starts + 1, [word.end for word in words])
    overlaps = np.zeros((len(labels), len(words)), dtype=np.int64)
    distances = np.full(len(words), np.iinfo(np.int64).max)
    closest = np.zeros(len(words), dtype=np.int64)
    for label in range(len(labels)):
        mine = np.array([segments[at][:2] for at in np.flatnonzero(owner == label).tolist()])
        overlaps[label] = _covered(mine, ends) - _covered(mine, starts)
        distance = _distance(mine, starts, ends)
        closer = distance < distances
        closest[closer] = label
        distances[closer] = distance[closer]
    heard = overlaps.max(axis=0) > 0
    speakers = np.where(heard, overlaps.argmax(axis=0), closest)
    return Attribution(speakers, np.where(heard, 0, distances), labels)


def _covered(spans: Indices, times: Indices) -> Indices:
    """Ms of one speaker's segments (int64 [S, 2], by start) before each of `times`."""
    spans = spans.copy()
    spans[1:, 0] = np.maximum(spans[1:, 0], np.maximum.accumulate(spans[:, 1])[:-1])
    spans[:, 1] = np.maximum(spans[:, 0], spans[:, 1])
    total = np.append(0, np.cumsum(spans[:, 1] - spans[:, 0]))
    at = np.searchsorted(spans[:, 0], times, side="right")
    inside = np.where(at > 0, np.minimum(times - spans[at - 1, 1], 0), 0)
    covered: Indices = total[at] + inside
    return covered


def _distance(spans: Indices, starts: Indices, ends: Indices) -> Indices:
    """Ms from each word to the nearest of one speaker's segments; 0 where they touch."""
    far = np.iinfo(np.int64).max // 4
    reach = np.append(-far, np.maximum.accumulate(spans[:, 1]))
    before = starts - reach[np.searchsorted(spans[:, 0], starts, side="right")]
    begins = np.append(spans[:, 0], far)
    after = begins[np.searchsorted(spans[:, 0], starts, side="left")] - ends
    distance: Indices = np.maximum(0, np.minimum(before, after))
    return distance


def smooth_flips(
    words: Sequence[Word], speakers: Indices, most_words: int, longest_ms: int
) -> Indices:
    """A run of at most `most_words` words and `longest_ms` inside a sentence, with one and the
    same speaker before and after it, is given to that speaker."""
    changes = np.flatnonzero(np.diff(speakers)) + 1
    bounds = [0, *changes.tolist(), len(speakers)]
    result = speakers.copy()
    for before, start, end, after in zip(bounds, bounds[1:], bounds[2:], bounds[3:], strict=False):
        short = end - start <= most_words
        if not short or words[end - 1].end - words[start].start > longest_ms:
            continue
        if result[before] == result[start - 1] == speakers[after - 1]:
            result[start:end] = result[start - 1]
    return result
