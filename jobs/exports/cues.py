"""Subtitle cues: two lines of 42 columns at most, each of one speaker, timed to be read.

A turn is cut into cues where the sum of what is bad is least (dynamic programming, as TeX breaks
a paragraph: Knuth and Plass, 1981): breaks in bad places, more columns than can be read in the
time, less than a second on the screen. Then short cues of a quick exchange come to share the
screen, a line each, and every cue stays until it has been read, as long as no other begins.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

from rich.cells import set_cell_size

from jobs.exports.breaks import SENTENCE, Measured, break_cost, breakable, width
from jobs.exports.wording import one_line
from pipeline.records import Transcript, Turn, Word
from pipeline.transcript import join_words

LINE = 42
SPEED = 17
"""Columns that are read in a second."""
SHORTEST_MS = 1000
LONGEST_MS = 7000
SILENCE_MS = 1500
"""No cue lasts over such a pause."""
LATE_MS = 500
"""A cue may come so late for the sake of the one before it."""
FLASH_MS = 200
"""Where several people begin at once, even the first is shown for so long."""
CUE = 6
"""What each cue costs: fewer are better."""
NAME = 24
"""Columns of the longest name that is shown whole."""


@dataclass(frozen=True)
class Line:
    """Consecutive words of a speaker. `named`: the name stands before them, as nobody or
    somebody else speaks in the line above. A name may leave no room for words."""

    speaker: str
    words: tuple[Word, ...]
    named: bool

    @cached_property
    def text(self) -> str:
        """The words alone."""
        return one_line(join_words(self.words)) if self.words else ""

    @cached_property
    def shown(self) -> str:
        """The words after the name, where it is to be seen."""
        return f"{shown_name(self.speaker)} {self.text}".rstrip() if self.named else self.text


@dataclass(frozen=True)
class Cue:
    """What stands on the screen at once; ms."""

    start: int
    end: int
    lines: tuple[Line, ...]

    @cached_property
    def needed(self) -> int:
        """Milliseconds to read it, at least a second."""
        columns = sum(width(line.shown) for line in self.lines)
        return max(SHORTEST_MS, -(-columns * 1000 // SPEED))


def shown_name(speaker: str) -> str:
    """A name with its colon; a very long one is cut.

    >>> shown_name("The Right Honourable Member for Ely")
    'The Right Honourable Me…:'
    """
    name = one_line(speaker)
    return f"{name if width(name) <= NAME else set_cell_size(name, NAME - 1).rstrip() + '…'}:"


def cues(transcript: Transcript) -> list[Cue]:
    """All cues by start, none overlapping another, every word of every turn in one of them."""
    turns = sorted(transcript.turns, key=lambda turn: turn.span)
    begins = [turn.span.start for turn in turns]
    spoken = [cue for turn in turns for cue in _Speech(turn, begins).cues()]
    spoken.sort(key=lambda cue: (cue.start, cue.end))
    return list(_timed(_paired(spoken)))


class _Speech:
    """The words of a turn, to be cut into cues. `begins`: when turns begin, in order (ms)."""

    def __init__(self, turn: Turn, begins: Sequence[int]) -> None:
        self._speaker = turn.speaker
        self._words = tuple(breakable(turn.words, LINE // 2))
        self._columns = Measured(self._words)
        self._name = width(shown_name(turn.speaker)) + 1
        self._starts = [word.start for word in self._words]
        self._limits = [*self._starts[1:], self._words[-1].end + LONGEST_MS]
        self._begins = begins
        self._breaks = [SENTENCE, *(break_cost(*pair) for pair in pairwise(self._words)), SENTENCE]

    def cues(self) -> Iterator[Cue]:
        """As they are spoken: from the first word's start to the last word's end."""
        for first, end in pairwise(self._cuts()):
            yield Cue(self._starts[first], self._words[end - 1].end, self._lines(first, end))

    def _cuts(self) -> list[int]:
        """The places of the cheapest breaks, both ends of the turn included."""
        count = len(self._words)
        best = [0.0, *[float("inf")] * count]
        came = [0] * (count + 1)
        for first in range(count):
            for end in self._ends(first):
                cost = best[first] + self._cost(first, end)
                if cost < best[end]:
                    best[end], came[end] = cost, first
        cuts = [count]
        while cuts[-1]:
            cuts.append(came[cuts[-1]])
        return cuts[::-1]

    def _ends(self, first: int) -> Iterator[int]:
        """Where a cue from this word on may end: after this word in any case."""
        words = self._words
        yield first + 1
        second = self._second_line(first)
        for end in range(first + 2, len(words) + 1):
            if (
                words[end - 1].start - words[end - 2].end >= SILENCE_MS
                or words[end - 1].end - words[first].start > LONGEST_MS
                or self._columns.width(second, end) > LINE
            ):
                return
            yield end

    def _second_line(self, first: int) -> int:
        """The first word that does not fit in the line that begins with the name."""
        end = first
        while end < len(self._words) and self._name + self._columns.width(first, end + 1) <= LINE:
            end += 1
        return end

    def _cost(self, first: int, end: int) -> float:
        """In columns that cannot be read in the time; a flash costs up to 20 more."""
        start, limit = self._starts[first], self._limits[end - 1]
        other = bisect_right(self._begins, start)
        if other < len(self._begins):
            limit = min(limit, self._begins[other])
        time = limit - start
        unread = self._name + self._columns.width(first, end) - SPEED * time / 1000
        return CUE + self._breaks[end] + max(0.0, unread) + max(0, SHORTEST_MS - time) / 50

    def _lines(self, first: int, end: int) -> tuple[Line, ...]:
        """One line where all fits, else two: broken in the best place, where four columns of
        difference in length weigh as much as 1 in the cost of a break."""
        last = self._second_line(first)
        if last >= end:
            return (Line(self._speaker, self._words[first:end], named=True),)

        def cost(place: int) -> float:
            upper = self._name + self._columns.width(first, place)
            return self._breaks[place] + abs(upper - self._columns.width(place, end)) / 4

        places = [
            place for place in range(first + 1, last + 1) if self._columns.width(place, end) <= LINE
        ]
        place = min(places, key=cost, default=last)
        return (
            Line(self._speaker, self._words[first:place], named=True),
            Line(self._speaker, self._words[place:end], named=False),
        )


def _paired(cues: Sequence[Cue]) -> list[Cue]:
    """One cue of two where both are one line, and one of them could not be read in its time."""
    made: list[Cue] = []
    hurried = [after.start - cue.start < cue.needed for cue, after in pairwise(cues)] + [False]
    for at, cue in enumerate(cues):
        if at and (hurried[at - 1] or hurried[at]) and _fit_together(made[-1], cue):
            made[-1] = _together(made[-1], cue)
        else:
            made.append(cue)
    return made


def _fit_together(above: Cue, below: Cue) -> bool:
    return (
        len(above.lines) == len(below.lines) == 1
        and below.start - above.end < SILENCE_MS
        and max(above.end, below.end) - above.start <= LONGEST_MS
    )


def _together(above: Cue, below: Cue) -> Cue:
    (upper,), (lower,) = above.lines, below.lines
    lower = replace(lower, named=lower.speaker != upper.speaker)
    return Cue(above.start, max(above.end, below.end), (upper, lower))


def _timed(cues: Sequence[Cue]) -> Iterator[Cue]:
    """Each until it has been said and read, yet over when the next begins. That one waits, a
    moment at most, where this one has not been on the screen for a second, or where it is
    still being said."""
    free = 0
    for at, cue in enumerate(cues):
        start = max(cue.start, free)
        end = max(cue.end, start + cue.needed)
        if at + 1 < len(cues):
            following = cues[at + 1].start
            settled = min(start + cue.needed, max(cue.end, start + SHORTEST_MS))
            latest = max(following, min(settled, following + LATE_MS), start + FLASH_MS)
            end = min(end, latest)
        free = end
        yield replace(cue, start=start, end=end)
