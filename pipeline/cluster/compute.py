"""Stages computed by the pools of a cluster, for the one recording that this process conducts."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

import ray

from pipeline.cluster.pools import Answer
from pipeline.cluster.worker import packed
from pipeline.graph import AUDIO, Node
from pipeline.loaded import LoadedStages
from pipeline.stage import BatchedStage, Inputs

_WINDOW = 2  # units of a recording under way, until the pool has told how many there may be


class InPools:
    """See `pipeline.executor.Compute`. `pools` is the pools' actor; once `stop` is done, whatever
    is waited for ends as KeyboardInterrupt."""

    def __init__(self, pools: Any, stop: Future[None]) -> None:
        self._pools = pools
        self._stop = stop
        self._here = LoadedStages()
        self._worked = 0.0

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

    def _results(self, recording: str, node: Node, units: Iterable[Any]) -> Iterator[Any]:
        """The result of each unit, in their order, as many under way as the pool allows."""
        window = _WINDOW
        stage = packed(node.stage)
        under_way: deque[_Sent] = deque()
        try:
            for unit in units:
                under_way.append(_Sent(self._pools, recording, node.name, stage, unit))
                while len(under_way) >= window:
                    answer = self._answer(under_way[0])
                    under_way.popleft()
                    window = answer.window
                    yield answer.computed.result
            while under_way:
                answer = self._answer(under_way[0])
                under_way.popleft()
                yield answer.computed.result
        finally:
            for sent in under_way:
                sent.cancel()

    def _answer(self, sent: _Sent) -> Answer:
        """Waits where signals reach it, which they do not inside of ray.get."""
        either: list[Future[Any]] = [sent.future, self._stop]
        wait(either, return_when=FIRST_COMPLETED)
        self.check_stop()
        answer: Answer = sent.future.result()
        if answer.computed.error is not None:
            raise answer.computed.error
        self._worked += answer.computed.seconds
        return answer


class _Sent:
    """A unit under way. Its data stay in the object store as long as this does."""

    def __init__(self, pools: Any, recording: str, node: str, stage: bytes, unit: Any) -> None:
        self._data = ray.put(packed(unit))
        self._call = pools.compute.remote(node, recording, stage, [self._data])
        self.future: Future[Answer] = self._call.future()

    def cancel(self) -> None:
        ray.cancel(self._call)
