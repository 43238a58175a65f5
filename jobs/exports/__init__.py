"""What people read: files made from finished records, without running any model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jobs.exports.annotations import to_ctm, to_rttm, to_seglst, to_stm
from jobs.exports.spreadsheet import to_csv
from jobs.exports.subtitles import to_ass, to_srt, to_vtt
from jobs.exports.text import to_markdown, to_txt
from jobs.exports.textgrid import to_textgrid
from pipeline.records import Transcript
from pipeline.transcript import encode, to_json


@dataclass(frozen=True)
class Export:
    """A format: the end of its files' names, which other tools go by, and what writes it. None
    for the page, which holds the record as it was made beside its corrections: the ledger."""

    suffix: str
    write: Callable[[Transcript], str] | None


def to_record(transcript: Transcript) -> str:
    """The record as transcripts/<id>.json has it, with what people put right."""
    return encode(to_json(transcript)).decode()


EXPORTS = {
    "json": Export(".json", to_record),
    "srt": Export(".srt", to_srt),
    "vtt": Export(".vtt", to_vtt),
    "ass": Export(".ass", to_ass),
    "txt": Export(".txt", to_txt),
    "md": Export(".md", to_markdown),
    "csv": Export(".csv", to_csv),
    "rttm": Export(".rttm", to_rttm),
    "stm": Export(".stm", to_stm),
    "ctm": Export(".ctm", to_ctm),
    "seglst": Export(".seglst.json", to_seglst),
    "textgrid": Export(".TextGrid", to_textgrid),
    "html": Export(".html", None),
}
