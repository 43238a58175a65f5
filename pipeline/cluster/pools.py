"""The pools' actor: one in a run, beside the driver or on the head node. It gives units of work to
workers, has as many workers as there is work and room for, and replaces those that die.

Only references and small results pass through it: batches go from the conductor's node to the
worker's through the object store. Should it die itself, Ray starts it anew, and sends it again
what it has not answered.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError

from pipeline.cluster.death import DIED
from pipeline.cluster.nodes import alive, capacity, emptiest, strategy
from pipeline.cluster.plan import plans
from pipeline.cluster.pool import Pool, Unit, Worker
from pipeline.cluster.worker import Began, Computed, StageWorker
from pipeline.graph import AUDIO
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
class Answer:
    """`window`: how many units the recording may have at this stage from now on."""

    computed: Computed
    window: int


@dataclass(frozen=True)
class Snapshot:
    """How busy each stage is, in the order of the graph; where each recording is: its stage,
    and how much of it (see `pipeline.stage.Hook`)."""

    loads: Mapping[str, StageLoad]
    places: Mapping[str, tuple[str, int, int]]


class Pools:
    """The actor; its methods run in one event loop. `stages` by node, as `packed` gives them."""

    def __init__(self, stages: Mapping[str, bytes], resources: Mapping[str, Resources]) -> None:
        self._resources = resources
        self._planned = 0.0
        self._plan()
        self._pools = {name: Pool(name, stage, self._plans[name]) for name, stage in stages.items()}
        self._places: dict[str, tuple[str, int, int]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._worker = ray.remote(StageWorker)

    async def start(self) -> None:
        """Starts a worker for each stage."""
        for pool in self._pools.values():
            self._hire(pool)

    async def compute(self, node: str, recording: str, stage: bytes, data: list[Any]) -> Answer:
        """What becomes of the one unit that `data` refers to. Where the call is cancelled the
        unit is dropped."""
        pool = self._pools[node]
        unit = Unit(recording, stage, data[0], asyncio.get_running_loop().create_future())
        pool.add(unit)
        self._dispatch(pool)
        try:
            return Answer(await unit.answer, pool.window())
        finally:
            pool.leave(unit)
            worker = next((w for w in pool.workers if unit in w.units), None)
            if worker is not None:
                self._go(self._end_overdue(pool, worker, unit))

    async def tell(self, recording: str, stage: str, completed: int, total: int) -> None:
        """Where a recording is; "" once it has ended."""
        if stage:
            self._places[recording] = stage, completed, total
        else:
            self._places.pop(recording, None)

    async def look(self) -> Snapshot:
        """How things are, in a moment."""
        await asyncio.sleep(LOOK)
        if time.monotonic() - self._planned > _CAPACITY:
            self._plan()
            for pool in self._pools.values():
                pool.plan = self._plans[pool.name]
        return Snapshot({name: pool.load() for name, pool in self._pools.items()}, self._places)

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

    def _hire(self, pool: Pool) -> None:
        workers = [worker for other in self._pools.values() for worker in other.workers]
        node = emptiest(
            self._nodes,
            pool.plan.cpus,
            pool.plan.gpus,
            own=(worker.node for worker in pool.workers),
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
            worker.place = await worker.actor.ready.remote(pool.stage)
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
        for other in self._pools.values():
            if other is not pool and (spare := other.spare(_SPARE)):
                self._dismiss(other, spare)
                return self._fits(pool.plan.cpus, pool.plan.gpus)
        return False

    def _fits(self, cpus: float, gpus: float) -> bool:
        """Whether the cluster has so much beside all workers and conductors."""
        pools = self._pools.values()
        conductors = self._plans[AUDIO].cpus * self._plans[AUDIO].most
        cpus += conductors + sum(len(pool.workers) * pool.plan.cpus for pool in pools)
        if cpus > self._cpus + _ROUNDING:
            return False
        if not gpus:
            return True
        gpus += sum(len(pool.workers) * pool.plan.gpus for pool in pools)
        return gpus <= self._gpus + _ROUNDING

    def _plan(self) -> None:
        """Nodes join and leave."""
        self._planned = time.monotonic()
        self._nodes = alive()
        cpus, self._gpus = capacity(self._nodes)
        self._cpus = max(1.0, cpus)
        self._plans = plans(self._resources, cpus, self._gpus)
