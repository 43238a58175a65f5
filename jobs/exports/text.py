"""TXT and Markdown minutes: a paragraph a turn, its time and speaker first."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from jobs.exports.wording import one_line, text_of
from pipeline.errors import printable
from pipeline.records import Transcript, Turn


def clock(milliseconds: int) -> str:
    """Hours (where there are any), minutes, seconds.

    >>> clock(65_000), clock(3_605_120)
    ('1:05', '1:00:05')
    """
    minutes, seconds = divmod(milliseconds // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def stamp(milliseconds: int) -> str:
    """Hours, minutes, seconds, always all of them: columns stay aligned and sort as text.

    >>> stamp(65_999)
    '00:01:05'
    """
    minutes, seconds = divmod(milliseconds // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}"


def to_txt(transcript: Transcript) -> str:
    """`[1:05] S2: Good morning.`, a line a turn."""
    return "".join(
        f"[{clock(turn.span.start)}] {one_line(turn.speaker)}: {text_of(turn)}\n"
        for turn in transcript.turns
    )


def to_markdown(transcript: Transcript) -> str:
    """Title, facts, a table of speakers with their share of the talk, then all turns; the mood
    is said where it is not neutral. CommonMark, the table as GitHub has it."""
    parts = [f"# {_literal(_file_name(transcript.uri))}", f"Duration: {stamp(transcript.duration)}"]
    if transcript.turns:
        parts += [_talk(transcript), *map(_paragraph, transcript.turns)]
    else:
        parts.append("No speech was found.")
    return "\n\n".join(parts) + "\n"


def _file_name(uri: str) -> str:
    """What follows a "?" in an address stays out: it may be a key that opens the recording."""
    path = urlsplit(uri).path if uri.startswith(("http://", "https://")) else uri
    return printable(path.rstrip("/").rsplit("/", 1)[-1])


def _talk(transcript: Transcript) -> str:
    total = sum(speaker.speaking for speaker in transcript.speakers)
    rows = ["| Speaker | Talk time | Share | Turns |", "| :-- | --: | --: | --: |"]
    for speaker in transcript.speakers:
        share = speaker.speaking / total if total else 0.0
        rows.append(
            f"| {_literal(speaker.label)} | {stamp(speaker.speaking)} "
            f"| {share:.0%} | {speaker.turns} |"
        )
    return "\n".join(rows)


def _paragraph(turn: Turn) -> str:
    mood = f" *({_literal(turn.mood)})*" if turn.mood not in ("", "neutral") else ""
    head = f"[{stamp(turn.span.start)}] **{_literal(turn.speaker)}**{mood}"
    return f"{head}: {_literal(text_of(turn))}"


def _literal(text: str) -> str:
    r"""Shown as it is, by CommonMark and by GitHub's tables and formulas.

    >>> _literal("<b> *Ann* | 5_000")
    '\\<b\\> \\*Ann\\* \\| 5\\_000'
    """
    return re.sub(r"([\\`*_\[\]<>&|~$])", r"\\\1", one_line(text))
