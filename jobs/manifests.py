"""Manifests: lists of recordings with what is known of each. JSON lines, CSV with a header, and
Kaldi's wav.scp (https://kaldi-asr.org/doc/data_prep.html, without its commands).

    {"audio": "a.wav", "speakers": 3, "language": "en"}       in calls.jsonl
    audio,id,channel                                          in calls.csv
    call-7  s3://archive/call-7.wav                           in wav.scp
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import UsageError, closest, printable
from pipeline.job import Job, job_at
from pipeline.storage import file_system

MANIFESTS = (".jsonl", ".ndjson", ".csv", ".scp")

Line = tuple[int, dict[str, Any]]


class Row(BaseModel):
    """One recording. `audio` may be called `uri`; a relative one counts from the manifest.
    `id` tells recordings apart that are in one file, and gives the readable part of the
    recording's id. `channel` is the one to listen to, from 0."""

    model_config = ConfigDict(extra="forbid")

    audio: str = Field(min_length=1)
    id: str = ""
    language: str = ""
    speakers: int | None = Field(None, ge=1)
    min_speakers: int | None = Field(None, ge=1)
    max_speakers: int | None = Field(None, ge=1)
    channel: int | None = Field(None, ge=0)

    def settings(self) -> tuple[str, ...]:
        """What the row says, as settings of the profile. Bounds take the place of a number that
        was given for all."""
        chosen: dict[str, int | str] = {}
        if self.speakers is not None:
            chosen["clustering.speakers"] = self.speakers
        elif self.min_speakers is not None or self.max_speakers is not None:
            chosen["clustering.speakers"] = "null"
        if self.min_speakers is not None:
            chosen["clustering.min_speakers"] = self.min_speakers
        if self.max_speakers is not None:
            chosen["clustering.max_speakers"] = self.max_speakers
        if self.channel is not None:
            chosen["audio.channel"] = self.channel
        return tuple(f"{key}={value}" for key, value in chosen.items())


def read_manifest(source: str) -> Iterator[Job]:
    """The recordings of a manifest, a path or an address. UsageError names file, line and key."""
    where, text = printable(source), _text(source)
    if source.lower().endswith(".csv"):
        lines = _csv(text, where)
    elif source.lower().endswith(".scp"):
        lines = _scp(text, where)
    else:
        lines = _jsonl(text, where)
    for number, values in lines:
        row = _row(values, f"{where}:{number}")
        job = job_at(_beside(source, row.audio), row.id)
        yield replace(job, settings=row.settings(), language=row.language)


def _text(source: str) -> str:
    try:
        fs, path = file_system(source)
        text: str = fs.cat_file(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{printable(source)}: not UTF-8 text (byte {error.start})") from None
    except FileNotFoundError:
        raise UsageError(f"{printable(source)}: no such file") from None
    return text


def _jsonl(text: str, where: str) -> Iterator[Line]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except ValueError as error:
            raise UsageError(f"{where}:{number}: not JSON: {error}") from None
        if not isinstance(values, dict):
            raise UsageError(f"{where}:{number}: not a JSON object, one recording a line")
        yield number, values


def _csv(text: str, where: str) -> Iterator[Line]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True, restkey="")
    try:
        for values in reader:
            if "" in values:
                raise UsageError(f"{where}:{reader.line_num}: more cells than the header has")
            yield reader.line_num, {key: value for key, value in values.items() if value}
    except csv.Error as error:
        raise UsageError(f"{where}:{reader.line_num}: not CSV: {error}") from None


def _scp(text: str, where: str) -> Iterator[Line]:
    for number, line in enumerate(text.split("\n"), start=1):
        name, _, location = line.strip().partition(" ")
        if not name:
            continue
        if line.rstrip().endswith("|"):
            raise UsageError(
                f"{where}:{number}: a command (it ends in |): Hansard runs none from a manifest; "
                "write its output to a file, and name that"
            )
        yield number, {"id": name, "audio": location.strip()}


def _row(values: dict[str, Any], where: str) -> Row:
    values = {("audio" if key == "uri" else key): value for key, value in values.items()}
    for key in values:
        if key not in Row.model_fields:
            raise UsageError(
                f"{where}: {printable(str(key))}: unknown{closest(str(key), Row.model_fields)}; "
                f"known: {', '.join(Row.model_fields)}"
            )
    try:
        return Row.model_validate({k: v for k, v in values.items() if v is not None})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        given = "" if first["type"] == "missing" else f" {first['input']!r}:"
        raise UsageError(printable(f"{where}: {key}:{given} {first['msg']}")) from None


def _beside(manifest: str, location: str) -> str:
    if "://" in location or Path(location).is_absolute():
        return location
    if "://" in manifest:
        return f"{manifest.rsplit('/', 1)[0]}/{location}"
    return str(Path(manifest).parent / location)
