"""AMI's words of 167 meetings with their times (shared/data/text-en)."""

from __future__ import annotations

import csv
import lzma
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple, TypeAlias


class Token(NamedTuple):
    """A word as AMI writes it, or a mark; ms."""

    start: int
    end: int
    text: str


People: TypeAlias = dict[str, list[Token]]
"""What each of a meeting's people says."""


def ami_words(data: Path) -> dict[str, People]:
    """Every meeting by its name."""
    meetings: defaultdict[str, defaultdict[str, list[Token]]]
    meetings = defaultdict(lambda: defaultdict(list))
    with lzma.open(data / "text-en" / "ami-words.tsv.xz", "rt", encoding="utf-8") as lines:
        for meeting, who, start, end, text in csv.reader(
            lines, "excel-tab", quoting=csv.QUOTE_NONE
        ):
            token = Token(round(float(start) * 1000), round(float(end) * 1000), text)
            meetings[meeting][who].append(token)
    return {meeting: dict(people) for meeting, people in meetings.items()}
