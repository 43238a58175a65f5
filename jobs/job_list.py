"""Jobs on the disk: a run of a hundred thousand recordings needs no more memory than one of ten."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from tempfile import NamedTemporaryFile

from pipeline.job import Job


class JobList(Collection[Job]):
    """Jobs in the order in which they were added, in a temporary file that goes with this object.

    >>> jobs = JobList([Job("a-1", "/a.wav", "/a.wav")])
    >>> jobs.add(Job("b-2", "/b.wav", "/b.wav", settings=("clustering.speakers=2",)))
    >>> len(jobs), [job.settings for job in jobs]
    (2, [(), ('clustering.speakers=2',)])
    """

    def __init__(self, jobs: Iterable[Job] = ()) -> None:
        self._file = NamedTemporaryFile(  # noqa: SIM115 (open as long as this object)
            "w", prefix="hansard-", suffix=".jsonl", encoding="ascii"
        )
        self._count = 0
        for job in jobs:
            self.add(job)

    def add(self, job: Job) -> None:
        self._file.write(json.dumps(asdict(job)) + "\n")
        self._count += 1

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Job]:
        self._file.flush()
        with Path(self._file.name).open(encoding="ascii") as lines:
            for line in lines:
                values = json.loads(line)
                yield Job(**values | {"settings": tuple(values["settings"])})

    def __contains__(self, job: object) -> bool:
        return any(job == known for known in self)
