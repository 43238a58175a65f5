"""A worker: a process that holds the models of stages and computes batches of them."""

from __future__ import annotations

import pickle
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pipeline.executor import worker
from pipeline.loaded import LoadedStages
from pipeline.memory import release
from pipeline.stage import BatchedStage, Block, Inputs, Stage

_RELEASE_UNITS = 8  # between two calls of `release`


@dataclass(frozen=True)
class Computed:
    """What became of a unit of work: the result of each of its batches, or the error that it
    ended with. `seconds` all together."""

    results: tuple[Any, ...]
    error: Exception | None = None
    seconds: float = 0.0


class Began:
    """Told before the first unit of a call: from now on, whoever dies dies of a unit."""


class StageWorker:
    """The actor."""

    def __init__(self, threads: int) -> None:
        self._stages = LoadedStages(threads)
        self._units = 0

    def ready(self, *stages: bytes) -> str:
        """Where it runs, once the `stages` are loaded. Where that fails, the first unit of work
        says so."""
        with suppress(Exception):
            for stage in stages:
                self._loaded(stage)
        return worker()

    def compute(self, stage: bytes, *units: bytes) -> Iterator[Began | Computed]:
        """What becomes of each unit, in their order: a tuple of batches of a stage with batches,
        else of the one dict of artifacts that the stage needs. All are `packed`."""
        yield Began()
        for unit in units:
            try:
                yield computed(self._loaded(stage), pickle.loads(unit))
            except Exception as error:
                yield Computed((), _portable(error))
            self._units += 1
            if self._units % _RELEASE_UNITS == 0:
                release()

    def _loaded(self, stage: bytes) -> Stage[Any, Any]:
        return self._stages.get(pickle.loads(stage))


def computed(stage: Stage[Any, Any], batches: tuple[Any, ...]) -> Computed:
    """The result of each batch of a loaded stage."""
    began = time.perf_counter()
    results = tuple(_result(stage, batch) for batch in batches)
    return Computed(results, None, time.perf_counter() - began)


def packed(what: Any) -> bytes:
    """A stage or a unit as it travels: who passes it on need not import its classes, and who gets
    it has arrays of its own, which torch may write to (Ray's are read-only, in shared memory)."""
    return pickle.dumps(what, protocol=pickle.HIGHEST_PROTOCOL)


class NoAudio:
    """The audio of a stage that reads artifacts alone."""

    notes: list[str]

    def blocks(self) -> Iterator[Block]:
        """None."""
        return iter(())


def _result(stage: Stage[Any, Any], unit: Any) -> Any:
    """Of a whole stage, the artifact and the notes."""
    if isinstance(stage, BatchedStage):
        return stage.compute(unit)
    inputs = Inputs(NoAudio(), unit)
    return stage.run(inputs), inputs.notes


def _portable(error: Exception) -> Exception:
    """The error as another process can read it, with its traceback as a note."""
    error.add_note("".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever an error's own class may do
        told = RuntimeError(f"{type(error).__name__}: {error}")
        told.__notes__ = error.__notes__
        return told
    return error.with_traceback(None)
