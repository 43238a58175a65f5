"""What a pulled model consists of: revision, and size and SHA-256 of each file.

One record lies in the model's folder: what was there when it was pulled. A lock file beside a
profile (`NAME.lock.json`) holds the same for all its models, for whoever pulls later or elsewhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from pipeline.errors import ModelError, OutputError, printable
from stages.model_cache import RECORD


@dataclass(frozen=True)
class FileDigest:
    """Bytes and SHA-256 (hex) of a file."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Record:
    """`revision`: the commit on the hub, or empty; `files` by their path inside the folder."""

    revision: str
    files: Mapping[str, FileDigest]


def measured(folder: Path, revision: str) -> Record:
    """Reads and hashes every file of a folder; hidden ones are none of the model's."""
    return Record(revision, {name: digest_of(path) for name, path in _files(folder)})


def digest_of(path: Path) -> FileDigest:
    """Reads the whole file."""
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    return FileDigest(path.stat().st_size, sha256)


def differences(folder: Path, expected: Record) -> list[str]:
    """One line for each file that is missing or not as expected. Files beyond those are fine."""
    found = dict(_files(folder))
    lines = []
    for name, digest in sorted(expected.files.items()):
        if name not in found:
            lines.append(f"{name}: missing")
        elif (here := digest_of(found[name])) != digest:
            lines.append(f"{name}: SHA-256 {here.sha256}, and {digest.sha256} is expected")
    return lines


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in inside.parts):
            yield inside.as_posix(), path


def read_record(folder: Path) -> Record | None:
    """The record in a model's folder; None where the files were put there by hand."""
    path = folder / RECORD
    return _parsed(_json(path), path) if path.is_file() else None


def write_record(folder: Path, record: Record) -> None:
    (folder / RECORD).write_text(json.dumps(asdict(record), indent=1) + "\n")


def lock_path(profile: str) -> Path:
    """Beside the profile: `NAME.lock.json`."""
    if profile.endswith((".yaml", ".yml")):
        return Path(profile).expanduser().with_suffix(".lock.json")
    return Path(str(files("configs"))) / f"{profile}.lock.json"


def read_lock(profile: str) -> dict[str, Record]:
    """The records by the model's name in the profile; empty where there is no lock file."""
    path = lock_path(profile)
    if not path.is_file():
        return {}
    return {name: _parsed(entry, path) for name, entry in _json(path).items()}


def write_lock(profile: str, records: Mapping[str, Record]) -> Path:
    """OutputError where the profile's folder cannot be written."""
    path = lock_path(profile)
    entries = {name: asdict(record) for name, record in sorted(records.items())}
    try:
        path.write_text(json.dumps(entries, indent=1) + "\n")
    except OSError as error:
        raise OutputError(f"{printable(str(path))}: cannot be written: {error.strerror}") from None
    return path


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"{printable(str(path))}: cannot be read: {error}") from None
    if not isinstance(data, dict):
        raise ModelError(f"{printable(str(path))}: not a JSON object")
    return data


def _parsed(entry: Any, path: Path) -> Record:
    try:
        return Record(
            str(entry["revision"]),
            {
                str(k): FileDigest(int(v["size"]), str(v["sha256"]))
                for k, v in entry["files"].items()
            },
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ModelError(f"{printable(str(path))}: not a record of a model's files") from None
