"""OUT/runs/<time>-<id>.json: what a run was asked for and what became of it.

    {"schema": 1, "id": ..., "command": ["transcribe", "archive/"], "profile": ...,
     "settings": [...], "formats": [...], "executor": "local", "host": "host:pid", "version": ...,
     "began": "2026-11-21T10:00:00+00:00", "ended": ..., "complete": true, "seconds": 3600.0,
     "recordings": {"asked": 1000, "done": 940, "same": 10, "failed": 50, "held": 0, "given_up": 0},
     "audio_ms": 720000000, "rtfx": 200.0,
     "stages": {"asr": {"seconds": 5400.0, "workers": 8}, ...},
     "failures": [{"stage": "audio", "error": "no such file", "count": 3, "ids": [...]}, ...]}

`complete` is false where the run was interrupted; one that was killed leaves no summary. `seconds`
of a stage are of work, all workers together. A run that had nothing to do writes none.
"""

from __future__ import annotations

import sys
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

import typer

from jobs.progress import Progress
from jobs.recorder import End, Ended, Task
from pipeline.errors import OutputError, without_secrets
from pipeline.executor import worker
from pipeline.job import Job
from pipeline.load import StageLoad
from pipeline.storage import Folder
from pipeline.transcript import encode, hansard_version

_REASONS = 1000  # told apart; what else fails counts together
_IDS = 20  # of each


class RunSummary:
    """A context manager that writes the summary in the end. `loads` tells what the stages did."""

    def __init__(self, folder: Folder, task: Task, progress: Progress) -> None:
        self.loads: Callable[[], Mapping[str, StageLoad]] = dict
        self._folder = folder
        self._task = task
        self._progress = progress
        self._ends: Counter[End] = Counter()
        self._ids: dict[tuple[str, str], list[str]] = {}
        self._failed: Counter[tuple[str, str]] = Counter()

    def add(self, job: Job, ended: Ended) -> None:
        """A recording has ended."""
        self._ends[ended.end] += 1
        if ended.end is End.FAILED:
            reason = ended.stage, ended.reason
            if reason not in self._failed and len(self._failed) >= _REASONS:
                reason = "", "other errors"
            self._failed[reason] += 1
            ids = self._ids.setdefault(reason, [])
            if len(ids) < _IDS:
                ids.append(job.id)

    def __enter__(self) -> RunSummary:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._ends[End.DONE] and not self._ends[End.FAILED]:
            return
        now = datetime.now(UTC)
        run = f"{now:%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:6]}"
        try:
            self._folder.write(f"runs/{run}.json", encode(self._summary(run, now, kind is None)))
        except OutputError as failed:  # the records are what counts
            typer.echo(f"note   no summary of this run: {failed}", err=True)

    def _summary(self, run: str, now: datetime, complete: bool) -> dict[str, Any]:
        options, progress = self._task.options, self._progress
        ends = {end.name.lower(): self._ends[end] for end in End}
        return {
            "schema": 1,
            "id": run,
            "command": [without_secrets(word) for word in sys.argv[1:]],
            "profile": options.profile,
            "settings": list(options.settings),
            "formats": list(options.formats),
            "executor": "ray" if self._task.conduct.address else "local",
            "host": worker(),
            "version": hansard_version(),
            "began": self._task.began,
            "ended": now.isoformat(timespec="seconds"),
            "complete": complete,
            "seconds": round(progress.seconds, 3),
            "recordings": {"asked": progress.recordings, **ends},
            "audio_ms": progress.audio_ms,
            "rtfx": round(progress.rtfx, 2),
            "stages": {
                stage: {"seconds": round(load.busy, 3), "workers": load.workers}
                for stage, load in self.loads().items()
            },
            "failures": [
                {"stage": reason[0], "error": reason[1], "count": count, "ids": self._ids[reason]}
                for reason, count in self._failed.most_common()
            ],
        }
