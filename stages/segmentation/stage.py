"""The stage `segmentation`: chunks of ten seconds, and who of up to three local speakers is heard
in each frame of them. What two say at once is found here; who they are is the stage `overlap`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from pipeline.records import Segmentation
from pipeline.stage import SAMPLE_RATE, BatchedStage, Block, Inputs
from stages.compute import NetworkParameters
from stages.models import WithNetwork
from stages.segmentation.checkpoint import load_pyannet
from stages.segmentation.chunks import chunks
from stages.segmentation.pyannet import CHUNK_MS, PyanNet

_LEAST = SAMPLE_RATE  # samples; a shorter recording is followed by silence up to here
_PER_MS = SAMPLE_RATE // 1000


class SegmentationParameters(NetworkParameters):
    """Parameters of the segmentation stage."""

    speed_only: ClassVar[frozenset[str]] = NetworkParameters.speed_only | {"batch_size"}

    model: str = Field(
        "bundled/pyannet-en",
        description="bundled/NAME, or a folder with pyannote's segmentation-3.0",
    )
    step_ms: int = Field(
        5000, ge=500, le=CHUNK_MS, description="from one chunk of ten seconds to the next, in ms"
    )
    batch_size: int = Field(8, ge=1, description="chunks that one thread reads at once")


class ChunkBatch(NamedTuple):
    """`starts` int32 [B] in ms, and the samples of each chunk, float32 [B, T]."""

    starts: NDArray[np.int32]
    waveforms: NDArray[np.float32]


class PyanNetSegmentation(
    WithNetwork, BatchedStage[SegmentationParameters, Segmentation, ChunkBatch, Segmentation]
):
    """Chunks by start. Audio without a sample gives none."""

    package = "stages.segmentation"
    needs = ("audio",)
    version = 1
    parameters_type = SegmentationParameters
    artifact_type = Segmentation

    _network: PyanNet | None = None

    def load(self) -> None:
        self._network = load_pyannet(self.folder).to(self.device)

    def batches(self, inputs: Inputs) -> Iterator[ChunkBatch]:
        found = chunks(inputs.audio.blocks(), CHUNK_MS * _PER_MS, self.parameters.step_ms * _PER_MS)
        # Only a recording that is shorter than a chunk has one of another length.
        for _, alike in groupby(found, key=lambda chunk: len(chunk.samples)):
            while some := list(islice(alike, self.parameters.batch_size)):
                yield ChunkBatch(
                    np.array([chunk.start // _PER_MS for chunk in some], np.int32),
                    np.stack([_filled(chunk) for chunk in some]),
                )

    @torch.inference_mode()
    def compute(self, batch: ChunkBatch) -> Segmentation:
        if self._network is None:
            raise RuntimeError("the stage has no weights yet: call load() first")
        likely = self._network(torch.from_numpy(batch.waveforms).to(self.device)).exp().cpu()
        powerset, front = self._network.powerset, self._network.front
        centres = front.centre_ms + front.frame_ms * np.arange(likely.shape[1])
        return Segmentation(
            starts=batch.starts,
            centres=centres.astype(np.float32),
            active=_bytes(likely @ powerset.mapping),
            overlap=_bytes(likely[..., powerset.sizes > 1].sum(dim=-1)),
        )

    def merge(self, results: Iterable[Segmentation], inputs: Inputs) -> Segmentation:
        parts = sorted(results, key=lambda part: int(part.starts[0]))
        if not parts:
            return Segmentation(
                np.empty(0, np.int32),
                np.empty(0, np.float32),
                np.empty((0, 0, 0), np.uint8),
                np.empty((0, 0), np.uint8),
            )
        return Segmentation(
            np.concatenate([part.starts for part in parts]),
            parts[0].centres,
            np.concatenate([part.active for part in parts]),
            np.concatenate([part.overlap for part in parts]),
        )


def _filled(chunk: Block) -> NDArray[np.float32]:
    return np.pad(chunk.samples, (0, max(0, _LEAST - len(chunk.samples))))


def _bytes(chances: torch.Tensor) -> NDArray[np.uint8]:
    """Probabilities as whole numbers up to 255: a byte says enough, and hours stay small."""
    rounded: NDArray[np.uint8] = (255 * chances).round().clamp(0, 255).byte().numpy()
    return rounded
