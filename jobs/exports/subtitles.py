"""SRT subtitles: two lines of 42 characters at most, broken at sentence and clause ends,
speaker in each cue, never overlapping."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.records import Transcript, Turn, Word
from pipeline.transcript import SENTENCE_ENDS, join_words

LINE = 42
LINES = 2
SHORTEST_MS = 1000
LONGEST_MS = 7000
CLAUSE_ENDS = SENTENCE_ENDS | frozenset(",;:，；：、")


@dataclass(frozen=True)
class Cue:
    """What stands on the screen at once; ms."""

    start: int
    end: int
    speaker: str
    text: str


def to_srt(transcript: Transcript) -> str:
    """SubRip text; times as 00:00:01,240."""
    return "\n".join(
        f"{number}\n{_stamp(cue.start)} --> {_stamp(cue.end)}\n{_wrapped(cue)}\n"
        for number, cue in enumerate(cues(transcript), start=1)
    )


def cues(transcript: Transcript) -> list[Cue]:
    """All cues in order. A cue lasts a second where the next one leaves room for it."""
    raw = [cue for turn in transcript.turns for cue in _turn_cues(turn)]
    raw.sort(key=lambda cue: (cue.start, cue.end))
    timed: list[Cue] = []
    for i, cue in enumerate(raw):
        start = max(cue.start, timed[-1].end if timed else 0)
        latest = raw[i + 1].start if i + 1 < len(raw) else start + SHORTEST_MS
        wanted = max(cue.end, start + SHORTEST_MS)
        # Where two people speak at once, the earlier cue gives way, but is never lost.
        end = max(min(wanted, max(latest, start)), start + 1)
        timed.append(Cue(start, end, cue.speaker, cue.text))
    return timed


def _turn_cues(turn: Turn) -> Iterator[Cue]:
    for sentence in turn.sentences:
        for words in _pieces(sentence.words, len(turn.speaker) + 2):
            yield Cue(words[0].start, words[-1].end, turn.speaker, join_words(words))


def _pieces(words: Sequence[Word], label: int) -> Iterator[Sequence[Word]]:
    """Splits a sentence where it is too long to stand on the screen at once: at the last
    clause end of what fits, else where it no longer fits."""
    while words:
        fitting = _fitting(words, label)
        cut = fitting
        if fitting < len(words):
            clauses = [i for i in range(1, fitting + 1) if words[i - 1].text[-1:] in CLAUSE_ENDS]
            if clauses and clauses[-1] * 3 >= fitting:
                cut = clauses[-1]
        yield words[:cut]
        words = words[cut:]


def _fitting(words: Sequence[Word], label: int) -> int:
    for count in range(2, len(words) + 1):
        too_long = words[count - 1].end - words[0].start > LONGEST_MS
        text = "x" * label + join_words(words[:count])
        if too_long or len(textwrap.wrap(text, LINE, break_long_words=False)) > LINES:
            return count - 1
    return len(words)


def _wrapped(cue: Cue) -> str:
    return "\n".join(textwrap.wrap(f"{cue.speaker}: {cue.text}", LINE, break_long_words=False))


def _stamp(milliseconds: int) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02},{rest:03}"
