"""Segments of bearable length: long ones are cut where speech is least likely.

The published model cuts at its time limit, wherever that falls; here a cut looks for the longest
and deepest pause of its neighbourhood.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.records import Span
from stages.vad.endpoint import FRAME_MS

_PAUSE_MS = 250  # a stop closure inside a word lasts some 100 ms: a dip must be wider than that
_DECIBEL_RANGE = 30.0  # from a segment's loud frames down to what counts as wholly quiet


def split_long(
    spans: Sequence[Span],
    silence: NDArray[np.float32],
    decibel: NDArray[np.float32],
    longest_ms: int,
) -> tuple[Span, ...]:
    """`spans` with every one longer than `longest_ms` cut into adjoining pieces that are not.
    Each cut lies in the second half of what a piece may last."""
    pieces: list[Span] = []
    for span in spans:
        start = span.start
        if span.duration > longest_ms:
            for cut in _cuts(span, silence, decibel, longest_ms):
                pieces.append(Span(start, cut))
                start = cut
        pieces.append(Span(start, span.end))
    return tuple(pieces)


def _cuts(
    span: Span, silence: NDArray[np.float32], decibel: NDArray[np.float32], longest_ms: int
) -> Iterator[int]:
    frames = slice(span.start // FRAME_MS, -(-span.end // FRAME_MS))
    activity = _activity(silence[frames], decibel[frames])
    longest, at = longest_ms // FRAME_MS, 0
    while len(activity) - at > longest:
        earliest = at + longest // 2
        at = earliest + int(activity[earliest : at + longest + 1].argmin())
        yield span.start + at * FRAME_MS


def _activity(silence: NDArray[np.float32], decibel: NDArray[np.float32]) -> NDArray[np.float64]:
    """How much like speech the neighbourhood of each frame is, [n]: the posterior of speech,
    and the energy between the quietest and the loudest of the segment, smoothed over a pause."""
    loud = np.percentile(decibel, 90)
    energy = np.clip(1 + (decibel - loud) / _DECIBEL_RANGE, 0.0, 1.0)
    width = _PAUSE_MS // FRAME_MS
    kernel = np.hanning(width + 2)[1:-1]
    padded = np.pad(1.0 - silence + energy, (width // 2, width - 1 - width // 2), mode="edge")
    smooth: NDArray[np.float64] = np.convolve(padded, kernel / kernel.sum(), mode="valid")
    return smooth
