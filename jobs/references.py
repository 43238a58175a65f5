"""Reads what a transcript is scored against: RTTM, STM and SegLST (through meeteval), words
with times as JSONL, NIST's UEM, and Hansard's own transcripts. Times become integer ms.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from pyannote.core import Annotation, Segment, Timeline

from pipeline.errors import UsageError, printable

BRIDGED_PAUSE = 500
"""Where only words are known, a speaker's words up to this many ms apart are one stretch."""


class ScoredWord(NamedTuple):
    """A word as somebody said it; ms."""

    speaker: str
    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Scored:
    """One side of a comparison: a reference, or a hypothesis, for the recording `name`.

    `words` is None where the source says nothing about words (RTTM), and empty where it says
    that nobody spoke. `speech` is in seconds, pyannote's unit. `extent` is what is to be scored
    (a UEM); None: the reference's own extent.
    """

    name: str
    speech: Annotation
    words: tuple[ScoredWord, ...] | None = None
    extent: Timeline | None = None


class _Stretch(NamedTuple):
    """Speech of one speaker; `text` is empty in formats without words. ms."""

    name: str
    speaker: str
    start: int
    end: int
    text: str = ""


def recording_stem(uri: str) -> str:
    """What a recording's reference is called: the file name of its uri, less the last suffix.

    >>> recording_stem("s3://archive/2024/Board meeting.v2.opus")
    'Board meeting.v2'
    """
    path = urlsplit(uri).path if uri.startswith(("http://", "https://")) else uri
    return PurePosixPath(path).stem


def speech_of_words(name: str, words: Iterable[ScoredWord]) -> Annotation:
    """When each speaker speaks, as far as words tell; see BRIDGED_PAUSE."""
    speech = Annotation(uri=name)
    for track, word in enumerate(words):
        speech[Segment(word.start / 1000, word.end / 1000), track] = word.speaker
    return speech.support(collar=BRIDGED_PAUSE / 1000)


def read_references(path: Path, wanted: frozenset[str]) -> dict[str, Scored]:
    """The references in a file, or beside each other in a folder, by recording.

    A recording goes by the name that the file has for it if that is among those `wanted`, or
    else, where the file holds only one, by the file's own stem: `meeting.rttm`,
    `meeting.words.jsonl` and `meeting.uem` belong together. UsageError names the file.
    """
    if not path.exists():
        raise UsageError(f"reference not found: {printable(str(path))}")
    found: dict[str, Scored] = {}
    for file in _files(path):
        for name, scored in _read(file).items():
            stem = file.name.removesuffix(_suffix(file))
            known = name if name in wanted or len(_read(file)) > 1 else stem
            found[known] = _merge(found.get(known), replace(scored, name=known), file)
    return found
