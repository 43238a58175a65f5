"""The contract between the graph and a stage: what it needs, what it gives, how it runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from pipeline.lanes import cores, side_by_side

SAMPLE_RATE = 16000


class Parameters(BaseModel):
    """Base of every stage's parameters: an unknown key is an error, values never change.
    `speed_only` names those that change the speed and not the result (batch sizes, say):
    they are left out of artifact keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    speed_only: ClassVar[frozenset[str]] = frozenset()


class Block(NamedTuple):
    """Consecutive samples of a recording. `start` in samples at 16 kHz from its beginning;
    `samples` float32 [n], mono, full scale 1.0."""

    start: int
    samples: NDArray[np.float32]


class AudioInfo(NamedTuple):
    """What a container states; `duration_ms` 0 where it says nothing."""

    duration_ms: int
    channels: int
    sample_rate: int
    codec: str


class Audio(Protocol):
    """A recording's audio, streamed anew on every call of `blocks`: 16 kHz, mono, gapless.
    `notes` gathers what a reader should know of the input (truncated, say)."""

    notes: list[str]

    def blocks(self) -> Iterator[Block]: ...


class Source(Audio, Protocol):
    """A recording that can be opened: the root of the graph. Made as `Class(location,
    parameters)`; `fingerprint` changes with the content. InputError where it cannot be read."""

    parameters_type: ClassVar[type[Parameters]]

    def __init__(self, location: str, parameters: Any) -> None: ...
    def probe(self) -> AudioInfo: ...
    def fingerprint(self) -> str: ...


@dataclass
class Inputs:
    """What a stage reads: artifacts by the name of the stage that gave them, and the audio.
    A stage adds to `notes` (for the provenance) whatever a reader should know: a fallback
    taken, a limit reached."""

    audio: Audio
    artifacts: Mapping[str, Any]
    notes: list[str] = field(default_factory=list)


ParametersT = TypeVar("ParametersT", bound=Parameters)
BatchT = TypeVar("BatchT")
ResultT = TypeVar("ResultT")
ArtifactT = TypeVar("ArtifactT")


class Stage(ABC, Generic[ParametersT, ArtifactT]):
    """One node of the graph. Made from its parameters alone (cheap: no weights are read);
    `load` runs once a worker; `run` is a pure function of its inputs.

    `needs` names the artifacts it reads ("audio" for the samples). `version` is raised
    whenever the same inputs would give another result, so that old artifacts are not reused.
    """

    needs: ClassVar[tuple[str, ...]]
    version: ClassVar[int]
    parameters_type: ClassVar[type[Parameters]]
    artifact_type: ClassVar[Any]

    def __init__(self, parameters: ParametersT) -> None:
        self.parameters = parameters

    @property
    def model(self) -> str:
        """The model's name, for the provenance; empty where there is none."""
        return ""

    def weights_digest(self) -> str:
        """`sha256:...` over the weights that `load` reads; empty where there are none."""
        return ""

    def check_here(self, name: str) -> None:
        """ModelError where this machine cannot run it, for want of a GPU say; `name` is the
        stage's in the profile."""
        return

    def load(self) -> None:
        """Reads the weights. Nothing to do for a stage without any."""
        return

    @abstractmethod
    def run(self, inputs: Inputs) -> ArtifactT: ...


class BatchedStage(Stage[ParametersT, ArtifactT], Generic[ParametersT, ArtifactT, BatchT, ResultT]):
    """A stage whose work splits into independent batches of audio.

    `batches` is cheap and streams (it cuts, it computes nothing heavy); `compute` runs the
    network, in any order and on any worker or thread; `merge` puts the results into the artifact.
    """

    @abstractmethod
    def batches(self, inputs: Inputs) -> Iterable[BatchT]: ...

    @abstractmethod
    def compute(self, batch: BatchT) -> ResultT: ...

    @abstractmethod
    def merge(self, results: Iterable[ResultT], inputs: Inputs) -> ArtifactT: ...

    @property
    def lanes(self) -> int:
        """How many batches `run` computes at once."""
        return cores()

    def run(self, inputs: Inputs) -> ArtifactT:
        return self.merge(side_by_side(self.compute, self.batches(inputs), self.lanes), inputs)


class Hook(Protocol):
    """Called as work goes on, in the manner of pyannote.audio's pipeline hooks:
    `completed` and `total` are milliseconds of audio, or steps of the stage."""

    def __call__(self, recording: str, stage: str, completed: int, total: int) -> None: ...


def no_hook(recording: str, stage: str, completed: int, total: int) -> None:
    """The hook that shows nothing."""
