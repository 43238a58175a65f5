"""Reads what a transcript is scored against: RTTM, STM and SegLST (through meeteval), words
with times as JSONL, NIST's UEM, and Hansard's own transcripts. Times become integer ms.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
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
    """One side of a comparison, a reference or a hypothesis, for the recording `name`.

    `words` is None where the source says nothing about words (RTTM), and empty where it says
    that there are none. `speech` and `extent` are in seconds, pyannote's unit; `extent` is what
    shall be scored (a UEM), None the extent of the reference's own speech.
    """

    name: str
    speech: Annotation
    words: tuple[ScoredWord, ...] | None = None
    extent: Timeline | None = None


class _Stretch(NamedTuple):
    """A line of a reference file: `speaker` says `text` (empty in RTTM); ms."""

    speaker: str
    start: int
    end: int
    text: str = ""


def recording_stem(uri: str) -> str:
    """What the reference of a recording is called: its file name, less the last suffix.

    >>> recording_stem("s3://archive/2024/Board meeting.v2.opus")
    'Board meeting.v2'
    """
    path = urlsplit(uri).path if uri.startswith(("http://", "https://")) else uri
    return PurePosixPath(path).stem


def read_references(path: Path, wanted: Iterable[str]) -> dict[str, Scored]:
    """The references in a folder, or in a file and its companions, by recording.

    `meeting.rttm`, `meeting.words.jsonl` and `meeting.uem` beside each other are one reference.
    A recording goes by the stem of its file, unless the file holds several, or only the name
    that the file has for it is among those `wanted`. UsageError names the file that is wrong.
    """
    if not path.exists():
        raise UsageError(f"reference not found: {printable(str(path))}")
    known = frozenset(wanted)
    parts: defaultdict[str, dict[str, tuple[Path, Scored]]] = defaultdict(dict)
    for file in _files(path):
        sessions = _read(file)
        for session, scored in sessions.items():
            own = session in known or len(sessions) > 1
            name = session if own else file.name.removesuffix(_suffix(file))
            kind = _KINDS[_suffix(file)]
            other = parts[name].setdefault(kind, (file, scored))[0]
            if other != file:
                raise UsageError(
                    f"two references with {kind} for {printable(name)!r}: "
                    f"{printable(str(other))} and {printable(str(file))}; give one of the files"
                )
    return {name: _joined(name, part) for name, part in parts.items() if part.keys() != {"extent"}}


def read_transcript(path: Path) -> Scored:
    """One of Hansard's own transcripts: speech from its timeline, words from its turns."""
    (scored,) = _read(path).values()
    return scored


def _files(path: Path) -> list[Path]:
    """The files of a folder that can be read, or `path` and what complements it beside it."""
    if path.is_dir():
        files = [file for file in sorted(path.iterdir()) if file.is_file() and _suffix(file)]
        if not files:
            raise UsageError(f"no reference ({', '.join(_KINDS)}) in {printable(str(path))}")
        return files
    if not _suffix(path):
        raise UsageError(f"{printable(str(path))}: not a reference ({', '.join(_KINDS)})")
    stem = path.name.removesuffix(_suffix(path))
    beside = [path.with_name(stem + s) for s, kind in _KINDS.items() if kind != _kind(path)]
    return [path, *(file for file in beside if file.is_file())]


def _joined(name: str, part: dict[str, tuple[Path, Scored]]) -> Scored:
    """One reference of its files; where speech and words differ on who speaks when, an RTTM
    is the one to believe."""
    words = part["words"][1] if "words" in part else None
    speech = part["speech"][1] if "speech" in part else words
    assert speech is not None  # a UEM alone was left out
    return Scored(
        name=name,
        speech=speech.speech,
        words=words.words if words else None,
        extent=part["extent"][1].extent if "extent" in part else None,
    )


_KINDS = {
    ".rttm": "speech",
    ".words.jsonl": "words",
    ".stm": "words",
    ".json": "words",
    ".uem": "extent",
}


def _suffix(file: Path) -> str:
    return next((suffix for suffix in _KINDS if file.name.endswith(suffix)), "")


def _kind(file: Path) -> str:
    return _KINDS[_suffix(file)]


def _read(file: Path) -> dict[str, Scored]:
    """What a file holds, by the names that it has for its recordings; UsageError if it is not
    what its name says. A file without a name for its recording has "" for it."""
    try:
        return _READERS[_suffix(file)](file)
    except UsageError:
        raise
    except KeyError as error:
        raise UsageError(f"{printable(str(file))}: no {error} where one is expected") from error
    except (ValueError, TypeError, AttributeError, AssertionError, OSError) as error:
        reason = printable(str(error)) or type(error).__name__
        raise UsageError(f"{printable(str(file))}: cannot be read: {reason}") from error


def _read_rttm(file: Path) -> dict[str, Scored]:
    from meeteval.io import RTTM

    # Other types of lines (SPKR-INFO, NON-SPEECH) say nothing about who speaks when.
    lines = [line for line in file.read_text().splitlines() if line.strip() and line[0] != ";"]
    speakers = [line for line in lines if line.split()[0] == "SPEAKER"]
    if lines and not speakers:
        raise ValueError("no SPEAKER line in it")
    sessions: defaultdict[str, list[_Stretch]] = defaultdict(list)
    for line in RTTM.parse("\n".join(speakers), parse_float=float).lines:
        end = line.begin_time + line.duration
        sessions[line.filename].append(_Stretch(line.speaker_id, _ms(line.begin_time), _ms(end)))
    return {
        name: Scored(name, _speech(name, stretches))
        for name, stretches in (sessions or {"": []}).items()
    }


def _read_stm(file: Path) -> dict[str, Scored]:
    from meeteval.io import STM

    return _segments(
        (
            line.filename,
            _Stretch(line.speaker_id, _ms(line.begin_time), _ms(line.end_time), line.transcript),
        )
        for line in STM.load(file, parse_float=float).lines
    )


def _read_json(file: Path) -> dict[str, Scored]:
    content = json.loads(file.read_bytes())
    if isinstance(content, list):
        return _segments(
            (
                str(row["session_id"]),
                _Stretch(
                    str(row["speaker"]), _ms(row["start_time"]), _ms(row["end_time"]), row["words"]
                ),
            )
            for row in content
        )
    if content.get("status") != "done":
        raise UsageError(f"{printable(str(file))}: not a finished transcript, nor SegLST")
    return _transcript(content)


def _transcript(record: dict[str, Any]) -> dict[str, Scored]:
    name = recording_stem(record["uri"])
    words = tuple(
        ScoredWord(turn["speaker"], word["text"], word["start"], word["end"])
        for turn in record["turns"]
        for word in turn["words"]
    )
    if "timeline" not in record:
        return {name: Scored(name, speech_of_words(name, words), words)}
    stretches = [_Stretch(label, start, end) for start, end, label in record["timeline"]]
    return {name: Scored(name, _speech(name, stretches), words)}


def _read_words(file: Path) -> dict[str, Scored]:
    """A word a line: ours, {"speaker", "text", "start", "end"} in ms; and AMI's, with "word"
    and seconds, where punctuation marks have lines of their own."""
    words: list[ScoredWord] = []
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                words.extend(_word(row))
            except (ValueError, TypeError, KeyError) as error:
                raise ValueError(f"line {number}: not a word with its times") from error
    return {"": Scored("", speech_of_words("", words), tuple(words))}


def _word(row: dict[str, Any]) -> Iterator[ScoredWord]:
    if "word" not in row:
        yield ScoredWord(row["speaker"], row["text"], int(row["start"]), int(row["end"]))
    elif not row.get("punctuation", False):
        yield ScoredWord(row["speaker"], row["word"], _ms(row["start"]), _ms(row["end"]))


def _read_uem(file: Path) -> dict[str, Scored]:
    """`<recording> <channel> <start> <end>` a line, seconds."""
    extents: defaultdict[str, Timeline] = defaultdict(Timeline)
    for line in file.read_text().splitlines():
        if line.strip() and not line.startswith(";"):
            name, _, start, end = line.split()
            extents[name].add(Segment(float(start), float(end)))
    return {
        name: Scored(name, Annotation(uri=name), extent=extent.support())
        for name, extent in extents.items()
    }


_READERS: dict[str, Callable[[Path], dict[str, Scored]]] = {
    ".rttm": _read_rttm,
    ".words.jsonl": _read_words,
    ".stm": _read_stm,
    ".json": _read_json,
    ".uem": _read_uem,
}


def _segments(rows: Iterable[tuple[str, _Stretch]]) -> dict[str, Scored]:
    """References made of segments with text: each is speech from its start to its end."""
    sessions: defaultdict[str, list[_Stretch]] = defaultdict(list)
    for name, stretch in rows:
        sessions[name].append(stretch)
    return {
        name: Scored(name, _speech(name, stretches), tuple(_spread(stretches)))
        for name, stretches in (sessions or {"": []}).items()
    }


def _spread(stretches: Iterable[_Stretch]) -> Iterator[ScoredWord]:
    """The words of segments, each with a share of its segment by its number of characters."""
    for speaker, start, end, text in stretches:
        words = text.split()
        letters = sum(map(len, words))
        before = 0
        for word in words:
            first, before = before, before + len(word)
            yield ScoredWord(
                speaker,
                word,
                start + (end - start) * first // letters,
                start + (end - start) * before // letters,
            )


def speech_of_words(name: str, words: Iterable[ScoredWord]) -> Annotation:
    """When each speaker speaks, as far as words tell; see BRIDGED_PAUSE."""
    speech = _speech(name, (_Stretch(w.speaker, w.start, w.end) for w in words))
    return speech.support(collar=BRIDGED_PAUSE / 1000)


def _speech(name: str, stretches: Iterable[_Stretch]) -> Annotation:
    speech = Annotation(uri=name)
    for track, (speaker, start, end, _) in enumerate(stretches):
        if end > start:
            speech[Segment(start / 1000, end / 1000), track] = speaker
    return speech


def _ms(seconds: float) -> int:
    return round(float(seconds) * 1000)
