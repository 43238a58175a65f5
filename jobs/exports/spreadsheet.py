"""CSV: a row a turn, for pandas and spreadsheets."""

from __future__ import annotations

import csv
import io
from statistics import fmean

from jobs.exports.wording import one_line, text_of
from pipeline.records import Transcript

COLUMNS = ("recording", "speaker", "start", "end", "text", "mood", "confidence")


def to_csv(transcript: Transcript) -> str:
    """UTF-8 with a header; times in seconds, `confidence` the mean over the turn's words."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for turn in transcript.turns:
        writer.writerow(
            [
                transcript.id,
                _inert(one_line(turn.speaker)),
                f"{turn.span.start / 1000:.3f}",
                f"{turn.span.end / 1000:.3f}",
                _inert(text_of(turn)),
                turn.mood,
                f"{fmean(word.confidence for word in turn.words):.3f}",
            ]
        )
    return file.getvalue()


def _inert(text: str) -> str:
    """A spreadsheet would run what looks like a formula (OWASP: CSV injection); after an
    apostrophe it shows it.

    >>> _inert("=1+1")
    "'=1+1"
    """
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
