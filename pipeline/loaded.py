"""Stages with their models in memory."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from pipeline.memory import uncollected
from pipeline.stage import Stage

_KEPT = 3


class LoadedStages:
    """One stage of the graph, loaded: with the profile's parameters, and with those that single
    recordings have of their own. The latest few stay in memory, so that an archive of recordings
    with hotwords of their own does not fill it."""

    def __init__(self) -> None:
        self._loaded: OrderedDict[tuple[type, str], Stage[Any, Any]] = OrderedDict()

    def get(self, stage: Stage[Any, Any]) -> Stage[Any, Any]:
        """A stage equal to `stage`, loaded."""
        key = type(stage), stage.parameters.model_dump_json()
        if key not in self._loaded:
            with uncollected():
                stage.load()
            self._loaded[key] = stage
            if len(self._loaded) > _KEPT:
                self._loaded.popitem(last=False)
        self._loaded.move_to_end(key)
        return self._loaded[key]
