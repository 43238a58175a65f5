"""What people read: files made from finished records, without running any model."""

from __future__ import annotations

from collections.abc import Callable

from jobs.exports.rttm import to_rttm
from jobs.exports.subtitles import to_srt
from jobs.exports.text import to_txt
from pipeline.records import Transcript

# JSON is the record itself, transcripts/<id>.json, and always written.
EXPORTS: dict[str, Callable[[Transcript], str]] = {
    "srt": to_srt,
    "txt": to_txt,
    "rttm": to_rttm,
}
FORMATS = ("json", *EXPORTS)
