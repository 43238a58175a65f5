"""What a person put right: names of speakers, and turns moved to another speaker.

`OUT/corrections/<id>.json` is beside the transcript, which stays as it was made:

    {"schema": 1, "id": "board-ceb4bf9fb5ff", "key": "9f2c...",
     "names": {"S1": "Anna Lee"},
     "moves": [{"start": 1240, "speaker": "S2", "to": "S1"}],
     "heard": {"S1": [[1240, 5230], ...]}}

Labels are those of the transcript; `to` may be a label of its own, for a person whom clustering
missed. Two speakers with one name become one. `key` is the `provenance.key` of the transcript
that was corrected. With any other key the turns may be others: no turn is moved then, and a name
goes to the speaker who talks where `heard` (ms, from the corrected turns) says that its owner did.
"""

from __future__ import annotations

import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError

from pipeline.errors import InputError
from pipeline.records import Span, SpeakerSegment, Transcript, Turn
from pipeline.transcript import speakers_of

LONGEST_NAME = 100
BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def clean_name(text: str) -> str:
    """The name on one line, without what would turn the text around it about. ValueError where
    nothing is left or too much.

    >>> clean_name(" Anna\\n Lee ")
    'Anna Lee'
    """
    kept = "".join(
        c
        for c in " ".join(text.split())
        if unicodedata.category(c) not in ("Cc", "Cs") and c not in BIDI_CONTROLS
    )
    if not 0 < len(kept) <= LONGEST_NAME:
        raise ValueError(f"a name has 1 to {LONGEST_NAME} characters")
    return kept


Name = Annotated[str, AfterValidator(clean_name)]


class Move(BaseModel):
    """The turn that starts at `start` ms under the label `speaker` is `to`'s."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    start: NonNegativeInt
    speaker: str
    to: Name


class Corrections(BaseModel):
    """The correction file of one recording; the module's docstring shows it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_: Literal[1] = Field(1, alias="schema")
    id: str
    key: str
    names: Mapping[str, Name] = Field(default_factory=dict)
    moves: tuple[Move, ...] = ()
    heard: Mapping[str, tuple[tuple[NonNegativeInt, NonNegativeInt], ...]] = Field(
        default_factory=dict
    )


def parse(data: bytes, name: str) -> Corrections:
    """InputError that names the file and the key where it is not what it should be."""
    try:
        return Corrections.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "JSON"
        raise InputError(f"{name}: {key}: {first['msg']}") from None


def encode_corrections(corrections: Corrections) -> bytes:
    """The file's bytes: UTF-8 JSON, for people to read."""
    return corrections.model_dump_json(by_alias=True, indent=1).encode() + b"\n"


def carry(corrections: Corrections, transcript: Transcript) -> Corrections:
    """The corrections as they fit this transcript: themselves where they were made on it."""
    if corrections.key == transcript.provenance.key:
        return corrections
    names = _carried(corrections, transcript.turns)
    return corrections.model_copy(
        update={"key": transcript.provenance.key, "names": names, "moves": ()}
    )


def apply(transcript: Transcript, corrections: Corrections) -> Transcript:
    """The transcript with speakers renamed and turns moved; words are untouched, turns that now
    follow one another under one speaker stay apart. Talk times and the timeline follow. What was
    done, and what could not be, is a note in the provenance."""
    fitting = carry(corrections, transcript)
    names = fitting.names
    moves = {(move.start, move.speaker): move.to for move in fitting.moves}
    targets = [moves.get((turn.span.start, turn.speaker)) for turn in transcript.turns]
    labels = [
        target or turn.speaker for turn, target in zip(transcript.turns, targets, strict=True)
    ]
    turns = tuple(
        replace(turn, speaker=names.get(label, label))
        for turn, label in zip(transcript.turns, labels, strict=True)
    )
    timeline = _with_moves(transcript.timeline, transcript.turns, targets)
    exclusive = _with_moves(transcript.exclusive, transcript.turns, targets)
    heard = {*labels, *(part.label for part in timeline)}
    corrected = replace(
        transcript,
        speakers=speakers_of(turns),
        turns=turns,
        timeline=_united(_named(timeline, names)),
        exclusive=_united(_named(exclusive, names)),
    )
    moved = sum(target is not None for target in targets)
    stale = fitting is not corrections
    return with_note(corrected, _note(corrections, stale, len(names.keys() & heard), moved))


def with_note(transcript: Transcript, note: str) -> Transcript:
    """The transcript with one more note in its provenance."""
    provenance = transcript.provenance
    return replace(transcript, provenance=replace(provenance, notes=(*provenance.notes, note)))


def _note(corrections: Corrections, stale: bool, named: int, moved: int) -> str:
    note = (
        f"corrections: {named} of {len(corrections.names)} names, "
        f"{moved} of {len(corrections.moves)} moved turns"
    )
    if stale:
        note += "; made on an earlier transcript of this recording, so the others fit no more"
    return note


def _carried(corrections: Corrections, turns: Sequence[Turn]) -> dict[str, str]:
    """Names under today's labels: a speaker takes a name where more than half of what each of
    the two says is said by the other."""
    saying: dict[str, list[Span]] = {}
    for turn in turns:
        saying.setdefault(turn.speaker, []).append(turn.span)
    carried = {}
    for label, name in corrections.names.items():
        heard = [Span(*span) for span in corrections.heard.get(label, ())]
        for today, spans in saying.items():
            if _shared(heard, spans) * 2 > max(_total(heard), _total(spans)):
                carried[today] = name
    return carried


def _total(spans: Iterable[Span]) -> int:
    return sum(span.duration for span in spans)


def _shared(ones: Iterable[Span], others: Iterable[Span]) -> int:
    """Milliseconds in both; neither overlaps itself."""
    changes: Counter[int] = Counter()
    for span in (*ones, *others):
        changes[span.start] += 1
        changes[span.end] -= 1
    depth = shared = 0
    for now, following in pairwise(sorted(changes)):
        depth += changes[now]
        shared += (following - now) * (depth > 1)
    return shared


def _with_moves(
    timeline: Iterable[SpeakerSegment], turns: Sequence[Turn], targets: Sequence[str | None]
) -> list[SpeakerSegment]:
    """What is heard of a moved turn goes with it. A stretch of speech that holds more than this
    turn is cut halfway to the neighbouring turns of the same speaker."""
    moved: dict[str, list[tuple[Span, Span, str]]] = {}
    for turn, target in zip(turns, targets, strict=True):
        if target is not None:
            own = [other.span for other in turns if other.speaker == turn.speaker]
            change = (turn.span, _window(turn.span, own), target)
            moved.setdefault(turn.speaker, []).append(change)
    parts: list[SpeakerSegment] = []
    for start, end, label in timeline:
        for span, window, target in moved.get(label, ()):
            if span.overlap(Span(start, end)):
                cut, cut_end = max(start, window.start), min(end, window.end)
                parts += [SpeakerSegment(start, cut, label), SpeakerSegment(cut, cut_end, target)]
                start = cut_end
        parts.append(SpeakerSegment(start, end, label))
    return [part for part in parts if part.start < part.end]


def _window(span: Span, own: Iterable[Span]) -> Span:
    """From halfway to the speaker's turn before to halfway to the one after."""
    before = [other.end for other in own if other.start < span.start]
    after = [other.start for other in own if other.start > span.start]
    return Span(
        (max(before) + span.start) // 2 if before else 0,
        (span.end + min(after)) // 2 if after else sys.maxsize,
    )


def _named(
    timeline: Iterable[SpeakerSegment], names: Mapping[str, str]
) -> Iterator[SpeakerSegment]:
    for part in timeline:
        yield part._replace(label=names.get(part.label, part.label))


def _united(timeline: Iterable[SpeakerSegment]) -> tuple[SpeakerSegment, ...]:
    """By start; where two stretches of one speaker overlap they are one."""
    last: dict[str, int] = {}
    united: list[SpeakerSegment] = []
    for part in sorted(timeline):
        at = last.get(part.label)
        if at is not None and part.start < united[at].end:
            united[at] = united[at]._replace(end=max(united[at].end, part.end))
        else:
            last[part.label] = len(united)
            united.append(part)
    return tuple(united)
