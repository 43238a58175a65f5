"""Mono sound at any rate to 16 kHz by libswresample, and a stream of pieces to equal blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import av
import numpy as np
from numpy.typing import NDArray

from pipeline.stage import SAMPLE_RATE, Block
from stages.audio.timeline import Sound


def resampled(sounds: Iterable[Sound]) -> Iterator[NDArray[np.float32]]:
    """Mono sounds [1, n] at any rate to samples [n] at 16 kHz; the rate may change on the way."""
    resampler = None
    for sound in sounds:
        if resampler is None or resampler.rate != sound.rate:
            if resampler is not None:
                yield resampler.finish()
            resampler = Resampler(sound.rate)
        yield resampler.push(sound.samples)
    if resampler is not None:
        yield resampler.finish()


class Resampler:
    """libswresample, to 16 kHz: n samples become exactly ceil(n * 16000 / rate), in place."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._swr = av.AudioResampler(format="fltp", layout="mono", rate=SAMPLE_RATE)
        self._taken = 0
        self._given = 0

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Samples [1, n] in; what is ready so far, [m], out."""
        self._taken += samples.shape[1]
        return self._give(self._resample(samples))

    def finish(self) -> NDArray[np.float32]:
        """The rest. Silence pushes it out, as a flush gives nothing after very short inputs."""
        due = -(-self._taken * SAMPLE_RATE // self.rate) - self._given
        silence = np.zeros((1, self.rate // 10), dtype=np.float32)
        return self._give(self._resample(silence) + self._swr.resample(None))[:due]

    def _resample(self, samples: NDArray[np.float32]) -> list[av.AudioFrame]:
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate = self.rate
        return self._swr.resample(frame)

    def _give(self, frames: list[av.AudioFrame]) -> NDArray[np.float32]:
        arrays = [frame.to_ndarray()[0] for frame in frames]
        out = np.concatenate([np.empty(0, dtype=np.float32), *arrays])
        self._given += len(out)
        return out


def in_blocks(pieces: Iterable[NDArray[np.float32]], block_ms: int) -> Iterator[Block]:
    """The same samples, in blocks of `block_ms`; the last one is shorter."""
    size = block_ms * SAMPLE_RATE // 1000
    start = filled = 0
    block = np.empty(size, dtype=np.float32)
    for piece in pieces:
        while len(piece):
            taken = piece[: size - filled]
            block[filled : filled + len(taken)] = taken
            filled += len(taken)
            piece = piece[len(taken) :]
            if filled == size:
                yield Block(start, block)
                start += size
                filled, block = 0, np.empty(size, dtype=np.float32)
    if filled:
        yield Block(start, block[:filled])
