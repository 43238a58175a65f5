"""From turns to the transcript, and the transcript's JSON: the contract that scripts rely on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pydantic import TypeAdapter

from pipeline.records import (
    Failure,
    Provenance,
    Recording,
    Sentence,
    Speaker,
    SpeakerSegment,
    Transcript,
    Turn,
    Word,
)

SCHEMA = 1
SENTENCE_ENDS = frozenset(".?!…。？！")
CLAUSE_ENDS = frozenset(",;:—，；：、")


def hansard_version() -> str:
    """The installed version; "source" where Hansard runs from a checkout."""
    try:
        return version("hansard")
    except PackageNotFoundError:
        return "source"


def assemble(
    recording: Recording,
    language: str,
    turns: Sequence[Turn],
    timeline: Sequence[SpeakerSegment],
    provenance: Provenance,
    exclusive: Sequence[SpeakerSegment] = (),
) -> Transcript:
    """The finished record, its speakers renamed S1, S2, ... by who speaks first. `exclusive`: see
    `Transcript`."""
    names = _names(turns, [*sorted(exclusive), *sorted(timeline)])
    renamed = tuple(replace(turn, speaker=names[turn.speaker]) for turn in turns)
    return Transcript(
        id=recording.id,
        uri=recording.uri,
        fingerprint=recording.fingerprint,
        duration=recording.duration,
        language=language,
        speakers=speakers_of(renamed),
        turns=renamed,
        timeline=tuple(segment._replace(label=names[segment.label]) for segment in timeline),
        provenance=provenance,
        exclusive=tuple(segment._replace(label=names[segment.label]) for segment in exclusive),
    )


def _names(turns: Sequence[Turn], timeline: Sequence[SpeakerSegment]) -> dict[str, str]:
    """Those with words first, in the order of their first turn; then those only heard."""
    labels = [turn.speaker for turn in sorted(turns, key=lambda turn: turn.span)]
    labels += [segment.label for segment in timeline]
    return {label: f"S{i}" for i, label in enumerate(dict.fromkeys(labels), start=1)}


def speakers_of(turns: Sequence[Turn]) -> tuple[Speaker, ...]:
    """Who says these turns, for how long and how often, in the order of their first turn."""
    labels = dict.fromkeys(turn.speaker for turn in turns)
    return tuple(
        Speaker(
            label=label,
            speaking=sum(
                sentence.span.duration
                for turn in turns
                if turn.speaker == label
                for sentence in turn.sentences
            ),
            turns=sum(turn.speaker == label for turn in turns),
        )
        for label in labels
    )


def join_words(words: Iterable[Word]) -> str:
    """Written text: a space between words, none next to a Chinese or Japanese character.

    >>> join_words([Word("Good", 0, 1, 1.0), Word("morning.", 1, 2, 1.0)])
    'Good morning.'
    """
    text = ""
    for word in words:
        glue = "" if not text or (is_wide(text[-1]) and is_wide(word.text[:1])) else " "
        text += glue + word.text
    return text


def is_wide(character: str) -> bool:
    return "\u3000" <= character <= "\u9fff" or "\uff00" <= character <= "\uffef"


def to_json(transcript: Transcript) -> dict[str, Any]:
    """The transcript as DESIGN.md's schema has it; times in ms."""
    return {
        "schema": SCHEMA,
        "id": transcript.id,
        "uri": transcript.uri,
        "status": "done",
        "fingerprint": transcript.fingerprint,
        "duration": transcript.duration,
        "language": transcript.language,
        "speakers": [asdict(speaker) for speaker in transcript.speakers],
        "turns": [_turn_to_json(turn) for turn in transcript.turns],
        "timeline": [list(segment) for segment in transcript.timeline],
        "exclusive": [list(segment) for segment in transcript.exclusive],
        "provenance": asdict(transcript.provenance),
    }


def _turn_to_json(turn: Turn) -> dict[str, Any]:
    return {
        "speaker": turn.speaker,
        "start": turn.span.start,
        "end": turn.span.end,
        "text": join_words(turn.words),
        "mood": turn.mood,
        "emotion": dict(turn.emotion),
        "words": [asdict(word) for word in turn.words],
    }


def from_json(record: dict[str, Any]) -> Transcript:
    """What `to_json` gave; sentences are found again by the marks that end them."""
    return Transcript(
        id=record["id"],
        uri=record["uri"],
        fingerprint=record["fingerprint"],
        duration=record["duration"],
        language=record["language"],
        speakers=tuple(Speaker(**speaker) for speaker in record["speakers"]),
        turns=tuple(_turn_from_json(turn) for turn in record["turns"]),
        timeline=tuple(SpeakerSegment(*segment) for segment in record["timeline"]),
        provenance=_PROVENANCE.validate_python(record["provenance"]),
        exclusive=tuple(SpeakerSegment(*segment) for segment in record.get("exclusive", ())),
    )


_PROVENANCE = TypeAdapter(Provenance)


def _turn_from_json(turn: dict[str, Any]) -> Turn:
    sentences: list[Sentence] = []
    pending: list[Word] = []
    for word in turn["words"]:
        pending.append(Word(**word))
        if pending[-1].text[-1:] in SENTENCE_ENDS:
            sentences.append(Sentence(tuple(pending)))
            pending = []
    if pending:
        sentences.append(Sentence(tuple(pending)))
    return Turn(turn["speaker"], tuple(sentences), turn["emotion"], turn["mood"])


def failure_to_json(failure: Failure) -> dict[str, Any]:
    """One failed recording, beside the transcripts of the others."""
    return {"schema": SCHEMA, "status": "failed", **asdict(failure)}


def encode(record: dict[str, Any]) -> bytes:
    """JSON bytes, UTF-8, one line; lone surrogates (odd file names) stay escaped."""
    try:
        return json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(record).encode()
