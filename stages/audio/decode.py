"""The audio of a recording in any format that FFmpeg reads, as a stream of 16 kHz mono blocks in
constant memory: decoded by PyAV, mixed by the mean of the channels, resampled by libswresample.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import ClassVar, Literal

import av
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt

from pipeline.errors import InputError
from pipeline.stage import SAMPLE_RATE, AudioInfo, Block, Parameters
from stages.audio import location
from stages.audio.container import Media, RawPcm, open_media
from stages.audio.cutting import prefetch
from stages.audio.resample import in_blocks, resampled
from stages.audio.timeline import Sound, Timeline

_LENGTH_TOLERANCE = 1.0
_QUIET = 10 ** (-50 / 20)
_DC_LIMIT = 0.02
_CANCELLED = 10 ** (-25 / 10)


class AudioParameters(Parameters):
    """How recordings are read. The pcm_* ones describe raw PCM, and count where pcm_rate is
    given: every recording is then taken for raw PCM."""

    speed_only: ClassVar[frozenset[str]] = frozenset({"block_ms"})

    channel: Literal["mix"] | NonNegativeInt = Field(
        "mix", description='"mix" for the mean of all channels, or the number of one, from 0'
    )
    pcm_rate: int | None = Field(None, description="raw PCM: samples a second", ge=1000, le=768000)
    pcm_channels: int = Field(1, description="raw PCM: interleaved channels", ge=1, le=64)
    pcm_format: Literal[
        "s16le", "s16be", "s24le", "s32le", "f32le", "f64le", "u8", "s8", "mulaw", "alaw"
    ] = Field("s16le", description="raw PCM: sample format, as FFmpeg names it")
    block_ms: int = Field(60_000, description="audio decoded at a time, in ms", ge=100)


class AudioSource:
    """One recording. Nothing is read before a method is called; each call reads anew.

    `notes` tells what is wrong with the file, and is complete after one whole pass. Samples are
    never scaled, clipped or filtered: a DC offset stays (features take it out frame by frame).
    """

    parameters_type: ClassVar[type[Parameters]] = AudioParameters

    def __init__(self, location: str, parameters: AudioParameters) -> None:
        self.location = location
        self.parameters = parameters
        self.notes: list[str] = []

    def probe(self) -> AudioInfo:
        """What the header says; decodes next to nothing. InputError where it cannot be read,
        or lacks the channel that was asked for."""
        with open_media(self.location, self._raw) as media:
            self._check_channel(media.info.channels)
            return media.info

    def fingerprint(self) -> str:
        """Changes with the content; see `location.fingerprint`."""
        return location.fingerprint(self.location)

    def blocks(self) -> Iterator[Block]:
        """Blocks of exactly `block_ms`, the last one shorter; at least one sample in all. The
        samples do not depend on the block size. InputError where nothing can be decoded.

        A thread of its own decodes one block ahead of whoever listens."""
        return prefetch(self._decoded(), depth=1)

    def _decoded(self) -> Iterator[Block]:
        with open_media(self.location, self._raw) as media:
            timeline = Timeline(media)
            levels = _Levels()
            try:
                mono = (self._to_mono(sound, levels) for sound in timeline.sounds())
                for block in in_blocks(resampled(mono), self.parameters.block_ms):
                    levels.add(block.samples)
                    yield block
            except (av.FFmpegError, OSError) as error:
                reason = f"reading failed after {timeline.seconds:.1f} s: "
                raise self._bad(reason + location.describe(error)) from error
            if timeline.seconds == 0:
                raise self._bad(f"no audio could be decoded from it ({media.info.codec})")
            self._note(timeline.notes(), _length_notes(media, timeline), levels.notes())

    @property
    def _raw(self) -> RawPcm | None:
        p = self.parameters
        return RawPcm(p.pcm_rate, p.pcm_channels, p.pcm_format) if p.pcm_rate else None

    def _to_mono(self, sound: Sound, levels: _Levels) -> Sound:
        channel = self.parameters.channel
        if channel == "mix":
            mixed = sound.samples.mean(axis=0, keepdims=True)
            levels.compare(sound.samples, mixed)
            return Sound(sound.rate, mixed)
        self._check_channel(len(sound.samples))
        return Sound(sound.rate, sound.samples[channel : channel + 1])

    def _check_channel(self, channels: int) -> None:
        channel = self.parameters.channel
        if channel != "mix" and channel >= channels:
            there = "only channel 0" if channels == 1 else f"channels 0 to {channels - 1}"
            raise self._bad(f"no channel {channel} in it, {there}")

    def _bad(self, reason: str) -> InputError:
        return location.bad_input(self.location, reason)

    def _note(self, *groups: Iterable[str]) -> None:
        for group in groups:
            self.notes += [note for note in group if note not in self.notes]


class _Levels:
    """Peak and mean over a recording, and what mixing left of its channels' power."""

    def __init__(self) -> None:
        self.peak = 0.0
        self._power = 0.0
        self._mixed_power = 0.0
        self._sum = 0.0
        self._count = 0

    def add(self, samples: NDArray[np.float32]) -> None:
        self.peak = max(self.peak, float(samples.max()), -float(samples.min()))
        self._sum += float(samples.sum(dtype=np.float64))
        self._count += len(samples)

    def compare(self, channels: NDArray[np.float32], mixed: NDArray[np.float32]) -> None:
        self._power += float(np.vdot(channels, channels)) / len(channels)
        self._mixed_power += float(np.vdot(mixed, mixed))

    def notes(self) -> Iterator[str]:
        if self._mixed_power < _CANCELLED * self._power:
            yield "the channels cancel each other in the mix: pick one by the parameter channel"
        if self.peak == 0:
            yield "digital silence from start to end"
        elif self.peak < _QUIET:
            yield f"very quiet: peak at {20 * math.log10(self.peak):.0f} dB of full scale"
        offset = self._sum / max(1, self._count)
        if self._count > SAMPLE_RATE and abs(offset) > _DC_LIMIT:
            yield f"DC offset of {offset:+.3f} of full scale"


def _length_notes(media: Media, timeline: Timeline) -> Iterator[str]:
    if media.promised is None or abs(media.promised - timeline.seconds) <= _LENGTH_TOLERANCE:
        return
    facts = f"its header says {media.promised:.1f} s, {timeline.seconds:.1f} s could be decoded"
    short = timeline.seconds < media.promised
    yield f"truncated: {facts}" if short else f"wrong length in the header: {facts}"
