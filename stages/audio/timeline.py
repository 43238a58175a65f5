"""From packets to float samples at their true times: broken packets are passed over, and where
the time stamps jump forward, silence keeps every later word at its time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

from stages.audio.container import Media

_GAP_SECONDS = 0.1
_LONGEST_GAP = 3600.0
_ABSURD = 65536.0


class Sound(NamedTuple):
    """Float32 samples [channels, n], full scale 1.0, at `rate` Hz."""

    rate: int
    samples: NDArray[np.float32]


class _Layout(NamedTuple):
    """What a decoder's frames look like: FFmpeg's sample format, and so on."""

    format: str
    planar: bool
    channels: int
    rate: int


class Timeline:
    """One pass over a recording's audio; `seconds` is how far it has come."""

    def __init__(self, media: Media) -> None:
        self.seconds = 0.0
        self._media = media
        self._broken_packets = 0
        self._broken_end = False
        self._not_numbers = 0
        self._gaps = 0
        self._gap_seconds = 0.0
        self._wild_jumps = 0
        self._not_followed = 0.0

    def sounds(self) -> Iterator[Sound]:
        """Sounds of about a second, whatever the size of the codec's frames: mixing and
        resampling cost more a call than a sample."""
        layout = None
        waiting = av.AudioFifo()
        for frame in self._frames():
            seen = _Layout(
                frame.format.name,
                frame.format.is_planar,
                frame.layout.nb_channels,
                frame.sample_rate,
            )
            gap = self._gap_before(frame)
            if layout is not None and (gap or seen != layout or waiting.samples >= layout.rate):
                yield from self._sound(waiting, layout)
                waiting = av.AudioFifo()
            layout = seen
            yield from self._silence(gap, layout)
            frame.pts = None  # gaps are filled: what comes next follows
            waiting.write(frame)
            self.seconds += frame.samples / layout.rate
        if layout is not None:
            yield from self._sound(waiting, layout)

    def notes(self) -> Iterator[str]:
        """What was wrong, after the pass."""
        if self._broken_packets:
            yield f"{_count(self._broken_packets, 'packet')} could not be decoded"
        if self._broken_end:
            yield f"damaged: unreadable from {self.seconds:.1f} s on"
        if self._gaps:
            gaps = _count(self._gaps, "gap")
            yield f"{gaps} in the time stamps filled with silence, {self._gap_seconds:.1f} s in all"
        if self._wild_jumps:
            jumps = _count(self._wild_jumps, "jump")
            yield f"{jumps} of the time stamps past the end, not followed"
        if self._not_numbers:
            samples = _count(self._not_numbers, "sample")
            yield f"{samples} NaN, infinite or absurdly large: set to 0"

    def _frames(self) -> Iterator[av.AudioFrame]:
        packets = self._media.container.demux(self._media.stream)
        while True:
            try:
                packet = next(packets, None)
            except av.error.InvalidDataError:
                self._broken_end = True
                packet = None
            if packet is None:
                return
            try:
                yield from packet.decode()
            except (av.error.InvalidDataError, av.error.EOFError):
                self._broken_packets += 1

    def _gap_before(self, frame: av.AudioFrame) -> float:
        """Seconds of silence owed before the frame. Time stamps that lag behind the samples, by
        a slow clock or a restart, are not followed: no sound is ever dropped."""
        if frame.time is None:
            return 0.0
        clock = frame.time - self._media.zero - self._not_followed
        gap = clock - self.seconds
        if gap <= _GAP_SECONDS:
            return 0.0
        end = self._media.end
        if gap > _LONGEST_GAP or (end is not None and self.seconds + gap > end + 1):
            self._wild_jumps += 1
            self._not_followed += gap
            return 0.0
        self._gaps += 1
        self._gap_seconds += gap
        return gap

    def _silence(self, gap: float, layout: _Layout) -> Iterator[Sound]:
        left = round(gap * layout.rate)
        self.seconds += left / layout.rate
        while left:
            samples = min(left, layout.rate)
            yield Sound(layout.rate, np.zeros((layout.channels, samples), dtype=np.float32))
            left -= samples

    def _sound(self, waiting: av.AudioFifo, layout: _Layout) -> Iterator[Sound]:
        """What has gathered, if anything, as float32 [channels, n]."""
        frame = waiting.read()
        if frame is None:
            return
        joined = frame.to_ndarray()
        samples = _to_float(joined)
        if not layout.planar:
            samples = np.ascontiguousarray(samples.reshape(-1, layout.channels).T)
        if joined.dtype.kind == "f":
            bad = ~(np.abs(samples) <= _ABSURD)
            if bad.any():
                self._not_numbers += int(bad.sum())
                samples = np.where(bad, np.zeros_like(samples), samples)
        yield Sound(layout.rate, samples)


def _to_float(samples: NDArray[np.generic]) -> NDArray[np.float32]:
    """Any of FFmpeg's sample formats, to float32 with full scale 1.0."""
    if samples.dtype.kind == "f":
        with np.errstate(over="ignore"):  # a double too large for float32 becomes infinite
            return samples.astype(np.float32, copy=False)
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - np.float32(128)) * np.float32(1 / 128)
    scale = np.float32(2.0 ** -(8 * samples.dtype.itemsize - 1))
    return samples.astype(np.float32) * scale


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
