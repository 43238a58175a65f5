"""The pools' actor: one in a run, beside the driver or on the head node. It gives units of work to
workers, has as many workers as there is work and room for, and replaces those that die. Workers are
those of the stages that the profile gives some of their own, and helpers, which compute all others
where conductors leave CPUs idle: at the end of an archive, say, or with one long recording.

Only references and small results pass through it: batches go from the conductor's node to the
worker's through the object store. Should it die itself, Ray starts it anew, and sends it again
what it has not answered.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.exceptions import RayError

from pipeline.cluster.death import DIED
from pipeline.cluster.nodes import alive, capacity, emptiest, strategy
from pipeline.cluster.places import Places, Report
from pipeline.cluster.plan import plans
from pipeline.cluster.pool import Pool, Unit, Worker
from pipeline.cluster.worker import Began, Computed, StageWorker
from pipeline.load import StageLoad
from pipeline.resources import Resources

LOOK = 0.5  # seconds between two looks at the load
_REFUSED = 3  # workers in a row that do not start, before units fail
# Seconds without work after which a worker makes room for another stage's, whose start takes five.
_SPARE = 30.0
_OVERDUE = 30.0  # seconds that a unit goes on after its recording was stopped
_CAPACITY = 2.0  # seconds between two looks at the cluster's size
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Snapshot:
    """How busy each stage is, in the order of the graph; where each recording is."""

    loads: Mapping[str, StageLoad]
    reports: Sequence[Report]


class Pools:
    """The actor; its methods run in one event loop. `nodes` are the stages in the order of the
    graph, `own` (see `packed`) those with workers of their own."""

    def __init__(
        self,
        nodes: Sequence[str],
        own: Mapping[str, bytes],
        resources: Mapping[str, Resources],
    ) -> None:
        self._nodes = nodes
        self._resources = resources
        self._planned = 0.0
        self._plan()
        self._own = {name: Pool(self._plans.own[name], stage) for name, stage in own.items()}
        self._helpers = Pool(replace(self._plans.helpers, most=1))
        self._places = Places()
        self._conducted: defaultdict[str, float] = defaultdict(float)
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._worker = ray.remote(StageWorker)

    async def start(self) -> None:
        """Starts a worker for each stage that has its own."""
        for pool in self._own.values():
            self._hire(pool)

    async def compute(self, node: str, stage: bytes, data: list[Any]) -> Computed:
        """What becomes of the one unit that `data` refers to. Where the call is cancelled the
        unit is dropped."""
        pool = self._own.get(node, self._helpers)
        unit = Unit(node, stage, data[0], asyncio.get_running_loop().create_future())
        pool.add(unit)
        self._dispatch(pool)
        try:
            return await unit.answer
        finally:
            pool.leave(unit)
            worker = next((w for w in pool.workers if unit in w.units), None)
            if worker is not None:
                self._go(self._end_overdue(pool, worker, unit))

    async def tell(self, report: Report) -> int:
        """How many units of the recording may be with workers of the stage: of all recordings
        about two for each worker, so that none waits for the next one and memory stays bounded."""
        stage = report.stage
        self._conducted[self._places.stage(report.recording) or stage] += report.seconds
        self._places.tell(report)
        if not stage:
            return 0
        if pool := self._own.get(stage):
            return max(1, -(-2 * pool.plan.most // self._places.at(stage)))
        spare = self._places.spare(int(self._cpus))
        self._hire_helpers(self._places.helpers(spare, self._own))
        return 2 * self._places.share(report.recording, min(spare, self._helpers.ready))

    async def stage(self, recording: str) -> str:
        """The one that the recording was last told to be at; "" where that is not known."""
        return self._places.stage(recording)

    async def look(self, expected: int) -> Snapshot:
        """How things are, in a moment. `expected`: recordings that are under way or about to be."""
        self._places.expected = expected
        await asyncio.sleep(LOOK)
        if time.monotonic() - self._planned > _CAPACITY:
            self._plan()
            for name, pool in self._own.items():
                pool.plan = self._plans.own[name]
        return Snapshot({name: self._load(name) for name in self._nodes}, self._places.reports())

    def _load(self, name: str) -> StageLoad:
        """Of a stage without workers of its own, every CPU could compute it."""
        own = self._own.get(name)
        load = (own or self._helpers).load(name)
        conducted = 0 if own else self._places.at(name)
        return StageLoad(
            waiting=load.waiting,
            running=load.running + conducted,
            workers=len(own.workers) if own else int(self._cpus),
            busy=load.busy + self._conducted[name],
        )

    async def stopped(self) -> None:
        """Returns when the run is to stop."""
        await self._stopping.wait()

    async def stop(self) -> None:
        """Tells all conductors to stop."""
        self._stopping.set()

    def _go(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)  # the loop itself keeps no task alive
        task.add_done_callback(self._tasks.discard)

    def _dispatch(self, pool: Pool) -> None:
        while worker := pool.assign():
            self._go(self._serve(pool, worker))
        while pool.wants_more() and self._room_for(pool):
            self._hire(pool)

    async def _serve(self, pool: Pool, worker: Worker) -> None:
        """One call of a worker, to its end."""
        units = worker.units
        began = False
        try:
            call = worker.actor.compute.options(num_returns="streaming")
            async for reference in call.remote(units[0].stage, *(unit.data for unit in units)):
                told = await reference
                if isinstance(told, Began):
                    began = True
                else:
                    pool.done(units.popleft(), told)
        except DIED:
            self._dismiss(pool, worker)
            if began and units:
                units[0].deaths += 1
        except RayError as error:  # a batch was lost, with the node or the conductor that cut it
            if len(units) == 1:
                pool.done(units.popleft(), Computed((), error))
        for unit in reversed(units):
            pool.again(unit)
        units.clear()
        worker.busy = False
        worker.free_since = time.monotonic()
        if len(pool.workers) > 1 and not self._fits(0.0, 0.0):  # a node has left
            self._dismiss(pool, worker)
        self._dispatch(pool)

    def _hire_helpers(self, wanted: int) -> None:
        """They stay: the next recording may need them, too."""
        self._helpers.plan = replace(self._plans.helpers, most=max(1, wanted))
        while len(self._helpers.workers) < wanted and self._helpers.refused < _REFUSED:
            self._hire(self._helpers)

    def _hire(self, pool: Pool) -> None:
        workers = [worker for other in self._pools() for worker in other.workers]
        node = emptiest(
            self._alive,
            pool.plan.cpus,
            pool.plan.gpus,
            own=[worker.node for worker in pool.workers] + self._places.nodes(),
            all_=(worker.node for worker in workers),
        )
        actor = self._worker.options(
            num_cpus=pool.plan.cpus,
            num_gpus=pool.plan.gpus,
            scheduling_strategy=strategy(node),
            max_restarts=1,  # not used; where memory is short, Ray ends those first that have it
        ).remote(pool.plan.threads)
        worker = Worker(actor, node)
        pool.workers.append(worker)
        self._go(self._welcome(pool, worker))

    async def _welcome(self, pool: Pool, worker: Worker) -> None:
        try:
            worker.place = await worker.actor.ready.remote(*pool.stages)
        except RayError as error:
            self._dismiss(pool, worker)
            pool.refused += 1
            if pool.refused >= _REFUSED:
                last = str(error).strip().splitlines()[-1]
                pool.fail(f"no worker could be started: {last}")
            await asyncio.sleep(1)
        else:
            pool.refused = 0
            worker.free_since = time.monotonic()
        self._dispatch(pool)

    def _dismiss(self, pool: Pool, worker: Worker) -> None:
        if worker in pool.workers:
            pool.workers.remove(worker)
            ray.kill(worker.actor)

    async def _end_overdue(self, pool: Pool, worker: Worker, unit: Unit) -> None:
        """A unit that nobody waits for must not hold its worker for ever."""
        await asyncio.sleep(_OVERDUE)
        if worker.units and worker.units[0] is unit:
            self._dismiss(pool, worker)

    def _room_for(self, pool: Pool) -> bool:
        """Whether one more worker fits beside the others: after one of a stage without work has
        gone, perhaps. A stage without any worker gets one, come what may."""
        if not pool.workers or self._fits(pool.plan.cpus, pool.plan.gpus):
            return True
        for other in self._pools():
            if other is not pool and (spare := other.spare(_SPARE)):
                self._dismiss(other, spare)
                return self._fits(pool.plan.cpus, pool.plan.gpus)
        return False

    def _fits(self, cpus: float, gpus: float) -> bool:
        """Whether the cluster has so much beside all workers and conductors."""
        conductors = self._plans.conductors
        cpus += conductors.cpus * conductors.most
        cpus += sum(len(pool.workers) * pool.plan.cpus for pool in self._pools())
        if cpus > self._cpus + _ROUNDING:
            return False
        if not gpus:
            return True
        gpus += sum(len(pool.workers) * pool.plan.gpus for pool in self._pools())
        return gpus <= self._gpus + _ROUNDING

    def _pools(self) -> Iterator[Pool]:
        yield self._helpers
        yield from self._own.values()

    def _plan(self) -> None:
        """Nodes join and leave."""
        self._planned = time.monotonic()
        self._alive = alive()
        cpus, self._gpus = capacity(self._alive)
        self._cpus = max(1.0, cpus)
        self._plans = plans(self._resources, cpus, self._gpus)
