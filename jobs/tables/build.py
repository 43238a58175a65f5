"""One finished transcript as rows of the four tables; see `jobs.tables.schema` for the columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pyarrow as pa

from jobs.tables.dates import recorded_at
from jobs.tables.schema import ARROW, EMOTIONS, TABLES
from pipeline.records import Span, SpeakerSegment, Transcript, Turn, Word
from pipeline.transcript import SENTENCE_ENDS, join_words

# Ms by which a turn starts before another one's end, or after its broken-off sentence, and still
# interrupts it. Chosen, not measured: word times are no more exact than some 100 ms.
TOGETHER_MS = 250
BROKEN_OFF_MS = 200

ArrowTables = Mapping[str, pa.Table]
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Said:
    """A turn with what is asked of it again and again."""

    turn: Turn
    span: Span
    words: tuple[Word, ...]
    speaking: int
    confidence: float  # summed over the words
    interrupts: str | None


def arrow_tables(transcript: Transcript, source: str = "") -> ArrowTables:
    """The four tables of one recording; `source` is the version of the files it was read from."""
    said = [
        _said(turn, whom)
        for turn, whom in zip(transcript.turns, interruptions(transcript.turns), strict=True)
    ]
    rows = {
        "recordings": [_recording(transcript, said, source)],
        "speakers": _speakers(transcript, said),
        "turns": [_turn(number, each) for number, each in enumerate(said)],
    }
    columns = {name: _columns(name, transcript.id, made) for name, made in rows.items()}
    columns["words"] = _words(transcript.id, said)
    return {name: pa.table(columns[name], schema=ARROW[name]) for name in TABLES}


def _said(turn: Turn, interrupts: str | None) -> _Said:
    words = turn.words
    return _Said(
        turn=turn,
        span=turn.span,
        words=words,
        speaking=sum(sentence.span.duration for sentence in turn.sentences),
        confidence=sum(word.confidence for word in words),
        interrupts=interrupts,
    )


def interruptions(turns: Sequence[Turn]) -> list[str | None]:
    """For each turn (by start), the speaker whom it interrupts; docs/tables.md defines it."""
    marked = any(_closed(turn) for turn in turns)
    found: list[str | None] = []
    floor: Turn | None = None
    end = 0
    for turn in turns:
        span = turn.span
        interrupted = None
        if floor is None or span.end > end:
            if floor is not None and turn.speaker != floor.speaker:
                together = end - span.start
                broken_off = marked and not _closed(floor) and together >= -BROKEN_OFF_MS
                interrupted = floor.speaker if together >= TOGETHER_MS or broken_off else None
            floor, end = turn, span.end
        found.append(interrupted)
    return found


def _closed(turn: Turn) -> bool:
    return turn.sentences[-1].words[-1].text[-1:] in SENTENCE_ENDS


def _recording(transcript: Transcript, said: Sequence[_Said], source: str) -> Row:
    speech, overlap = _heard(transcript.timeline)
    return {
        "uri": transcript.uri,
        "recorded_at": recorded_at(transcript.uri),
        "language": transcript.language,
        "duration_ms": transcript.duration,
        "speech_ms": speech,
        "overlap_ms": overlap,
        **_speech(said),
        "speakers": len(transcript.speakers),
        "turns": len(said),
        "interruptions": sum(each.interrupts is not None for each in said),
        **_moods(said),
        "profile": transcript.provenance.profile,
        "version": transcript.provenance.version,
        "source": source,
    }


def _speakers(transcript: Transcript, said: Sequence[_Said]) -> list[Row]:
    everyone = sum(each.speaking for each in said)
    rows = []
    for speaker in transcript.speakers:
        own = [each for each in said if each.turn.speaker == speaker.label]
        speech = _speech(own)
        rows.append(
            {
                "speaker": speaker.label,
                "share": speech["speaking_ms"] / everyone if everyone else 0.0,
                **speech,
                "turns": len(own),
                "interruptions_made": sum(each.interrupts is not None for each in own),
                "interruptions_suffered": sum(each.interrupts == speaker.label for each in said),
                **_moods(own),
            }
        )
    return rows


def _turn(number: int, said: _Said) -> Row:
    turn = said.turn
    emotion = {name: turn.emotion.get(name) for name in EMOTIONS}
    unnamed = [p for name, p in turn.emotion.items() if _class(name) == "other"]
    emotion["other"] = sum(unnamed) if unnamed else None
    return {
        "turn": number,
        "speaker": turn.speaker,
        "start_ms": said.span.start,
        "end_ms": said.span.end,
        "text": join_words(said.words),
        **_speech([said]),
        "interrupts": said.interrupts,
        "mood": turn.mood or None,
        **{f"emotion_{name}": p for name, p in emotion.items()},
    }


def _words(recording: str, said: Sequence[_Said]) -> Mapping[str, list[Any]]:
    """Columns straight away: there are many more words than other rows."""
    words = [word for each in said for word in each.words]
    return {
        "recording": [recording] * len(words),
        "turn": [number for number, each in enumerate(said) for _ in each.words],
        "speaker": [each.turn.speaker for each in said for _ in each.words],
        "position": list(range(len(words))),
        "text": [word.text for word in words],
        "start_ms": [word.start for word in words],
        "end_ms": [word.end for word in words],
        "confidence": [word.confidence for word in words],
    }


def _columns(table: str, recording: str, rows: Sequence[Row]) -> Mapping[str, list[Any]]:
    names = [column.name for column in TABLES[table][1:]]
    return {
        "recording": [recording] * len(rows),
        **{name: [row[name] for row in rows] for name in names},
    }


def _speech(said: Sequence[_Said]) -> Row:
    words = sum(len(each.words) for each in said)
    speaking = sum(each.speaking for each in said)
    return {
        "speaking_ms": speaking,
        "words": words,
        "words_per_minute": words * 60_000 / speaking if speaking else None,
        "confidence": sum(each.confidence for each in said) / words if words else None,
    }


def _moods(said: Sequence[_Said]) -> dict[str, float | None]:
    times = dict.fromkeys(EMOTIONS, 0)
    for each in said:
        if each.turn.mood:
            times[_class(each.turn.mood)] += each.speaking
    total = sum(times.values())
    return {f"mood_{name}": time / total if total else None for name, time in times.items()}


def _class(name: str) -> str:
    return name if name in EMOTIONS else "other"


def _heard(timeline: Iterable[SpeakerSegment]) -> tuple[int, int]:
    """Ms in which at least one speaker is heard, and at least two."""
    edges = sorted(
        edge for start, end, _ in timeline for edge in ((start, 1), (end, -1)) if end > start
    )
    depth = speech = overlap = 0
    for (now, step), (following, _) in pairwise(edges):
        depth += step
        speech += (following - now) * (depth >= 1)
        overlap += (following - now) * (depth >= 2)
    return speech, overlap
