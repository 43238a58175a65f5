"""The page of one recording, from its record as it was made and what people put right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jobs.corrections import Corrections, apply, carry
from jobs.exports.text import clock
from jobs.ledger import Ledger
from jobs.view.assets import render
from pipeline.errors import InputError, printable
from pipeline.records import Transcript, Turn

STYLE = ("base.css", "recording.css")
SCRIPT = (
    "common.js",
    "model.js",
    "player.js",
    "timeline.js",
    "transcript.js",
    "search.js",
    "corrections.js",
    "recording.js",
)
# Words below this are marked as uncertain.
UNCERTAIN = 0.5


@dataclass(frozen=True)
class Links:
    """Where the page finds what is not in it: addresses of the audio, the first that plays is
    taken; of the index, and of where corrections are posted ("": none). `note`: what is to be
    told of them."""

    audio: tuple[str, ...]
    index: str = ""
    save: str = ""
    note: str = ""


def page_of(ledger: Ledger, transcript: Transcript, links: Links) -> str:
    """The whole HTML page of a record as it was made, with its corrections, which the page
    applies itself and lets people change."""
    try:
        corrections = ledger.corrections(transcript.id)
    except InputError as error:
        return recording_page(transcript, None, links, f"Corrections left out: {error}")
    note = ""
    if corrections is not None and corrections.key != transcript.provenance.key:
        note = apply(transcript, corrections).provenance.notes[-1]
    return recording_page(transcript, corrections, links, note)


def recording_page(
    transcript: Transcript, corrections: Corrections | None, links: Links, note: str = ""
) -> str:
    """The same from its parts; `note` stands above the transcript."""
    fitting = carry(corrections, transcript) if corrections is not None else None
    title = title_of(transcript.uri)
    return render(
        "recording.html",
        style=STYLE,
        script=SCRIPT,
        title=title,
        uri=printable(transcript.uri),
        index=links.index,
        language=transcript.language,
        length=clock(transcript.duration),
        data={
            "id": transcript.id,
            "key": transcript.provenance.key,
            "title": title,
            "duration": _duration(transcript),
            "language": transcript.language,
            "uncertain": UNCERTAIN,
            "turns": [_turn(turn) for turn in transcript.turns],
            "timeline": [list(part) for part in transcript.timeline],
            "names": dict(fitting.names) if fitting else {},
            "moves": [move.model_dump() for move in fitting.moves] if fitting else [],
            "notes": [text for text in (note, links.note) if text],
            "audio": list(links.audio),
            "save": links.save,
        },
    )


def title_of(uri: str) -> str:
    """What people call a recording: the file's name, on one line."""
    return printable(uri.rstrip("/").rsplit("/", 1)[-1] or uri)


def _duration(transcript: Transcript) -> int:
    """In ms; of a record that does not know it, up to the last that is heard."""
    ends = [part.end for part in transcript.timeline]
    ends += [turn.span.end for turn in transcript.turns]
    return max([transcript.duration, *ends, 1])


def _turn(turn: Turn) -> dict[str, Any]:
    """Words as (text, start, end, confidence), to keep hours of speech small."""
    return {
        "speaker": turn.speaker,
        "start": turn.span.start,
        "end": turn.span.end,
        "speaking": sum(sentence.span.duration for sentence in turn.sentences),
        "mood": turn.mood,
        "emotion": dict(turn.emotion),
        "words": [[word.text, word.start, word.end, word.confidence] for word in turn.words],
    }
