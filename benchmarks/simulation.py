"""A profile whose stages compute next to nothing, to see what everything around them costs; and
recordings that need no file."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator
from typing import ClassVar

import numpy as np

from pipeline.records import Sentence, SpeakerSegment, Turn, Word
from pipeline.stage import (
    SAMPLE_RATE,
    AudioInfo,
    BatchedStage,
    Block,
    Inputs,
    Parameters,
    Stage,
)

PROFILE = """\
language: en
audio:
  source: benchmarks.simulation:SimulatedSource
words:
  stage: benchmarks.simulation:Loudness
timeline:
  stage: benchmarks.simulation:OneSpeaker
turns:
  stage: benchmarks.simulation:OneTurn
"""


class SimulatedParameters(Parameters):
    """`seconds`: of each recording."""

    seconds: int = 2


class SimulatedSource:
    """A tone that depends on the location's name."""

    parameters_type = SimulatedParameters

    def __init__(self, location: str, parameters: SimulatedParameters) -> None:
        self.location = location
        self.parameters = parameters
        self.notes: list[str] = []

    def probe(self) -> AudioInfo:
        return AudioInfo(self.parameters.seconds * 1000, 1, SAMPLE_RATE, "simulated")

    def fingerprint(self) -> str:
        return hashlib.sha256(self.location.encode()).hexdigest()

    def blocks(self) -> Iterator[Block]:
        level = int(self.fingerprint()[:4], 16) / 65536
        for second in range(self.parameters.seconds):
            yield Block(second * SAMPLE_RATE, np.full(SAMPLE_RATE, level, np.float32))


class LoudnessParameters(Parameters):
    """`work`: seconds that a batch takes."""

    speed_only: ClassVar[frozenset[str]] = frozenset({"work"})
    work: float = 0.0


class Loudness(BatchedStage[LoudnessParameters, tuple[Word, ...], Block, Word]):
    """A word a second: how loud it is. A batch is a second."""

    needs = ("audio",)
    version = 1
    parameters_type = LoudnessParameters
    artifact_type = tuple[Word, ...]

    def batches(self, inputs: Inputs) -> Iterator[Block]:
        for block in inputs.audio.blocks():
            for start in range(0, len(block.samples), SAMPLE_RATE):
                yield Block(block.start + start, block.samples[start : start + SAMPLE_RATE])

    def compute(self, batch: Block) -> Word:
        time.sleep(self.parameters.work)
        start = batch.start * 1000 // SAMPLE_RATE
        level = float(np.sqrt(np.mean(np.square(batch.samples))))
        return Word(f"{level:.6f}", start, start + len(batch.samples) * 1000 // SAMPLE_RATE, 1.0)

    def merge(self, results: Iterable[Word], inputs: Inputs) -> tuple[Word, ...]:
        return tuple(results)


class OneSpeaker(Stage[LoudnessParameters, tuple[SpeakerSegment, ...]]):
    """Somebody who is heard all the time."""

    needs = ("words",)
    version = 1
    parameters_type = LoudnessParameters
    artifact_type = tuple[SpeakerSegment, ...]

    def run(self, inputs: Inputs) -> tuple[SpeakerSegment, ...]:
        time.sleep(self.parameters.work)
        words: tuple[Word, ...] = inputs.artifacts["words"]
        return (SpeakerSegment(words[0].start, words[-1].end, "S1"),)


class OneTurn(Stage[LoudnessParameters, tuple[Turn, ...]]):
    """All words as one turn."""

    needs = ("words", "timeline")
    version = 1
    parameters_type = LoudnessParameters
    artifact_type = tuple[Turn, ...]

    def run(self, inputs: Inputs) -> tuple[Turn, ...]:
        time.sleep(self.parameters.work)
        return (Turn("S1", (Sentence(inputs.artifacts["words"]),)),)
