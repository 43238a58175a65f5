"""Words with marks and cases, and the times at which they begin where these are known: AMI's
meetings, as one recogniser of the whole room would have heard them.

AMI's aligner lets a word last until the next one begins, so that a pause within a segment is part
of the word before it: `stages.punctuation.pauses` counts from beginning to beginning.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from training.ami_words import People, Token, ami_words
from training.punctuation_text import (
    CORPORA,
    NONE,
    UNLABELLED,
    Labelled,
    Part,
    add_turn,
    documents,
    label,
    part,
)

SPLIT_MS = 500  # between two stretches of one person
OVERLAP_MS = 200  # that two stretches may have without one hiding the other

HELD_OUT = ("EN2001", "EN2003", "EN2004", "EN2005", "EN2006", "EN2009", "ES2004", "TS3009")
"""Meetings (by the first letters of their names) whose people speak in no training text."""
DEVELOPMENT = ("EN2002", "TS3010")
UNUSED = ("ES2003", "TS3007", "TS3008", "TS3012")
"""Meetings of an excerpt in shared/data/meetings-ami, or of people whom QMSum's held-out part has
(EN2001 to EN2009 are the other excerpts')."""


@dataclass(frozen=True)
class Stretch:
    """What one person says without a long pause, up to the end of a sentence."""

    who: str
    tokens: tuple[Token, ...]

    @property
    def start(self) -> int:
        return self.tokens[0].start

    @property
    def end(self) -> int:
        return self.tokens[-1].end


@dataclass
class Timed:
    """Labelled words, and for each the ms until the next one begins (0: not known)."""

    text: Labelled = field(default_factory=Labelled)
    intervals: list[int] = field(default_factory=list)


def without_times(text: Labelled) -> Timed:
    """Words of which nobody knows when they were said."""
    return Timed(text, [0] * len(text.words))


def transcripts(data: Path, name: Part) -> dict[str, Timed]:
    """Every corpus of CORPORA, without times, and AMI's meetings as "AMI"."""
    untimed = {each: label(part(documents(data, each), name)) for each in CORPORA}
    timed = {"AMI": timed_meetings(data, name)}
    return {each: without_times(text) for each, text in untimed.items()} | timed


def timed_meetings(data: Path, name: Part) -> Timed:
    """All meetings of a part, one after the other."""
    every = (*HELD_OUT, *DEVELOPMENT, *UNUSED)
    timed = Timed()
    for meeting, people in ami_words(data).items():
        chosen = {
            "held-out": meeting.startswith(HELD_OUT),
            "development": meeting.startswith(DEVELOPMENT),
            "train": not meeting.startswith(every),
        }
        if chosen[name]:
            _add_meeting(timed, heard(people))
    return timed


def heard(people: People) -> list[Stretch]:
    """The stretches of all people by start; of two at once the longer one."""
    every = [stretch for who, tokens in people.items() for stretch in _stretches(who, tokens)]
    kept: list[Stretch] = []
    for stretch in sorted(every, key=lambda each: each.start):
        length = stretch.end - stretch.start
        while kept and _hides(kept[-1], stretch) and kept[-1].end - kept[-1].start < length:
            kept.pop()
        if not (kept and _hides(kept[-1], stretch)):
            kept.append(stretch)
    return kept


def _hides(before: Stretch, after: Stretch) -> bool:
    return before.end - after.start > OVERLAP_MS


def _stretches(who: str, tokens: Sequence[Token]) -> Iterator[Stretch]:
    open_tokens: list[Token] = []
    for token in tokens:
        if open_tokens and token.start - open_tokens[-1].end > SPLIT_MS:
            yield Stretch(who, tuple(open_tokens))
            open_tokens = []
        open_tokens.append(token)
        if token.text in {".", "?", "!"}:
            yield Stretch(who, tuple(open_tokens))
            open_tokens = []
    if open_tokens:
        yield Stretch(who, tuple(open_tokens))


def _add_meeting(timed: Timed, stretches: Sequence[Stretch]) -> None:
    starts: list[int] = []
    for stretch, following in zip(stretches, [*stretches[1:], None], strict=True):
        line = " ".join(token.text for token in stretch.tokens)
        times = [start for token in stretch.tokens for start in _starts(token)]
        if len(times) != len(label([[line]]).words):
            continue  # a word that only its neighbour explains: "um", "'s"
        starts += times
        add_turn(timed.text, line)
        goes_on = following is not None and following.who == stretch.who
        if times and goes_on and timed.text.marks[-1] == UNLABELLED:
            timed.text.marks[-1] = NONE  # a pause within a sentence
    timed.intervals += np.diff(starts, append=starts[-1:]).clip(0).tolist()


def _starts(token: Token) -> list[int]:
    """When each word of a token begins: "dry-read" is two."""
    count = _word_count(token.text)
    return [token.start + (token.end - token.start) * index // count for index in range(count)]


@cache
def _word_count(text: str) -> int:
    return len(label([[text]]).words)
