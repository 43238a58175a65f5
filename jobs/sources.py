"""From what people name on the command line to jobs: files, folders, globs, buckets, manifests
and addresses."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from stat import S_ISREG
from typing import Any

from jobs.job_list import JobList
from jobs.manifests import MANIFESTS, read_manifest
from pipeline.errors import HansardError, UsageError, printable
from pipeline.job import Job, job_at
from pipeline.storage import file_system, modified_at, refused, version_of

# What a folder is searched for; a file named outright is opened whatever its name.
_KNOWN = (
    "aac ac3 aif aiff alac amr ape au avi caf flac flv m4a m4b mka mkv mov mp2 mp3 mp4 mpeg mpg "
    "oga ogg opus ra spx ts voc w64 wav webm wma wmv wv"
)
EXTENSIONS = frozenset(f".{name}" for name in _KNOWN.split())
# How programs call a file that they have not finished yet.
_UNFINISHED = ("~", ".part", ".partial", ".filepart", ".tmp", ".crdownload", ".download")
_LOOK_UPS = 32  # at a time


@dataclass(frozen=True)
class Found:
    """The recordings in some sources, and a line for each source that could not be listed."""

    jobs: JobList
    unlisted: tuple[str, ...] = ()


def find_jobs(sources: Iterable[str]) -> Found:
    """One job a recording, in the order given, each once. UsageError for a folder or a pattern
    with no recording in it; a file that does not exist is a job all the same, and fails as one."""
    jobs = _Distinct()
    unlisted: list[str] = []
    for source in sources:
        try:
            for job in _expand(source):
                jobs.add(job)
        except HansardError:
            raise
        except Exception as error:  # fsspec's file systems raise what their clients raise
            place = getattr(error, "filename", None) or source
            unlisted.append(f"{printable(str(place))}: {refused(error, 'listed')}")
    return Found(jobs.found, tuple(unlisted))


def look_up(jobs: Iterable[Job]) -> Iterator[Job]:
    """The jobs with version and time of change, which those lack that no listing told of. What
    cannot be looked up stays as it is, and fails when it is opened."""
    waiting = iter(jobs)
    with ThreadPoolExecutor(_LOOK_UPS) as pool:
        while some := list(islice(waiting, 10 * _LOOK_UPS)):
            found = pool.map(_looked_up, [job for job in some if not job.version])
            yield from (job if job.version else next(found) for job in some)


def _looked_up(job: Job) -> Job:
    with suppress(Exception):  # fsspec's file systems raise what their clients raise
        if "://" not in job.location:
            return _at(job.location, Path(job.location).stat(), job)
        fs, path = file_system(job.location)
        return _listed(fs.info(path), job)
    return job


class _Distinct:
    """Gathers jobs, each once."""

    def __init__(self) -> None:
        self.found = JobList()
        self._options: dict[int, int] = {}  # hashes: a hundred thousand take some megabytes

    def add(self, job: Job) -> None:
        """UsageError for one that is there with other options."""
        name, options = hash(job.id), hash((job.settings, job.language))
        known = self._options.setdefault(name, options)
        if known != options:
            raise UsageError(
                f"{printable(job.uri)}: named twice, with different options: give each an id of "
                "its own in a manifest"
            )
        if len(self._options) > len(self.found):
            self.found.add(job)


def _expand(source: str) -> Iterator[Job]:
    if source.lower().endswith(MANIFESTS):
        yield from read_manifest(source)
    elif "://" in source:
        yield from _at_address(source)
    else:
        yield from _at_path(source)


def _at_path(source: str) -> Iterator[Job]:
    path = Path(source)
    if path.is_dir():
        yield from _some(_in_folder(source), f"{printable(source)}: a folder without audio")
    elif path.exists() or not glob.has_magic(source):
        yield job_at(source)
    else:
        found = sorted(glob.glob(source, recursive=True))  # noqa: PTH207 (absolute patterns too)
        if not found:
            raise UsageError(f"{printable(source)}: no file matches this pattern")
        for name in found:
            if not _unfinished(Path(name).name):
                yield from _expand(name)


def _in_folder(folder: str) -> Iterator[Job]:
    """OSError in the end where a folder below could not be listed."""
    errors: list[OSError] = []
    for at, folders, names in os.walk(folder, onerror=errors.append):
        folders.sort()
        for name in filter(_is_audio, sorted(names)):
            path = Path(at, name)
            with suppress(FileNotFoundError):  # gone since it was listed
                stat = path.stat()
                if S_ISREG(stat.st_mode):
                    yield _at(str(path), stat)
    for error in errors:
        raise error


def _at_address(source: str) -> Iterator[Job]:
    scheme = source.partition("://")[0].lower()
    if scheme in ("http", "https"):
        yield job_at(source)
        return
    try:
        fs, path = file_system(source)
    except (ValueError, ImportError) as error:
        raise UsageError(f"{printable(source)}: {error}") from None
    # A path in this file system as an address: what stands before the path stays.
    before = source[: source.find(path)] if path in source else f"{scheme}://"
    info = None if source.endswith("/") else _info(fs, path)
    if info is not None and info["type"] == "file":
        yield _listed(info, job_at(source))
    elif info is not None or source.endswith("/"):
        found = fs.find(path, detail=True)
        audio = (_job(before, info) for info in _files(found) if _is_audio(_name(info)))
        yield from _some(audio, f"{printable(source)}: a prefix without audio")
    elif glob.has_magic(path):
        found = fs.glob(path, detail=True)
        finished = (_job(before, info) for info in _files(found) if not _unfinished(_name(info)))
        yield from _some(finished, f"{printable(source)}: no object matches this pattern")
    else:
        yield job_at(source)


def _info(fs: Any, path: str) -> Mapping[str, Any] | None:
    """What the store says of an object or a prefix; None where it says nothing. Whether it may
    be read shows when it is opened."""
    try:
        info: Mapping[str, Any] = fs.info(path)
    except (OSError, ValueError):
        return None
    return info


def _files(found: Mapping[str, Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [found[name] for name in sorted(found) if found[name]["type"] == "file"]


def _some(jobs: Iterator[Job], otherwise: str) -> Iterator[Job]:
    """The jobs; UsageError where there are none."""
    first = next(jobs, None)
    if first is None:
        raise UsageError(f"{otherwise} (no known extension: name the files outright)")
    yield first
    yield from jobs


def _name(info: Mapping[str, Any]) -> str:
    return str(info["name"]).rsplit("/", 1)[-1]


def _is_audio(name: str) -> bool:
    return Path(name).suffix.lower() in EXTENSIONS and not _unfinished(name)


def _unfinished(name: str) -> bool:
    return name.startswith((".", "~")) or name.lower().endswith(_UNFINISHED)


def _job(before: str, info: Mapping[str, Any]) -> Job:
    return _listed(info, job_at(f"{before}{info['name']}"))


def _listed(info: Mapping[str, Any], job: Job) -> Job:
    return replace(job, version=version_of(info), modified=modified_at(info))


def _at(path: str, stat: os.stat_result, job: Job | None = None) -> Job:
    version = f"size-time:{stat.st_size}-{stat.st_mtime_ns}"
    return replace(job or job_at(path), version=version, modified=stat.st_mtime)
