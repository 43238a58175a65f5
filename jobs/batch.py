"""Runs recordings, here or on a cluster, and tells of each: a line, a record."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from typing import TextIO

from rich.console import Console

from jobs.ledger import Ledger, Options
from jobs.live import LiveView
from jobs.progress import Progress
from jobs.recorder import Conduct, End, Ended, Task
from jobs.runners import Runner, runner
from jobs.runs import RunSummary
from pipeline.errors import printable
from pipeline.graph import Graph
from pipeline.job import Job

WAIT = 2.0  # seconds between two looks at what another run works on


def run_batch(
    jobs: Collection[Job],
    ledger: Ledger,
    graph: Graph,
    options: Options,
    conduct: Conduct,
    heard: Callable[[Job, End], None] = lambda job, end: None,
) -> Counter[End]:
    """Each recording once, whoever else works on the same folder; how many ended how. `heard`
    learns how each ended, as soon as it has."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    records = sys.stdout  # before Ray takes its place
    task = Task(graph, options, conduct, datetime.now(UTC).isoformat(timespec="seconds"))
    progress = Progress(len(jobs))
    view = LiveView(console, progress, conduct.progress_every)
    summary = RunSummary(ledger.folder, task, progress)
    with summary, runner(ledger, task, view.hook) as does:
        summary.loads = does.loads
        if conduct.address:
            view.loads = does.loads
        with view, _metrics(progress, does) if conduct.address else nullcontext():
            return _Batch(conduct, console, records, progress, summary, heard).run(jobs, does)


def _metrics(progress: Progress, does: Runner) -> AbstractContextManager[object]:
    from jobs.metrics import RayMetrics  # Ray is imported for those who ask for it

    return RayMetrics(progress, does.loads)


class _Batch:
    def __init__(
        self,
        conduct: Conduct,
        console: Console,
        records: TextIO,
        progress: Progress,
        summary: RunSummary,
        heard: Callable[[Job, End], None],
    ) -> None:
        self._conduct = conduct
        self._console = console
        self._records = records
        self._progress = progress
        self._summary = summary
        self._heard = heard
        self._counts: Counter[End] = Counter()

    def run(self, jobs: Collection[Job], does: Runner) -> Counter[End]:
        held = self._pass(jobs, does, first=True)
        while held and self._conduct.wait:
            time.sleep(WAIT)
            held = self._pass(held, does, first=False)
        for job in held:
            self._count(job, End.HELD)
        return self._counts

    def _pass(self, jobs: Collection[Job], does: Runner, *, first: bool) -> list[Job]:
        """Runs the jobs; gives back those that others work on."""
        held: list[Job] = []
        for job, ended in does.run(jobs):
            if ended.end is End.HELD:
                held.append(job)
                if first:
                    self._say_held(job, ended.text)
            else:
                self._tell(job, ended)
        return held

    def _tell(self, job: Job, ended: Ended) -> None:
        self._count(job, ended.end)
        if ended.end is End.DONE:
            self._progress.recording_done(ended.duration)
        elif ended.end is End.FAILED:
            self._progress.recording_failed()
        else:
            self._progress.recording_skipped()
        self._summary.add(job, ended)
        if ended.text:
            self._console.print(ended.text, markup=False)
        if ended.record:
            self._records.write(ended.record)
            self._records.flush()

    def _count(self, job: Job, end: End) -> None:
        self._counts[end] += 1
        self._heard(job, end)

    def _say_held(self, job: Job, holder: str) -> None:
        then = "waiting for it" if self._conduct.wait else "left to it"
        line = f"held   {printable(job.location)}: {holder} works on it, {then}"
        self._console.print(line, markup=False)
