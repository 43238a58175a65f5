"""A pool: units of work that wait, and workers, as the pools' actor keeps them."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import Any

from pipeline.cluster.plan import Plan
from pipeline.cluster.worker import Computed
from pipeline.errors import HansardError
from pipeline.load import StageLoad

DEATHS = 3  # of workers under one unit of work, before its recording fails
_TOGETHER = 8  # units in one call of a worker, at most


@dataclass(eq=False)
class Unit:
    """Batches, or all that a stage without batches reads: `data` refers to them in the object
    store, `stage` (see `packed`) computes them, which the profile calls `node`. `answer` is
    awaited by who sent it, and cancelled where nobody wants it any more."""

    node: str
    stage: bytes
    data: Any
    answer: asyncio.Future[Computed]
    deaths: int = 0


@dataclass(eq=False)
class Worker:
    """A worker's actor, the node that it is meant for (see `pipeline.cluster.nodes`), and the
    units that it has; `busy` until the call that they were sent with has ended. `place` is empty
    until it is ready."""

    actor: Any
    node: str
    place: str = ""
    units: deque[Unit] = field(default_factory=deque)
    busy: bool = False
    free_since: float = 0.0

    @property
    def free(self) -> bool:
        return bool(self.place) and not self.busy


class Pool:
    """Units and workers, of one stage or of many. `stages` (see `packed`) are loaded before a
    worker is ready."""

    def __init__(self, plan: Plan, *stages: bytes) -> None:
        self.plan = plan
        self.stages = stages
        self.workers: list[Worker] = []
        self.refused = 0  # workers in a row that did not come to be
        self._waiting: deque[Unit] = deque()
        self._busy: defaultdict[str, float] = defaultdict(float)

    @property
    def ready(self) -> int:
        """Workers that have started."""
        return sum(bool(worker.place) for worker in self.workers)

    def add(self, unit: Unit) -> None:
        self._waiting.append(unit)

    def done(self, unit: Unit, computed: Computed) -> None:
        """Answers the unit, unless it was given up."""
        self._busy[unit.node] += computed.seconds
        if not unit.answer.done():
            unit.answer.set_result(computed)

    def leave(self, unit: Unit) -> None:
        """The unit is answered, or nobody wants it."""
        if unit in self._waiting:
            self._waiting.remove(unit)

    def again(self, unit: Unit) -> None:
        """Puts a unit that has lost its worker first in the queue."""
        if unit.answer.done():
            return
        if unit.deaths < DEATHS:
            self._waiting.appendleft(unit)
            return
        error = HansardError(
            f"stage {unit.node}: the worker died {DEATHS} times over the same piece of the "
            "recording (out of memory, or a crash)"
        )
        self.done(unit, Computed((), error))

    def fail(self, reason: str) -> None:
        """Answers all that wait."""
        while self._waiting:
            unit = self._waiting.popleft()
            self.done(unit, Computed((), HansardError(f"stage {unit.node}: {reason}")))

    def assign(self) -> Worker | None:
        """A worker, with what it is to do next; None where all are busy or nothing waits. Where
        much waits, it gets several units in one call: shares shrink as the queue does, so that
        none is left with many while others have nothing (guided self-scheduling: Polychronopoulos
        and Kuck, 1987)."""
        worker = next((worker for worker in self.workers if worker.free), None)
        if worker is None or not self._waiting:
            return None
        share = len(self._waiting) // (2 * len(self.workers))
        worker.busy = True
        worker.units.append(self._waiting.popleft())
        stage = worker.units[0].stage
        while self._waiting and len(worker.units) < min(share, _TOGETHER):
            if self._waiting[0].stage != stage:
                break
            worker.units.append(self._waiting.popleft())
        return worker

    def wants_more(self) -> bool:
        """Whether another worker would find work."""
        starting = sum(not worker.place for worker in self.workers)
        return len(self._waiting) > starting and len(self.workers) < self.plan.most

    def spare(self, seconds: float) -> Worker | None:
        """A worker that has had nothing to do for so long; never the last one."""
        if self._waiting or len(self.workers) < 2:
            return None
        before = time.monotonic() - seconds
        spare = (worker for worker in self.workers if worker.free and worker.free_since < before)
        return next(spare, None)

    def load(self, node: str) -> StageLoad:
        """Of the pool's units, those of one stage."""
        return StageLoad(
            waiting=sum(unit.node == node for unit in self._waiting),
            running=sum(unit.node == node for worker in self.workers for unit in worker.units),
            workers=len(self.workers),
            busy=self._busy[node],
        )
