"""TXT: a line a turn, its time and speaker first."""

from __future__ import annotations

from pipeline.records import Transcript
from pipeline.transcript import join_words


def clock(milliseconds: int) -> str:
    """Hours (where there are any), minutes, seconds.

    >>> clock(65_000), clock(3_605_120)
    ('1:05', '1:00:05')
    """
    minutes, seconds = divmod(milliseconds // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def to_txt(transcript: Transcript) -> str:
    """`[1:05] S2: Good morning.`, a line a turn."""
    return "".join(
        f"[{clock(turn.span.start)}] {turn.speaker}: {join_words(turn.words)}\n"
        for turn in transcript.turns
    )
