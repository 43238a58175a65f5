"""What is asked for: one recording, its name for good and the place it is opened at."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import without_secrets


@dataclass(frozen=True)
class Job:
    """One recording to be done: `location` is what is opened, `uri` what it is called.

    `settings` (`stage.key=value`) hold for this recording alone, over those of the profile;
    `language` is the one it is in ("": the profile's). `version` and `modified` (seconds since
    1970) are what the listing said in which it was found ("" and 0: nothing)."""

    id: str
    uri: str
    location: str
    settings: tuple[str, ...] = ()
    language: str = ""
    version: str = ""
    modified: float = 0.0


def job_at(location: str, name: str = "") -> Job:
    """The job for a local path, made absolute, or an address such as s3://bucket/key. A `name`
    tells recordings apart that are in one file (its channels, say)."""
    if "://" not in location:
        location = str(Path(location).resolve())
    # Names that are not UTF-8 are kept readable and unambiguous in the uri.
    uri = without_secrets(os.fsencode(location).decode("utf-8", "backslashreplace"))
    return Job(id=recording_id(uri, name), uri=uri, location=location)


def recording_id(uri: str, name: str = "") -> str:
    """A readable slug and a hash of the whole uri: two `meeting.wav` in two folders differ.

    >>> recording_id("/a/Board meeting.wav")
    'board-meeting-ceb4bf9fb5ff'
    """
    stem = name or uri.rstrip("/").rsplit("/", 1)[-1].rsplit(".", 1)[0]
    ascii_stem = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", ascii_stem)[:60].strip("-") or "recording"
    whole = f"{uri}\n{name}" if name else uri
    return f"{slug}-{hashlib.sha256(whole.encode()).hexdigest()[:12]}"
