"""What is asked for: one recording, its name for good and the place it is opened at."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Job:
    """One recording to be done: `location` is what is opened, `uri` what it is called."""

    id: str
    uri: str
    location: str


def job_at(location: str) -> Job:
    """The job for a local path, made absolute, or an address such as s3://bucket/key."""
    if "://" not in location:
        location = str(Path(location).resolve())
    # Names that are not UTF-8 are kept readable and unambiguous in the uri.
    uri = os.fsencode(location).decode("utf-8", "backslashreplace")
    return Job(id=recording_id(uri), uri=uri, location=location)


def recording_id(uri: str) -> str:
    """A readable slug and a hash of the whole uri: two `meeting.wav` in two folders differ.

    >>> recording_id("/a/Board meeting.wav")
    'board-meeting-ceb4bf9fb5ff'
    """
    stem = uri.rstrip("/").rsplit("/", 1)[-1].rsplit(".", 1)[0]
    ascii_stem = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", ascii_stem)[:60].strip("-") or "recording"
    return f"{slug}-{hashlib.sha256(uri.encode()).hexdigest()[:12]}"
