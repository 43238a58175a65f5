"""The stage `overlap`: who speaks when, with the second speaker where two talk at once and
without the pauses. The timeline that it starts from, of one speaker at a time, stays what words
are given to speakers by.

Source: Bullock et al., Overlap-aware diarization: resegmentation using neural end-to-end
overlapped speech detection (2020).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.records import Segmentation, Span, SpeakerSegment
from pipeline.stage import Inputs, Parameters, Stage
from stages.segmentation.chunks import over_time
from stages.segmentation.second import Exclusive, local_pairs, second_speakers

STEP_MS = 20


class OverlapParameters(Parameters):
    """Parameters of the overlap stage."""

    threshold: float = Field(
        0.5, ge=0, le=1, description="two speak where an overlap is at least so likely"
    )
    shortest_ms: int = Field(100, ge=0, description="a shorter overlap is left out, in ms")
    speech_threshold: float = Field(
        0.4, ge=0, le=1, description="nobody speaks where speech is less likely than this"
    )
    pause_ms: int = Field(500, ge=0, description="a shorter pause stays speech, in ms")


class OverlappedSpeech(Stage[OverlapParameters, tuple[SpeakerSegment, ...]]):
    """Speaker segments by start; those of different speakers may overlap."""

    needs = ("clustering", "segmentation")
    version = 1
    parameters_type = OverlapParameters
    artifact_type = tuple[SpeakerSegment, ...]

    def run(self, inputs: Inputs) -> tuple[SpeakerSegment, ...]:
        segments: tuple[SpeakerSegment, ...] = tuple(sorted(inputs.artifacts["clustering"]))
        found: Segmentation = inputs.artifacts["segmentation"]
        if not segments:
            return ()
        speech, overlap = over_time(found, STEP_MS)
        exclusive = Exclusive(segments)
        options = self.parameters
        several = long_runs(overlap >= options.threshold, options.shortest_ms)
        quiet = long_runs(speech < options.speech_threshold, options.pause_ms)
        pairs = local_pairs(exclusive, found, len(overlap), STEP_MS)
        second = second_speakers(exclusive, several, pairs, STEP_MS)
        return united([*without(segments, quiet), *second])


def long_runs(flags: NDArray[np.bool_], shortest_ms: int) -> list[Span]:
    """The stretches of at least `shortest_ms` in which `flags` (one each STEP_MS) hold."""
    edges = np.flatnonzero(np.diff(flags.astype(np.int8), prepend=0, append=0)) * STEP_MS
    spans = [Span(start, end) for start, end in edges.reshape(-1, 2).tolist()]
    return [span for span in spans if span.duration >= shortest_ms]


def without(segments: Sequence[SpeakerSegment], pauses: Sequence[Span]) -> list[SpeakerSegment]:
    """`segments` less `pauses`; both by start, and disjoint."""
    left: list[SpeakerSegment] = []
    first = 0
    for start, end, label in segments:
        while first < len(pauses) and pauses[first].end <= start:
            first += 1
        at = first
        while at < len(pauses) and pauses[at].start < end:
            left.append(SpeakerSegment(start, pauses[at].start, label))
            start = pauses[at].end
            at += 1
        left.append(SpeakerSegment(start, end, label))
    return [segment for segment in left if segment.start < segment.end]


def united(segments: Sequence[SpeakerSegment]) -> tuple[SpeakerSegment, ...]:
    """By start; touching or overlapping segments of one speaker as one."""
    last: dict[str, int] = {}
    joined: list[SpeakerSegment] = []
    for segment in sorted(segments):
        at = last.get(segment.label)
        if at is not None and segment.start <= joined[at].end:
            joined[at] = joined[at]._replace(end=max(joined[at].end, segment.end))
        else:
            last[segment.label] = len(joined)
            joined.append(segment)
    return tuple(joined)
