"""RTTM, STM and CTM (NIST) and SegLST (meeteval): what scoring tools read. Times in seconds.

A file has one recording, under its id. The text is as it was recognised, with case and marks:
scoring tools have their own normalisation. Words are separated by spaces in every language.
"""

from __future__ import annotations

import json

from jobs.exports.wording import distinct, one_line
from pipeline.records import Transcript, Turn


def to_rttm(transcript: Transcript) -> str:
    """One SPEAKER line a stretch of the timeline: who is heard when, words or not."""
    called = distinct((segment.label for segment in transcript.timeline), space="_")
    return "".join(
        f"SPEAKER {transcript.id} 1 {_seconds(segment.start)} "
        f"{_seconds(segment.end - segment.start)} <NA> <NA> {called[segment.label]} <NA> <NA>\n"
        for segment in transcript.timeline
    )


def to_stm(transcript: Transcript) -> str:
    """A line a turn, by start."""
    called = distinct((turn.speaker for turn in transcript.turns), space="_")
    return "".join(
        f"{transcript.id} 1 {called[turn.speaker]} "
        f"{_seconds(turn.span.start)} {_seconds(turn.span.end)} {_spaced(turn)}\n"
        for turn in sorted(transcript.turns, key=lambda turn: turn.span)
    )


def to_ctm(transcript: Transcript) -> str:
    """A line a word, with its confidence, by start. The format has no field for speakers."""
    words = sorted(
        (word for turn in transcript.turns for word in turn.words), key=lambda word: word.span
    )
    return "".join(
        f"{transcript.id} 1 {_seconds(word.start)} {_seconds(word.end - word.start)} "
        f"{one_line(word.text).replace(' ', '_')} {word.confidence:.3f}\n"
        for word in words
    )


def to_seglst(transcript: Transcript) -> str:
    """A JSON list with an object a turn; speakers are called what they are called."""
    segments = [
        {
            "session_id": transcript.id,
            "speaker": turn.speaker,
            "start_time": turn.span.start / 1000,
            "end_time": turn.span.end / 1000,
            "words": _spaced(turn),
        }
        for turn in transcript.turns
    ]
    return json.dumps(segments, ensure_ascii=False, indent=1) + "\n"


def _seconds(milliseconds: int) -> str:
    return f"{milliseconds / 1000:.3f}"


def _spaced(turn: Turn) -> str:
    return one_line(" ".join(word.text for word in turn.words))
