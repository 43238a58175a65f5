"""Stages with their models in memory."""

from __future__ import annotations

import sys
from collections import OrderedDict, defaultdict
from typing import Any

from pipeline.memory import uncollected
from pipeline.stage import Stage

_KEPT = 3


class LoadedStages:
    """Stages of the graph, loaded: with the profile's parameters, and with those that single
    recordings have of their own. The latest few of a class stay in memory, so that an archive of
    recordings with hotwords of their own does not fill it. They compute with so many `threads`."""

    def __init__(self, threads: int | None = None) -> None:
        self._threads = threads
        self._loaded: defaultdict[type, OrderedDict[str, Stage[Any, Any]]]
        self._loaded = defaultdict(OrderedDict)

    def get(self, stage: Stage[Any, Any]) -> Stage[Any, Any]:
        """A stage equal to `stage`, loaded."""
        loaded, key = self._loaded[type(stage)], stage.parameters.model_dump_json()
        if key not in loaded:
            with uncollected():
                stage.load()
            loaded[key] = stage
            if len(loaded) > _KEPT:
                loaded.popitem(last=False)
        loaded.move_to_end(key)
        if self._threads is not None and (torch := sys.modules.get("torch")):
            torch.set_num_threads(self._threads)
        return loaded[key]
