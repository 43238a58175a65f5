"""Light stages that show on which processes of a cluster they ran. What a stage leaves behind are
empty files in the folder that its parameter `traces` names."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar

import ray

from benchmarks.simulation import Loudness, LoudnessParameters, OneSpeaker, OneTurn
from pipeline.records import SpeakerSegment, Word
from pipeline.stage import Block, Inputs

PROFILE = """\
language: en
audio:
  source: benchmarks.simulation:SimulatedSource
words:
  stage: tests.ray_stages:Traced
clustering:
  stage: tests.ray_stages:GivenSpeakers
turns:
  stage: tests.ray_stages:Said
"""
_PATIENCE = 120.0


class TracedParameters(LoudnessParameters):
    """`processes`: a batch is not done before so many processes of the stage have begun one;
    `conductor_deaths`: so many conductors die of merging."""

    speed_only: ClassVar[frozenset[str]] = frozenset(
        {"work", "traces", "processes", "conductor_deaths"}
    )
    traces: str = ""
    processes: int = 0
    conductor_deaths: int = 0


class Traced(Loudness):
    """Leaves cut.N and done.N for the batch of second N, PID@NODE for each process, and death.N
    for the Nth conductor that dies."""

    parameters_type = TracedParameters
    parameters: TracedParameters

    def batches(self, inputs: Inputs) -> Iterator[Block]:
        for second, block in enumerate(super().batches(inputs)):
            self._leave(f"cut.{second}")
            yield block

    def compute(self, batch: Block) -> Word:
        self._leave(f"{os.getpid()}@{ray.get_runtime_context().get_node_id()}")
        deadline = time.monotonic() + _PATIENCE
        while len(list(self._traces.glob("*@*"))) < self.parameters.processes:
            assert time.monotonic() < deadline, "no other process computes"
            time.sleep(0.05)
        word = super().compute(batch)
        self._leave(f"done.{batch.start // len(batch.samples)}")
        return word

    def merge(self, results: Iterable[Word], inputs: Inputs) -> tuple[Word, ...]:
        deaths = len(list(self._traces.glob("death.*")))
        if deaths < self.parameters.conductor_deaths:
            self._leave(f"death.{deaths}")
            os.kill(os.getpid(), signal.SIGKILL)
        return super().merge(results, inputs)

    @property
    def _traces(self) -> Path:
        return Path(self.parameters.traces)

    def _leave(self, name: str) -> None:
        if self.parameters.traces:
            (self._traces / name).touch()


class SpeakersParameters(LoudnessParameters):
    """`speakers`: how many there are said to be."""

    speakers: int = 1


class GivenSpeakers(OneSpeaker):
    """All of them are heard all the time."""

    needs = ("words",)
    parameters_type = SpeakersParameters
    parameters: SpeakersParameters

    def run(self, inputs: Inputs) -> tuple[SpeakerSegment, ...]:
        ((start, end, _),) = super().run(inputs)
        count = self.parameters.speakers
        return tuple(SpeakerSegment(start, end, f"S{n}") for n in range(1, count + 1))


class Said(OneTurn):
    """By the first of them."""

    needs = ("words", "clustering")
