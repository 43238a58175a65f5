"""Conductors: processes of a cluster that take one recording after another from claim to record."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from jobs.ledger import Ledger
from jobs.recorder import Ended, Recorder, Task
from pipeline.cluster.compute import WithWorkers
from pipeline.errors import UsageError
from pipeline.executor import worker
from pipeline.graph import AUDIO
from pipeline.job import Job
from pipeline.storage import Folder


class Conductor:
    """The actor. `out` is the address of the output folder, `probe` the name of a file that the
    driver has put there, `pools` the pools' actor."""

    def __init__(self, out: str, probe: str, task: Task, pools: Any) -> None:
        self._folder = Folder(out)
        self._probe = probe
        stop = pools.stopped.remote().future()
        threads = task.graph.resources[AUDIO].threads
        self._compute = WithWorkers(pools, task.graph.own_workers, threads, stop)
        self._recorder = Recorder(Ledger(self._folder), task, self._hook, self._compute)

    def ready(self) -> str:
        """Where it runs. UsageError where the output folder is not the driver's: a local folder
        on a cluster of several machines, say."""
        if not self._folder.exists(self._probe):
            raise UsageError(
                f"{self._folder}: on {worker()} this is another folder: results of a cluster go "
                "to a bucket, or to a folder that all its machines share"
            )
        return worker()

    def run(self, job: Job, dead: Collection[str]) -> Ended | None:
        """See `Recorder.run`. None where it was stopped; the claim is then given back."""
        try:
            return self._recorder.run(job, dead)
        except KeyboardInterrupt:
            return None
        finally:
            self._compute.tell(job.id, "", 0, 0)

    def _hook(self, recording: str, stage: str, completed: int, total: int) -> None:
        self._compute.check_stop()
        self._compute.tell(recording, stage, completed, total)
