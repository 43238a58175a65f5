"""A run on a Ray cluster: this process, the driver, gives jobs to conductors and hears how they
end. It holds a job or two for each conductor, however long the archive."""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import ray
from ray.exceptions import RayTaskError

from jobs.conductor import Conductor
from jobs.ledger import Ledger
from jobs.recorder import Ended, Recorder, Task
from pipeline.artifacts import ArtifactStore
from pipeline.cluster.death import DIED
from pipeline.cluster.nodes import alive, capacity, emptiest, strategy
from pipeline.cluster.places import Report
from pipeline.cluster.plan import check_fit, plans
from pipeline.cluster.pools import Pools, Snapshot
from pipeline.cluster.session import LOCAL, session
from pipeline.cluster.worker import packed
from pipeline.errors import HansardError, OutputError
from pipeline.graph import AUDIO
from pipeline.job import Job
from pipeline.load import StageLoad
from pipeline.local import InProcess
from pipeline.stage import Hook

_DEATHS = 3  # of conductors, over one recording or in a row
_STOP = 15.0  # seconds in which conductors give their claims back
_CAPACITY = 5.0  # seconds between two looks at the cluster's size


@contextmanager
def on_cluster(ledger: Ledger, task: Task, hook: Hook) -> Iterator[OnCluster]:
    """The runner, on the cluster at the task's address. UsageError where that cannot be reached."""
    probe = f".run-{uuid.uuid4().hex}"
    with session(task.conduct.address):
        ledger.folder.write(probe, b"")
        try:
            yield OnCluster(ledger, task, hook, probe)
        finally:
            ledger.folder.delete(probe)


@dataclass
class _Try:
    """A job, the conductors (host:pid) that died over it, and the artifacts (with `deaths` since
    the last new one) that it had when the last of them did."""

    job: Job
    dead: list[str] = field(default_factory=list)
    artifacts: int = 0
    deaths: int = 0


@dataclass(eq=False)
class _Conductor:
    """`node` is the one that it is meant for, `place` (host:pid) is empty until it is ready."""

    actor: Any
    node: str
    place: str = ""


class OnCluster:
    """See `jobs.runners.Runner`."""

    def __init__(self, ledger: Ledger, task: Task, hook: Hook, probe: str) -> None:
        self._ledger = ledger
        self._task = task
        self._hook = hook
        self._probe = probe
        self._snapshot = Snapshot({node.name: StageLoad() for node in task.graph.nodes}, ())
        self._pools = _start_pools(task)
        self._look: Any = None
        self._conductor: Any = ray.remote(Conductor)
        self._conductors: set[_Conductor] = set()
        self._free: deque[_Conductor] = deque()
        self._starting: dict[Any, _Conductor] = {}
        self._under_way: dict[Any, tuple[_Conductor, _Try]] = {}
        self._refused = 0
        self._counted = -_CAPACITY

    def loads(self) -> Mapping[str, StageLoad]:
        """See `Runner`."""
        return self._snapshot.loads

    def run(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Ended]]:
        """See `Runner`. Left before its end, it lets conductors give their claims back."""
        coming = (_Try(job) for job in jobs)
        waiting: deque[_Try] = deque()
        try:
            while True:
                self._count()
                waiting.extend(islice(coming, max(0, self._plan.most - len(waiting))))
                expected = min(self._plan.most, len(waiting) + len(self._under_way))
                self._look = self._look or self._pools.look.remote(expected)
                while waiting and self._free:
                    self._give(waiting.popleft(), self._free.popleft())
                if not waiting and not self._under_way:
                    return
                self._hire(len(waiting))
                for some, ended in self._heard():
                    if ended is None:
                        waiting.appendleft(some)
                    else:
                        yield some.job, ended
        finally:
            self._stop()

    def _count(self) -> None:
        """How many conductors the cluster may have: nodes join and leave."""
        if time.monotonic() - self._counted > _CAPACITY:
            self._counted = time.monotonic()
            self._nodes = alive()
            cpus, gpus = capacity(self._nodes)
            planned = plans(self._task.graph.resources, cpus, gpus)
            if self._task.conduct.address == LOCAL:  # which does not grow
                check_fit(planned, cpus, gpus)
            self._plan = planned.conductors

    def _hire(self, wanted: int) -> None:
        out = self._ledger.folder.address
        while len(self._starting) < wanted and len(self._conductors) < self._plan.most:
            taken = [conductor.node for conductor in self._conductors]
            node = emptiest(self._nodes, self._plan.cpus, self._plan.gpus, taken, taken)
            actor = self._conductor.options(
                num_cpus=self._plan.cpus,
                num_gpus=self._plan.gpus,
                scheduling_strategy=strategy(node),
            )
            hired = _Conductor(actor.remote(out, self._probe, self._task, self._pools), node)
            self._conductors.add(hired)
            self._starting[hired.actor.ready.remote()] = hired

    def _give(self, some: _Try, conductor: _Conductor) -> None:
        call = conductor.actor.run.remote(some.job, some.dead)
        self._under_way[call] = conductor, some

    def _heard(self) -> Iterator[tuple[_Try, Ended | None]]:
        """Waits, and then tells of what has ended; None for what has to be tried again."""
        calls = [self._look, *self._starting, *self._under_way]
        for call in ray.wait(calls, num_returns=1, timeout=None)[0]:
            if call == self._look:
                self._looked()
            elif call in self._starting:
                self._started(call)
            else:
                yield self._ended(call)

    def _looked(self) -> None:
        self._snapshot = ray.get(self._look)
        self._look = None
        for recording, stage, completed, total, *_ in self._snapshot.reports:
            self._hook(recording, stage, completed, total)

    def _started(self, call: Any) -> None:
        conductor = self._starting.pop(call)
        try:
            conductor.place = ray.get(call)
        except RayTaskError as error:
            raise error.cause from None
        except DIED as error:
            self._conductors.discard(conductor)
            self._refused += not conductor.place
            if self._refused == _DEATHS:
                reason = str(error).strip().splitlines()[-1]
                raise HansardError(f"no conductor could be started: {reason}") from None
        else:
            self._refused = 0
            self._free.append(conductor)

    def _ended(self, call: Any) -> tuple[_Try, Ended | None]:
        conductor, some = self._under_way.pop(call)
        try:
            ended: Ended | None = ray.get(call)
        except RayTaskError as error:
            raise error.cause from None
        except DIED:
            self._conductors.discard(conductor)
            ray.kill(conductor.actor)  # where it is only out of reach
            self._check_free()
            some.dead.append(conductor.place)
            return some, self._given_up(some) if self._in_vain(some) else None
        self._free.append(conductor)
        return some, ended

    def _check_free(self) -> None:
        """Those without a job may be gone with the node: no job is to die of that."""
        while self._free:
            conductor = self._free.popleft()
            self._starting[conductor.actor.ready.remote()] = conductor

    def _in_vain(self, some: _Try) -> bool:
        """Whether so many have died that the next would, too; not where each got further."""
        before = some.artifacts
        with suppress(OutputError):
            some.artifacts = ArtifactStore(self._ledger.folder, some.job.id).count()
        some.deaths = some.deaths + 1 if some.artifacts == before else 1
        return some.deaths == _DEATHS

    def _given_up(self, some: _Try) -> Ended:
        stage = ray.get(self._pools.stage.remote(some.job.id)) or AUDIO
        self._pools.tell.remote(Report(some.job.id, "", 0, 0, "", 0.0))
        error = HansardError(
            f"its conductor died {_DEATHS} times, the last time in stage {stage} "
            "(out of memory, or a crash)"
        )
        recorder = Recorder(self._ledger, self._task, self._hook, InProcess(self._task.graph))
        return recorder.fail(some.job, stage, error, some.dead)

    def _stop(self) -> None:
        if self._under_way:
            self._pools.stop.remote()
            calls = list(self._under_way)
            ray.wait(calls, num_returns=len(calls), timeout=_STOP)


def _start_pools(task: Task) -> Any:
    """Beside the head, so that it dies with nothing else than the whole cluster."""
    pools = ray.remote(Pools).options(
        num_cpus=0,
        resources={"node:__internal_head__": 0.001},
        max_concurrency=100_000,
        max_restarts=-1,
        max_task_retries=-1,
    )
    graph = task.graph
    apart = graph.own_workers
    own = {node.name: packed(node.stage) for node in graph.nodes if node.name in apart}
    started: Any = pools.remote([node.name for node in graph.nodes], own, graph.resources)
    started.start.remote()
    return started
