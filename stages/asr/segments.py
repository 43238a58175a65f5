"""What every recogniser has in common: the voice segments of a recording are cut out of the
stream, recognised in padded batches of similar length, and their words put into the recording."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeVar

from pydantic import Field
from torch import Tensor

from pipeline.records import Span, Word
from pipeline.stage import SAMPLE_RATE, BatchedStage, Inputs
from stages.audio.cutting import Cut, bucketed, cut, pad
from stages.compute import NetworkParameters
from stages.models import WithNetwork

LEAST_CONFIDENCE = 0.0001
"""Of a word: 0 would say that it was not heard at all."""


class AsrParameters(NetworkParameters):
    """Parameters that every recogniser has, under FunASR's names."""

    speed_only: ClassVar[frozenset[str]] = NetworkParameters.speed_only | {
        "batch_size_s",
        "batch_size_threshold_s",
    }

    batch_size_s: int = Field(
        0,
        ge=0,
        description="audio recognised at once, padding included, in s; 0: 30 a thread on a CPU "
        "(the bundled recogniser 60), 300 on a GPU",
    )
    batch_size_threshold_s: int = Field(
        60, ge=1, description="a segment of at least this many s is recognised alone"
    )


class Recognises(Protocol):
    """A loaded model and its way of decoding."""

    def recognise(self, waveforms: Tensor, lengths: Tensor) -> list[list[Word]]:
        """Waveforms float32 [B, T], lengths [B] in samples, to the words of each row, in ms from
        its beginning. No row depends on the others."""
        ...


@dataclass(frozen=True)
class Heard:
    """The words of one segment, by the segment's place among all."""

    segment: int
    words: list[Word]


AsrParametersT = TypeVar("AsrParametersT", bound=AsrParameters)


class SegmentAsr(
    WithNetwork, BatchedStage[AsrParametersT, tuple[Word, ...], list[Cut], list[Heard]]
):
    """Words sorted by start, inside their segments. `load` of a subclass sets `_recogniser`."""

    package = "stages.asr"
    needs = ("audio", "vad")
    artifact_type = tuple[Word, ...]
    cpu_batch_s: ClassVar[int] = 30  # a thread

    _recogniser: Recognises | None = None

    def batches(self, inputs: Inputs) -> Iterator[list[Cut]]:
        segments: tuple[Span, ...] = inputs.artifacts["vad"]
        seconds = self.cpu_batch_s if self.device.type == "cpu" else 300
        yield from bucketed(
            cut(inputs.audio, segments),
            (self.parameters.batch_size_s or seconds) * SAMPLE_RATE,
            self.parameters.batch_size_threshold_s * SAMPLE_RATE,
        )

    def compute(self, batch: list[Cut]) -> list[Heard]:
        if self._recogniser is None:
            raise RuntimeError("the stage has no weights yet: call load() first")
        found = self._recogniser.recognise(*pad(batch))
        return [Heard(index, row) for (index, _), row in zip(batch, found, strict=True)]

    def merge(self, results: Iterable[list[Heard]], inputs: Inputs) -> tuple[Word, ...]:
        segments: tuple[Span, ...] = inputs.artifacts["vad"]
        heard = sorted((h for batch in results for h in batch), key=lambda h: h.segment)
        return tuple(word for h in heard for word in placed(h.words, segments[h.segment]))


def placed(found: Sequence[Word], segment: Span) -> Iterator[Word]:
    """Words in ms of the segment to ms of the recording: each at least 1 ms long, disjoint,
    inside the segment (all but a segment of fewer ms than words: those go on after its end).

    >>> list(placed([Word("yes", 72, 192, 0.9)], Span(1000, 1190)))
    [Word(text='yes', start=1072, end=1190, confidence=0.9)]
    """
    earliest = segment.start
    for following, word in zip(reversed(range(len(found))), found, strict=True):
        latest = max(earliest + 1, segment.end - following)
        start = min(max(earliest, segment.start + word.start), latest - 1)
        end = min(max(start + 1, segment.start + word.end), latest)
        yield Word(word.text, start, end, word.confidence)
        earliest = end
