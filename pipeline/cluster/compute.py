"""Stages computed for the one recording that this process conducts: here, and by workers of the
cluster."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import ray

from pipeline.cluster.places import Report
from pipeline.cluster.worker import Computed, computed, packed
from pipeline.graph import AUDIO, Node
from pipeline.loaded import LoadedStages
from pipeline.stage import BatchedStage, Inputs

# Sending a unit takes some 40 ms of CPU, all processes together: as many batches go in one as are
# computed in two seconds, up to so many.
_UNIT_S = 2.0
_MOST = 32
_UNIT_BYTES = 24 << 20
_TELL = 0.5  # seconds between two reports of where a recording is
_AHEAD = 256  # units computed here while an earlier one is not back


class WithWorkers:
    """See `pipeline.executor.Compute`. What has no workers of its own is computed in this process
    with so many `threads`, and batches of it by helpers where the cluster has CPUs to spare.
    `pools` is the pools' actor, `own` the stages with workers of their own; once `stop` is done,
    whatever is waited for ends as KeyboardInterrupt."""

    def __init__(self, pools: Any, own: Collection[str], threads: int, stop: Future[None]) -> None:
        self._pools = pools
        self._own = own
        self._stop = stop
        self._here = LoadedStages(threads)
        self._worked = 0.0  # seconds, by workers on the present artifact
        self._paces: defaultdict[str, _Pace] = defaultdict(_Pace)  # by node
        self._node = ray.get_runtime_context().get_node_id()
        self._told_stage = ""
        self._told_at = 0.0
        self._told_work = time.thread_time()
        self._answer: Future[int] = Future()  # to what was told last
        self._room = 0

    def tell(self, recording: str, stage: str, completed: int, total: int) -> None:
        """Tells the pools where the recording is (stage "" once it has ended): when a stage begins
        and ends, and now and then meanwhile. They answer how many units of the stage may be with
        workers."""
        now, work = time.monotonic(), time.thread_time()
        if completed != total and stage == self._told_stage and now - self._told_at < _TELL:
            return
        report = Report(recording, stage, completed, total, self._node, work - self._told_work)
        self._told_stage, self._told_at, self._told_work = stage, now, work
        self._answer = self._pools.tell.remote(report).future()

    def run(self, recording: str, node: Node, inputs: Inputs) -> tuple[Any, float]:
        """The artifact, and the seconds that workers and this process worked on it. Batches are
        cut here and merged here, in their order, so that the artifact is the one that a single
        process makes."""
        self._worked = 0.0
        began = time.thread_time()
        stage = node.stage
        if isinstance(stage, BatchedStage):
            results = self._results(node, stage.batches(inputs))
            artifact = stage.merge(results, inputs)
        elif node.name not in self._own or AUDIO in node.needs:  # no worker is sent all the audio
            artifact = self._here.get(stage).run(inputs)
        else:
            ((artifact, notes),) = self._results(node, [inputs.artifacts])
            inputs.notes += notes
        return artifact, self._worked + time.thread_time() - began

    def check_stop(self) -> None:
        """KeyboardInterrupt where the run is to stop."""
        if self._stop.done():
            raise KeyboardInterrupt

    def _results(self, node: Node, batches: Iterable[Any]) -> Iterator[Any]:
        """The result of each batch, in their order. Units go to workers as long as these have
        room for them; meanwhile the batches that follow are computed here."""
        own, pace = node.name in self._own, self._paces[node.name]
        send = partial(_sent, self._pools, node)
        compute = partial(_computed, None if own else self._here.get(node.stage))
        under_way: deque[_Unit] = deque()
        coming = iter(batches)
        self._wait_for(self._answer)
        try:
            while True:
                away = sum(not unit.answer.done() for unit in under_way)
                if away < self._allowed():
                    make, count = send, pace.batches
                elif not own and len(under_way) < _AHEAD:
                    make, count = compute, 1
                else:
                    yield from self._first(under_way, pace)
                    continue
                if not (unit := tuple(islice(coming, count))):
                    break
                under_way.append(make(unit))
                while under_way and under_way[0].answer.done():
                    yield from self._first(under_way, pace)
            while under_way:
                yield from self._first(under_way, pace)
        finally:
            for left in under_way:
                left.cancel()

    def _allowed(self) -> int:
        """How many units may be with workers, by the latest answer."""
        self.check_stop()
        if self._answer.done():
            self._room = self._answer.result()
        return self._room

    def _first(self, under_way: deque[_Unit], pace: _Pace) -> tuple[Any, ...]:
        """The results of the first unit, which is under way no longer."""
        unit = under_way[0]
        self._wait_for(unit.answer)
        under_way.popleft()
        told = unit.answer.result()
        if told.error is not None:
            raise told.error
        if unit.call is not None:
            self._worked += told.seconds
            pace.size = unit.size // len(told.results)
        pace.seconds = told.seconds / len(told.results)
        return told.results

    def _wait_for(self, answer: Future[Any]) -> None:
        """Where signals reach it, which they do not inside of ray.get."""
        if not answer.done():
            either: list[Future[Any]] = [answer, self._stop]
            wait(either, return_when=FIRST_COMPLETED)
        self.check_stop()


@dataclass
class _Pace:
    """What a batch of a stage took last: seconds, and bytes on its way."""

    seconds: float = _UNIT_S
    size: int = _UNIT_BYTES

    @property
    def batches(self) -> int:
        """That make a unit."""
        quick, small = _UNIT_S / max(self.seconds, 1e-6), _UNIT_BYTES // max(self.size, 1)
        return max(1, min(_MOST, int(quick), small))


@dataclass(frozen=True, eq=False)
class _Unit:
    """Batches under way. `data` holds what was sent in the object store, `size` is its bytes;
    `call` is None where nothing was sent."""

    answer: Future[Computed]
    call: Any = None
    data: Any = None
    size: int = 0

    def cancel(self) -> None:
        if self.call is not None:
            ray.cancel(self.call)


def _sent(pools: Any, node: Node, batches: tuple[Any, ...]) -> _Unit:
    unit = packed(batches)
    data = ray.put(unit)
    stage = packed(type(node.stage)(node.stage.parameters))  # without the models loaded here
    call = pools.compute.remote(node.name, stage, [data])
    return _Unit(call.future(), call, data, len(unit))


def _computed(stage: Any, batches: tuple[Any, ...]) -> _Unit:
    answer: Future[Computed] = Future()
    answer.set_result(computed(stage, batches))
    return _Unit(answer)
