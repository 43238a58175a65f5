"""What flows through the graph: frozen records, times in integer milliseconds from the
start of the recording. Nothing downstream re-aligns strings: a word is born with its time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Span(NamedTuple):
    """A stretch of the recording, [start, end) in ms."""

    start: int
    end: int

    @property
    def duration(self) -> int:
        return self.end - self.start

    def overlap(self, other: Span) -> int:
        """Milliseconds shared with `other`; 0 where they do not touch.

        >>> Span(0, 1000).overlap(Span(400, 2000))
        600
        """
        return max(0, min(self.end, other.end) - max(self.start, other.start))


@dataclass(frozen=True, slots=True)
class Recording:
    """One input. `id` is a readable slug plus a hash of the whole uri; `fingerprint`
    changes with the content; `duration` in ms as the container states it (0: unknown)."""

    id: str
    uri: str
    fingerprint: str
    duration: int
    channels: int
    sample_rate: int


@dataclass(frozen=True, slots=True)
class AudioFacts:
    """What one whole pass over a recording's audio showed: its true duration in ms, and notes
    on what was wrong with the file."""

    duration: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Word:
    """`text` as it is written: its case and the punctuation mark that follows it belong to it
    from the punctuation stage on, so marks can never drift from times. `confidence` in [0, 1]."""

    text: str
    start: int
    end: int
    confidence: float

    @property
    def span(self) -> Span:
        return Span(self.start, self.end)


@dataclass(frozen=True, slots=True)
class Sentence:
    """Consecutive words up to a full stop, question mark or long pause."""

    words: tuple[Word, ...]

    @property
    def span(self) -> Span:
        return Span(self.words[0].start, self.words[-1].end)


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Speaker embeddings of windows: `spans` int32 [N, 2] (start, end in ms),
    `vectors` float32 [N, D], each of length 1."""

    spans: NDArray[np.int32]
    vectors: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Segmentation:
    """Who of a few local speakers is heard, in chunks that overlap: `starts` int32 [N] in ms;
    `centres` float32 [F], the middles of a chunk's frames in ms from its start; `active` uint8
    [N, F, S] and `overlap` uint8 [N, F]: the probability that a local speaker, or that two at
    once, are heard, times 255. Local speakers are told apart within a chunk only."""

    starts: NDArray[np.int32]
    centres: NDArray[np.float32]
    active: NDArray[np.uint8]
    overlap: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Turn:
    """A speaker's consecutive sentences. `emotion` maps each class to its probability;
    `mood` is the class to show (neutral below the confidence limit of the stage)."""

    speaker: str
    sentences: tuple[Sentence, ...]
    emotion: Mapping[str, float] = field(default_factory=dict)
    mood: str = ""

    @property
    def words(self) -> tuple[Word, ...]:
        return tuple(word for sentence in self.sentences for word in sentence.words)

    @property
    def span(self) -> Span:
        return Span(self.sentences[0].span.start, self.sentences[-1].span.end)


class SpeakerSegment(NamedTuple):
    """A stretch in which one speaker is heard; ms."""

    start: int
    end: int
    label: str


@dataclass(frozen=True, slots=True)
class StageRun:
    """How an artifact came to be. `seconds` of work; `notes`: fallbacks taken, limits reached."""

    stage: str
    model: str
    weights: str
    parameters: Mapping[str, Any]
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Speaker:
    """`speaking` in ms, over the turns; `turns` their number."""

    label: str
    speaking: int
    turns: int


@dataclass(frozen=True, slots=True)
class Provenance:
    """`key` is that of the artifact with the turns: equal key, equal transcript."""

    profile: str
    version: str
    key: str
    stages: tuple[StageRun, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Transcript:
    """A finished recording. `timeline` holds every stretch of speech with its speaker, words
    recognised in it or not; speakers are S1, S2, ... in the order in which they first speak.

    Where the profile finds overlapped speech, stretches of `timeline` overlap, and `exclusive` is
    the timeline of one speaker at a time by which words were given to speakers. Elsewhere
    `timeline` is that, and `exclusive` is empty."""

    id: str
    uri: str
    fingerprint: str
    duration: int
    language: str
    speakers: tuple[Speaker, ...]
    turns: tuple[Turn, ...]
    timeline: tuple[SpeakerSegment, ...]
    provenance: Provenance
    exclusive: tuple[SpeakerSegment, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """A recording that could not be finished: the stage, the reason in one line, which attempt.
    `traceback` is empty for a reason of the user's making; `worker` is host:process, `time`
    when it failed (ISO 8601, UTC)."""

    id: str
    uri: str
    stage: str
    error: str
    attempt: int
    traceback: str = ""
    worker: str = ""
    time: str = ""
