"""Words to speakers: by largest overlap, else by the nearest segment in time; then changes of
speaker are moved to the ends of sentences nearby, and very short flips inside one smoothed.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
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


def snap_changes(
    words: Sequence[Word], speakers: Indices, last_words: Indices, within_ms: int
) -> Indices:
    """Moves each change of speaker to the nearest end of a sentence at most `within_ms` away:
    people seldom take over inside a sentence, and embeddings place a change only roughly.

    `last_words` int64 [S]: the index of each sentence's last word, ascending. A speaker keeps at
    least one word between two changes.
    """
    result = speakers.copy()
    starts = np.array([word.start for word in words], dtype=np.int64)
    ends = np.array([word.end for word in words], dtype=np.int64)
    between = (ends[:-1] + starts[1:]) / 2  # the boundary after each word but the last
    places = last_words[last_words < len(between)]
    changes = np.flatnonzero(np.diff(speakers))
    earliest = 0
    limits = [*changes[1:].tolist(), len(between)]
    for at, limit in zip(changes.tolist(), limits, strict=False):
        low, high = np.searchsorted(places, (earliest, limit))
        offsets = np.abs(between[places[low:high]] - between[at])
        if len(offsets) and offsets.min() <= within_ms:
            place = int(places[low + int(np.argmin(offsets))])
            result[place + 1 : at + 1] = speakers[at + 1]
            result[at + 1 : place + 1] = speakers[at]
            earliest = place + 1
        else:
            earliest = at + 1
    return result


def smooth_flips(
    words: Sequence[Word], speakers: Indices, most_words: int, longest_ms: int
) -> Indices:
    """A run of at most `most_words` words and `longest_ms` inside a sentence, with one and the
    same speaker before and after it, is given to that speaker."""
    changes = (np.flatnonzero(np.diff(speakers)) + 1).tolist()
    result = speakers.copy()
    for start, end in pairwise(changes):
        short = words[end - 1].end - words[start].start <= longest_ms
        if short and end - start <= most_words and result[start - 1] == speakers[end]:
            result[start:end] = speakers[end]
    return result
