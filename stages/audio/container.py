"""Opens a recording's container with PyAV (FFmpeg): the first audio stream, what the header
promises of it, and the RIFF lengths that FFmpeg silently repairs.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Discard

from pipeline.stage import AudioInfo
from stages.audio.location import bad_input, describe, open_binary

# A playlist or a QuickTime reference could make FFmpeg open other files and addresses.
_NO_OTHER_FILES = {"protocol_whitelist": "none"}
_READ_SIZE = 1 << 18


@dataclass(frozen=True)
class RawPcm:
    """Samples without a header; `format` is FFmpeg's name (s16le, mulaw ...)."""

    rate: int
    channels: int
    format: str


@dataclass(frozen=True)
class Media:
    """An open recording. Times in seconds: `zero` is the time stamp at which the recording
    starts, `end` where the container says that it ends (None: it does not say), `promised` the
    end of this stream, where the header states it and does not guess it from the bit rate."""

    container: InputContainer
    stream: AudioStream
    zero: float
    end: float | None
    promised: float | None

    @property
    def info(self) -> AudioInfo:
        context = self.stream.codec_context
        seconds = _stream_end(self.stream, self.zero) or self.end or 0.0
        return AudioInfo(round(seconds * 1000), context.channels, context.sample_rate, context.name)


@contextmanager
def open_media(location: str, raw: RawPcm | None) -> Iterator[Media]:
    """InputError where the file cannot be read, is not audio, or has no audio stream."""
    with open_binary(location) as file:
        riff = None if raw else riff_lengths(file)
        try:
            container = _open(file, raw, ignore_length=riff is not None and riff.too_short)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise bad_input(location, _unreadable(file, error)) from error
        with container:
            yield _media(location, container, riff)


def _open(file: BinaryIO, raw: RawPcm | None, *, ignore_length: bool) -> InputContainer:
    options = dict(_NO_OTHER_FILES)
    if raw is not None:
        options |= {"sample_rate": str(raw.rate), "ch_layout": f"{raw.channels}C"}
    elif ignore_length:
        options["ignore_length"] = "1"
    return av.open(
        file,
        mode="r",
        format=raw.format if raw else None,
        container_options=options,
        metadata_errors="replace",
        buffer_size=_READ_SIZE,
    )


def _media(location: str, container: InputContainer, riff: RiffLengths | None) -> Media:
    if not container.streams.audio:
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
        raise bad_input(location, f"no audio stream in it (only {kinds})")
    stream = container.streams.audio[0]
    if not stream.codec_context or not stream.codec_context.sample_rate:
        raise bad_input(location, "its audio stream is damaged, or of a kind FFmpeg does not know")
    for other in container.streams:
        if other.index != stream.index:
            other.discard = Discard.all
    # The timeline of MP4 starts at 0, whatever its first sample; elsewhere the first time
    # stamp may be anything (a broadcast's clock), and the recording starts there.
    absolute = "mp4" in container.format.name
    zero = 0.0 if absolute else (container.start_time or 0) / av.time_base
    end = None
    if container.duration:
        end = ((container.start_time or 0) + container.duration) / av.time_base - zero
    return Media(container, stream, zero, end, _promised(container, stream, zero, end, riff))


def _promised(
    container: InputContainer,
    stream: AudioStream,
    zero: float,
    end: float | None,
    riff: RiffLengths | None,
) -> float | None:
    if riff is not None:
        return riff.seconds
    name = container.format.name
    # Without a Xing or Info frame (which also brings an encoder delay, hence a start above 0)
    # FFmpeg guesses the length of an MP3 from its first frames; that of bare AAC always.
    if name == "aac" or (name == "mp3" and not stream.start_time):
        return None
    alone = len(container.streams) == 1
    return _stream_end(stream, zero) or (end if alone else None)


def _stream_end(stream: AudioStream, zero: float) -> float | None:
    if not stream.duration or stream.time_base is None:
        return None
    return float(((stream.start_time or 0) + stream.duration) * stream.time_base) - zero


@dataclass(frozen=True)
class RiffLengths:
    """`seconds` of audio that a WAV header states (None: it leaves the length open);
    `too_short`: more sound follows where its data chunk is said to end."""

    seconds: float | None
    too_short: bool


def riff_lengths(file: BinaryIO) -> RiffLengths | None:
    """What a WAV header states, None for anything else. FFmpeg takes a length past the end of
    the file for the true one, and drops the sound behind a length that is too small."""
    head = file.read(12)
    lengths = None
    if head[:4] == b"RIFF" and head[8:] == b"WAVE":
        lengths = _walk_chunks(file)
    file.seek(0)
    return lengths


def _walk_chunks(file: BinaryIO) -> RiffLengths | None:
    bytes_per_second = 0
    while len(head := file.read(8)) == 8:
        tag, size = struct.unpack("<4sI", head)
        if tag == b"fmt ":
            fmt = file.read(size)
            if len(fmt) < 16:
                return None
            bytes_per_second = struct.unpack_from("<I", fmt, 8)[0]
            file.seek(size & 1, 1)
        elif tag == b"data":
            if not bytes_per_second:
                return None
            if size in (0, 0xFFFFFFFF):
                return RiffLengths(None, False)
            file.seek(size + (size & 1), 1)
            return RiffLengths(size / bytes_per_second, _sound_follows(file, bytes_per_second))
        else:
            file.seek(size + (size & 1), 1)
    return None


def _sound_follows(file: BinaryIO, least: int) -> bool:
    """Whether more than `least` bytes follow that are no further chunk of a RIFF file."""
    at = file.tell()
    head = file.read(8)
    left = file.seek(0, os.SEEK_END) - at
    if left <= least or len(head) < 8:
        return False
    tag, size = struct.unpack("<4sI", head)
    return size + 8 > left or not all(32 <= byte < 127 for byte in tag)


def _unreadable(file: BinaryIO, error: Exception) -> str:
    """Why FFmpeg could not open it, in a user's words."""
    if not isinstance(error, av.error.InvalidDataError | av.error.EOFError):
        return f"cannot be read: {describe(error)}"
    file.seek(0)
    head = file.read(12)
    if head[4:8] == b"ftyp":
        return "an MP4 file without its index (cut short, or its writing was not finished)"
    if head[:4] == b"RIFF":
        return "a WAV header without any audio behind it"
    return "not audio in any format that FFmpeg knows (raw PCM needs pcm_rate and pcm_channels)"
