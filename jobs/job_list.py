"""Jobs on the disk: a run of a hundred thousand recordings needs no more memory than one of ten."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict
from tempfile import TemporaryFile

from pipeline.job import Job

_CHUNK = 1 << 16  # bytes read at once


class JobList(Collection[Job]):
    """Jobs in the order in which they were added, in a temporary file without a name, so that
    nothing is left of it however the process ends.

    >>> jobs = JobList([Job("a-1", "/a.wav", "/a.wav")])
    >>> jobs.add(Job("b-2", "/b.wav", "/b.wav", settings=("clustering.speakers=2",)))
    >>> len(jobs), [job.settings for job in jobs]
    (2, [(), ('clustering.speakers=2',)])
    """

    def __init__(self, jobs: Iterable[Job] = ()) -> None:
        self._file = TemporaryFile()  # noqa: SIM115 (open as long as this object)
        self._count = 0
        for job in jobs:
            self.add(job)

    def add(self, job: Job) -> None:
        self._file.write(json.dumps(asdict(job)).encode() + b"\n")
        self._count += 1

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Job]:
        self._file.flush()
        rest, offset = b"", 0
        while chunk := os.pread(self._file.fileno(), _CHUNK, offset):  # others read here, too
            offset += len(chunk)
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                values = json.loads(line)
                yield Job(**values | {"settings": tuple(values["settings"])})

    def __contains__(self, job: object) -> bool:
        return any(job == known for known in self)
