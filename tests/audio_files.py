"""Makes the recordings that the tests of the audio input read, in many formats."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from scipy.signal import correlate

from pipeline.stage import Block
from stages.audio.decode import AudioParameters, AudioSource


class Samples:
    """A recording in memory, in blocks that divide nothing evenly."""

    def __init__(self, samples: NDArray[np.float32]) -> None:
        self.samples = samples
        self.notes: list[str] = []

    def blocks(self) -> Iterator[Block]:
        for start in range(0, len(self.samples), 7777):
            yield Block(start, self.samples[start : start + 7777])


def bursts(seconds: float, rate: int) -> NDArray[np.float32]:
    """Tone bursts that rise from 200 Hz and never repeat, float32 [n]; the same sound at any
    rate."""
    t = np.arange(round(seconds * rate)) / rate
    on = np.clip(4 * np.sin(2 * np.pi * 1.3 * t) + 1, 0, 1)
    return (0.4 * on * np.sin(2 * np.pi * (200 + 60 * t) * t)).astype(np.float32)


def encode(
    path: Path,
    samples: NDArray[np.float32],
    rate: int,
    codec: str,
    sample_format: str,
    *,
    start: float = 0.0,
    gap: tuple[float, float] | None = None,
    video: bool = False,
) -> Path:
    """Writes samples [n] or [channels, n]; `start` is the time of the first one in seconds;
    `gap` (at, long) moves what comes after `at` by `long` seconds."""
    samples = np.atleast_2d(samples)
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(samples)]
    with av.open(str(path), "w") as container:
        picture = container.add_stream("mpeg4", rate=5) if video else None
        stream = container.add_stream(codec, rate=rate)
        stream.layout = layout
        stream.format = sample_format
        if picture is not None:
            _film(container, picture, samples.shape[1] / rate + start)
        stream.codec_context.open(strict=False)
        size = stream.codec_context.frame_size or 1024
        resampler = av.AudioResampler(sample_format, layout, rate, frame_size=size)
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples), format="fltp", layout=layout
        )
        frame.sample_rate = rate
        frame.pts = round(start * rate)
        frame.time_base = Fraction(1, rate)
        for piece in resampler.resample(frame) + resampler.resample(None):
            if gap is not None and piece.time >= gap[0]:
                piece.pts += round(gap[1] / piece.time_base)
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return path


def _film(container: av.container.OutputContainer, stream: av.VideoStream, seconds: float) -> None:
    stream.width = stream.height = 64
    stream.pix_fmt = "yuv420p"
    for number in range(int(seconds * 5)):
        frame = av.VideoFrame(64, 64, "yuv420p")
        frame.pts = number
        frame.time_base = Fraction(1, 5)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def source(path: Path | str, **parameters: object) -> AudioSource:
    return AudioSource(str(path), AudioParameters.model_validate(parameters))


def read(path: Path | str, **parameters: object) -> tuple[NDArray[np.float32], list[str]]:
    """All samples of one pass, and the notes."""
    opened = source(path, **parameters)
    samples = np.concatenate([block.samples for block in opened.blocks()])
    return samples, opened.notes


def lag_and_correlation(
    samples: NDArray[np.float32], reference: NDArray[np.float32]
) -> tuple[int, float]:
    """How many samples late, at the best alignment, and the correlation there."""
    n = min(len(samples), len(reference))
    scores = correlate(samples[:n], reference[:n])
    lag = int(np.argmax(scores)) - (n - 1)
    late, early = samples[max(0, lag) : n + min(0, lag)], reference[max(0, -lag) : n - max(0, lag)]
    return lag, float(np.corrcoef(late, early)[0, 1])
