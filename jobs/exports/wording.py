"""Names and words as a format's fields can hold them. Speakers may be called anything."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, count

from pipeline.records import Turn
from pipeline.transcript import join_words


def one_line(text: str) -> str:
    """Without line breaks and control characters, white space as single spaces; "?" for nothing.

    >>> one_line(" Ann\\n  Lee\\x00 ")
    'Ann Lee'
    """
    spaced = " ".join(text.split())
    return "".join(c for c in spaced if c.isprintable()) or "?"


def text_of(turn: Turn) -> str:
    """What is said in a turn, on one line."""
    return one_line(join_words(turn.words))


def distinct(names: Iterable[str], space: str = " ") -> dict[str, str]:
    """Each name on one line, with `space` for its spaces (formats that separate fields by them
    want another mark). Names that would become equal are told apart by a number.

    >>> distinct(["Ann Lee", "Ann_Lee", "S3"], space="_")
    {'Ann Lee': 'Ann_Lee', 'Ann_Lee': 'Ann_Lee_2', 'S3': 'S3'}
    """
    written: dict[str, str] = {}
    for name in dict.fromkeys(names):
        plain = one_line(name).replace(" ", space)
        choices = chain([plain], (f"{plain}{space}{number}" for number in count(2)))
        written[name] = next(choice for choice in choices if choice not in written.values())
    return written
