"""From what people name on the command line to jobs: files, folders, globs, addresses."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.errors import UsageError, printable
from pipeline.job import Job, job_at

# What a folder is searched for; a file named outright is opened whatever its name.
_KNOWN = (
    "aac ac3 aif aiff alac amr ape au avi caf flac flv m4a m4b mka mkv mov mp2 mp3 mp4 mpeg mpg "
    "oga ogg opus ra spx ts voc w64 wav webm wma wmv wv"
)
EXTENSIONS = frozenset(f".{name}" for name in _KNOWN.split())


def find_jobs(sources: Iterable[str]) -> list[Job]:
    """One job a recording, in the order given, each once. UsageError for a folder or a pattern
    with no recording in it; a file that does not exist is a job all the same, and fails as one."""
    jobs = {job.id: job for source in sources for job in map(job_at, _expand(source))}
    return list(jobs.values())


def _expand(source: str) -> Iterator[str]:
    if "://" in source:
        yield source
        return
    path = Path(source)
    if path.is_dir():
        yield from _in_folder(path)
    elif path.exists() or not glob.has_magic(source):
        yield source
    else:
        found = sorted(glob.glob(source, recursive=True))  # noqa: PTH207 (absolute patterns too)
        if not found:
            raise UsageError(f"{printable(source)}: no file matches this pattern")
        for name in found:
            yield from _expand(name)


def _in_folder(folder: Path) -> list[str]:
    found = [
        str(path)
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in EXTENSIONS and path.is_file()
    ]
    if not found:
        raise UsageError(
            f"{printable(str(folder))}: a folder without audio "
            "(no file in it has a known extension: name the files outright)"
        )
    return found
