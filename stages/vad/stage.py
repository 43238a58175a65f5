"""The stage `vad`: from the audio to the segments in which somebody speaks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.records import Span
from pipeline.stage import BatchedStage, Inputs, Parameters
from stages.audio.features import Fbank
from stages.models import WithModel
from stages.vad.endpoint import FRAME_MS, EndpointOptions, segments
from stages.vad.fsmn import FsmnModel, load_fsmn, read_config
from stages.vad.posteriors import Frames, Window, posteriors, windows
from stages.vad.splitting import split_long
from stages.vad.voicing import voiced_frames, with_voices


class FsmnVadParameters(Parameters):
    """Times in ms; the decision's names and defaults are FunASR's, but for what is faint or has no
    voice."""

    speed_only: ClassVar[frozenset[str]] = frozenset({"block_ms"})

    model: str = Field(
        "bundled/fsmn-en", description="bundled/NAME, or a folder in FunASR's published layout"
    )
    speech_noise_threshold: float = Field(
        0.6,
        description="by how much speech must be likelier than silence for a frame to count",
        ge=-1.0,
        le=1.0,
    )
    faint_threshold: float = Field(
        0.96,
        description="the same for a frame hardly louder than the room, and 15 dB or more below the "
        "recording's louder speech; FunASR asks no more of it than of any other (0.6)",
        ge=-1.0,
        le=1.0,
    )
    voiceless_threshold: float = Field(
        0.98,
        description="the same for a whole segment in which no voice sounds (paper, clothes, keys); "
        "FunASR asks nothing (-1)",
        ge=-1.0,
        le=1.0,
    )
    decibel_threshold: float = Field(
        -100.0, description="frames below this energy never count (full scale is about 26 dB)"
    )
    window_size: int = Field(200, description="sliding window over the frames, in ms", ge=10)
    sil_to_speech_time: int = Field(
        150, description="speech in the window at which a segment begins, in ms", ge=10
    )
    speech_to_sil_time: int = Field(
        150, description="speech in the window at which silence sets in, in ms", ge=0
    )
    max_end_silence_time: int = Field(800, description="silence that ends a segment, in ms", ge=10)
    lookback_time_start_point: int = Field(
        200, description="kept before the first speech, beside the window, in ms", ge=0
    )
    lookahead_time_end_point: int = Field(
        100, description="kept after the last speech, beside the window, in ms", ge=0
    )
    max_single_segment_time: int = Field(
        20_000, description="longer segments are cut at their best pause, in ms", ge=1000
    )
    block_ms: int = Field(30_000, description="audio that one thread reads at a time", ge=100)

    @property
    def endpoint(self) -> EndpointOptions:
        """The decision's part; segments are cut by `max_single_segment_time` alone."""
        return EndpointOptions(
            speech_noise_threshold=self.speech_noise_threshold,
            faint_threshold=self.faint_threshold,
            decibel_threshold=self.decibel_threshold,
            window_size=self.window_size,
            sil_to_speech_time=self.sil_to_speech_time,
            speech_to_sil_time=self.speech_to_sil_time,
            max_end_silence_time=self.max_end_silence_time,
            lookback_time_start_point=self.lookback_time_start_point,
            lookahead_time_end_point=self.lookahead_time_end_point,
        )


class Heard(NamedTuple):
    """A window's frames, and which of them are voiced, bool [n]."""

    frames: Frames
    voiced: NDArray[np.bool_]


class FsmnVad(WithModel, BatchedStage[FsmnVadParameters, tuple[Span, ...], Window, Heard]):
    """Posteriors window by window, then one decision over the whole recording."""

    package = "stages.vad"
    needs: ClassVar[tuple[str, ...]] = ("audio",)
    version: ClassVar[int] = 3
    parameters_type: ClassVar[type[Parameters]] = FsmnVadParameters
    artifact_type = tuple[Span, ...]

    _loaded: tuple[FsmnModel, Fbank] | None = None

    def load(self) -> None:
        model = load_fsmn(self.folder)
        self._loaded = model, Fbank(model.config.fbank)

    def batches(self, inputs: Inputs) -> Iterator[Window]:
        """The audio and what each window of it leans on; reads the model's config alone."""
        config = read_config(self.folder)
        return windows(inputs.audio.blocks(), config, self.parameters.block_ms // FRAME_MS)

    def compute(self, batch: Window) -> Heard:
        if self._loaded is None:
            raise RuntimeError("the stage has no weights yet: call load() first")
        frames = posteriors(batch, *self._loaded)
        if self.parameters.voiceless_threshold > -1:
            return Heard(frames, voiced_frames(batch, frames))
        return Heard(frames, np.zeros(len(frames.silence), bool))

    def merge(self, results: Iterable[Heard], inputs: Inputs) -> tuple[Span, ...]:
        parts = sorted(results, key=lambda heard: heard.frames.start)
        silence = np.concatenate([part.frames.silence for part in parts])
        decibel = np.concatenate([part.frames.decibel for part in parts])
        voiced = np.concatenate([part.voiced for part in parts])
        found = segments(silence, decibel, self.parameters.endpoint)
        least = self.parameters.voiceless_threshold
        spans = tuple(with_voices(found, silence, decibel, voiced, least))
        return split_long(spans, silence, decibel, self.parameters.max_single_segment_time)
