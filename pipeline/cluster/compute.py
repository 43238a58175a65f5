"""Stages computed by the pools of a cluster, for the one recording that this process conducts."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from itertools import islice
from typing import Any

import ray

from pipeline.cluster.pools import Answer
from pipeline.cluster.worker import packed
from pipeline.graph import AUDIO, Node
from pipeline.loaded import LoadedStages
from pipeline.stage import BatchedStage, Inputs

_WINDOW = 2  # units of a recording under way, until the pool has told how many there may be
# Sending a unit takes some 40 ms of CPU, all processes together: as many batches go in one as are
# computed in two seconds, up to so many.
_UNIT_S = 2.0
_MOST = 32
_UNIT_BYTES = 24 << 20


class InPools:
    """See `pipeline.executor.Compute`. `pools` is the pools' actor; once `stop` is done, whatever
    is waited for ends as KeyboardInterrupt."""

    def __init__(self, pools: Any, stop: Future[None]) -> None:
        self._pools = pools
        self._stop = stop
        self._here = LoadedStages()
        self._worked = 0.0
        self._pace: dict[str, tuple[float, int]] = {}  # seconds and bytes a batch, by node

    def run(self, recording: str, node: Node, inputs: Inputs) -> tuple[Any, float]:
        """The artifact, and the seconds that workers and this process worked on it. Batches are
        cut here and merged here, in their order, so that the artifact is the one that a single
        process makes."""
        self._worked = 0.0
        began = time.thread_time()
        stage = node.stage
        if isinstance(stage, BatchedStage):
            results = self._results(recording, node, stage.batches(inputs))
            artifact = stage.merge(results, inputs)
        elif AUDIO in node.needs:  # what listens to everything is not sent the audio
            artifact = self._here.get(stage).run(inputs)
        else:
            ((artifact, notes),) = self._results(recording, node, [inputs.artifacts])
            inputs.notes += notes
        return artifact, self._worked + time.thread_time() - began

    def check_stop(self) -> None:
        """KeyboardInterrupt where the run is to stop."""
        if self._stop.done():
            raise KeyboardInterrupt

    def _results(self, recording: str, node: Node, batches: Iterable[Any]) -> Iterator[Any]:
        """The result of each batch, in their order, as many units under way as the pool allows."""
        window = _WINDOW
        stage = packed(node.stage)
        under_way: deque[_Sent] = deque()
        try:
            for unit in self._units(node.name, batches):
                under_way.append(_Sent(self._pools, recording, node.name, stage, *unit))
                while len(under_way) >= window:
                    answer = self._answer(node.name, under_way[0])
                    under_way.popleft()
                    window = answer.window
                    yield from answer.computed.results
            while under_way:
                answer = self._answer(node.name, under_way[0])
                under_way.popleft()
                yield from answer.computed.results
        finally:
            for sent in under_way:
                sent.cancel()

    def _units(self, node: str, batches: Iterable[Any]) -> Iterator[tuple[bytes, int]]:
        """Tuples of batches, `packed`, and how many are in each: as many as those before were quick
        and small."""
        coming = iter(batches)
        for first in coming:
            seconds, size = self._pace.get(node, (_UNIT_S, _UNIT_BYTES))
            most = min(_MOST, int(_UNIT_S / max(seconds, 1e-6)), _UNIT_BYTES // max(size, 1))
            unit = (first, *islice(coming, max(0, most - 1)))
            yield packed(unit), len(unit)

    def _answer(self, node: str, sent: _Sent) -> Answer:
        """Waits where signals reach it, which they do not inside of ray.get."""
        either: list[Future[Any]] = [sent.future, self._stop]
        wait(either, return_when=FIRST_COMPLETED)
        self.check_stop()
        answer: Answer = sent.future.result()
        if answer.computed.error is not None:
            raise answer.computed.error
        self._worked += answer.computed.seconds
        self._pace[node] = answer.computed.seconds / sent.batches, sent.size // sent.batches
        return answer


class _Sent:
    """A unit under way. Its data stay in the object store as long as this does."""

    def __init__(
        self, pools: Any, recording: str, node: str, stage: bytes, unit: bytes, batches: int
    ) -> None:
        self.batches = batches
        self.size = len(unit)
        self._data = ray.put(unit)
        self._call = pools.compute.remote(node, recording, stage, [self._data])
        self.future: Future[Answer] = self._call.future()

    def cancel(self) -> None:
        ray.cancel(self._call)
