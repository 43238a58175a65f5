"""TextGrid (Praat's long text format): for each speaker a tier of turns and a tier of words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

from jobs.exports.wording import distinct, one_line, text_of
from pipeline.records import Transcript


class _Interval(NamedTuple):
    start: int
    end: int
    text: str = ""


def to_textgrid(transcript: Transcript) -> str:
    """Seconds. A recording without speech has one tier with nothing in it, since Praat opens no
    TextGrid without tiers."""
    tiers = dict(_tiers(transcript)) or {"no speech": []}
    ends = [tier[-1].end for tier in tiers.values() if tier]
    end = max(transcript.duration, *ends, 1)
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0",
        f"xmax = {end / 1000}",
        "tiers? <exists>",
        f"size = {len(tiers)}",
        "item []:",
    ]
    for number, (name, intervals) in enumerate(tiers.items(), start=1):
        lines += _tier_lines(number, name, list(_contiguous(intervals, end)), end)
    return "\n".join(lines) + "\n"


def _tiers(transcript: Transcript) -> Iterator[tuple[str, list[_Interval]]]:
    for speaker, called in distinct(turn.speaker for turn in transcript.turns).items():
        turns = [turn for turn in transcript.turns if turn.speaker == speaker]
        words = chain.from_iterable(turn.words for turn in turns)
        yield called, _apart(_Interval(*turn.span, text_of(turn)) for turn in turns)
        yield f"{called} words", _apart(_Interval(*word.span, word.text) for word in words)


def _apart(intervals: Iterable[_Interval]) -> list[_Interval]:
    """In order, each at least 1 ms long and none before the end of the one before it: a tier
    holds neither overlaps nor points."""
    placed: list[_Interval] = []
    for interval in sorted(intervals):
        start = max(interval.start, placed[-1].end if placed else 0)
        placed.append(_Interval(start, max(interval.end, start + 1), interval.text))
    return placed


def _contiguous(intervals: Iterable[_Interval], end: int) -> Iterator[_Interval]:
    """With silence, as empty text, wherever there is nothing."""
    at = 0
    for interval in intervals:
        if at < interval.start:
            yield _Interval(at, interval.start)
        yield interval
        at = interval.end
    if at < end:
        yield _Interval(at, end)


def _tier_lines(number: int, name: str, intervals: list[_Interval], end: int) -> list[str]:
    lines = [
        f"    item [{number}]:",
        '        class = "IntervalTier"',
        f"        name = {_quoted(name)}",
        "        xmin = 0",
        f"        xmax = {end / 1000}",
        f"        intervals: size = {len(intervals)}",
    ]
    for index, interval in enumerate(intervals, start=1):
        lines += [
            f"        intervals [{index}]:",
            f"            xmin = {interval.start / 1000}",
            f"            xmax = {interval.end / 1000}",
            f"            text = {_quoted(interval.text)}",
        ]
    return lines


def _quoted(text: str) -> str:
    doubled = one_line(text).replace('"', '""') if text else ""
    return f'"{doubled}"'
