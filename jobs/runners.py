"""Where a run's jobs are done: in this process, or by the conductors of a cluster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from jobs.ledger import Ledger
from jobs.recorder import Ended, Recorder, Task
from pipeline.job import Job
from pipeline.load import StageLoad
from pipeline.local import InProcess
from pipeline.stage import Hook


class Runner(Protocol):
    """Does jobs."""

    def run(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Ended]]:
        """Each job with its end, as they end. Jobs are taken when there is time for them."""
        ...

    def loads(self) -> Mapping[str, StageLoad]:
        """How busy each stage is, in the order of the graph; from any thread, at no cost."""
        ...


class Here:
    """Does jobs one after the other, in this process."""

    def __init__(self, ledger: Ledger, task: Task, hook: Hook) -> None:
        self._compute = InProcess(task.graph)
        self._recorder = Recorder(ledger, task, hook, self._compute)

    def run(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Ended]]:
        """See `Runner`."""
        for job in jobs:
            yield job, self._recorder.run(job)

    def loads(self) -> Mapping[str, StageLoad]:
        """See `Runner`."""
        return self._compute.loads()


def runner(ledger: Ledger, task: Task, hook: Hook) -> AbstractContextManager[Runner]:
    """What does the jobs of a run. UsageError where its cluster cannot be reached."""
    if not task.conduct.address:
        task.graph.check_here()
        return nullcontext(Here(ledger, task, hook))
    from jobs.cluster import on_cluster  # Ray is imported for those who ask for it

    return on_cluster(ledger, task, hook)
