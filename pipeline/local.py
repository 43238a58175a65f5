"""Stages computed in this process, one after the other, each loaded once."""

from __future__ import annotations

import time
from typing import Any

from pipeline.graph import Graph, Node
from pipeline.load import StageLoad
from pipeline.loaded import LoadedStages
from pipeline.stage import Inputs


class InProcess:
    """See `pipeline.executor.Compute`."""

    def __init__(self, graph: Graph) -> None:
        self._loads = {node.name: StageLoad(workers=1) for node in graph.nodes}
        self._stages = LoadedStages()

    def run(self, recording: str, node: Node, inputs: Inputs) -> tuple[Any, float]:
        """The artifact, and the seconds from its first batch to its last."""
        stage = self._stages.get(node.stage)
        busy = self._loads[node.name].busy
        self._loads[node.name] = StageLoad(running=1, workers=1, busy=busy)
        began = time.perf_counter()
        try:
            artifact = stage.run(inputs)
        finally:
            seconds = time.perf_counter() - began
            self._loads[node.name] = StageLoad(workers=1, busy=busy + seconds)
        return artifact, seconds

    def loads(self) -> dict[str, StageLoad]:
        """How busy each stage is, in the order of the graph."""
        return dict(self._loads)
