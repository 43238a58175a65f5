"""Conductors: processes of a cluster that take one recording after another from claim to record,
and leave its stages to the pools."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

from jobs.ledger import Ledger
from jobs.recorder import Ended, Recorder, Task
from pipeline.cluster.compute import InPools
from pipeline.cluster.worker import use_threads
from pipeline.errors import UsageError
from pipeline.executor import worker
from pipeline.job import Job
from pipeline.storage import Folder

_TELL = 0.5  # seconds between two reports of where a recording is


class Conductor:
    """The actor. `out` is the address of the output folder, `probe` the name of a file that the
    driver has put there, `pools` the pools' actor."""

    def __init__(self, out: str, probe: str, task: Task, pools: Any) -> None:
        use_threads(1)
        self._folder = Folder(out)
        self._probe = probe
        self._pools = pools
        self._compute = InPools(pools, pools.stopped.remote().future())
        self._recorder = Recorder(Ledger(self._folder), task, self._hook, self._compute)
        self._told_at = 0.0
        self._told_stage = ""

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
            self._pools.tell.remote(job.id, "", 0, 0)

    def _hook(self, recording: str, stage: str, completed: int, total: int) -> None:
        self._compute.check_stop()
        now = time.monotonic()
        if stage != self._told_stage or now - self._told_at > _TELL:
            self._told_stage, self._told_at = stage, now
            self._pools.tell.remote(recording, stage, completed, total)
