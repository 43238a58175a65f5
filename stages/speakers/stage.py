"""Speaker embeddings: a vector for every 1.5 s of speech, every 0.75 s, to be clustered.

Source: the windows of 3D-Speaker's and FunASR's diarization (`sv_chunk`), CAM++ on each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from pipeline.records import Embeddings, Span
from pipeline.stage import SAMPLE_RATE, BatchedStage, Inputs
from stages.audio.cutting import cut
from stages.compute import NetworkParameters
from stages.models import WithNetwork
from stages.speakers.embedder import SpeakerEmbedder, load_embedder, read_sizes


class CamPlusPlusParameters(NetworkParameters):
    """Parameters of the embedding stage."""

    speed_only: ClassVar[frozenset[str]] = NetworkParameters.speed_only | {"batch_size"}

    model: str = Field(
        "bundled/campplus-en", description="bundled/NAME, or a folder with a published CAM++"
    )
    window_ms: int = Field(1500, ge=200, description="speech that one embedding stands for, in ms")
    step_ms: int = Field(750, ge=50, description="from one window's start to the next, in ms")
    batch_size: int = Field(16, ge=1, description="windows that one thread embeds at once")


class WindowBatch(NamedTuple):
    """`spans` int32 [B, 2] (start, end in ms) and the samples of each, float32 [B, T]."""

    spans: NDArray[np.int32]
    waveforms: NDArray[np.float32]


class CamPlusPlusStage(
    WithNetwork, BatchedStage[CamPlusPlusParameters, Embeddings, WindowBatch, Embeddings]
):
    """Windows over each speech segment, sorted by start. No speech gives no embeddings."""

    package = "stages.speakers"
    needs = ("audio", "vad")
    version = 1
    parameters_type = CamPlusPlusParameters
    artifact_type = Embeddings

    _embedder: SpeakerEmbedder | None = None

    def load(self) -> None:
        self._embedder = load_embedder(self.folder).to(self.device)

    def batches(self, inputs: Inputs) -> Iterator[WindowBatch]:
        """Every window has the same length: a shorter segment is repeated until it fills one,
        as it is in the reference."""
        segments: tuple[Span, ...] = inputs.artifacts["vad"]
        spans = windows(segments, self.parameters.window_ms, self.parameters.step_ms)
        length = self.parameters.window_ms * SAMPLE_RATE // 1000
        cuts = cut(inputs.audio, spans)
        while some := list(islice(cuts, self.parameters.batch_size)):
            yield WindowBatch(
                np.array([spans[index] for index, _ in some], dtype=np.int32),
                np.stack([np.resize(samples, length) for _, samples in some]),
            )

    @torch.inference_mode()
    def compute(self, batch: WindowBatch) -> Embeddings:
        if self._embedder is None:
            raise RuntimeError("the stage has no weights yet: call load() first")
        vectors = self._embedder(torch.from_numpy(batch.waveforms).to(self.device))
        return Embeddings(batch.spans, vectors.cpu().numpy())

    def merge(self, results: Iterable[Embeddings], inputs: Inputs) -> Embeddings:
        parts = list(results)
        if not parts:
            dim = read_sizes(self.folder).embedding_size
            return Embeddings(np.empty((0, 2), np.int32), np.empty((0, dim), np.float32))
        spans = np.concatenate([part.spans for part in parts])
        order = np.lexsort((spans[:, 1], spans[:, 0]))
        return Embeddings(spans[order], np.concatenate([part.vectors for part in parts])[order])


def windows(segments: Sequence[Span], window_ms: int, step_ms: int) -> list[Span]:
    """The windows over each segment, by start: the last one ends with its segment, and a
    segment no longer than a window is one of its own.

    >>> windows([Span(0, 900), Span(2000, 4600)], 1500, 750)
    [Span(start=0, end=900), Span(start=2000, end=3500), Span(start=2750, end=4250), \
Span(start=3100, end=4600)]
    """
    found = []
    for segment in segments:
        last = max(segment.start, segment.end - window_ms)
        starts = [*range(segment.start, last, step_ms), last]
        found += [Span(start, min(start + window_ms, segment.end)) for start in starts]
    return found
