"""The sound of a recording as bytes with ranges: as it lies, or decoded to WAV for a browser that
does not know its format."""

from __future__ import annotations

import contextlib
import mimetypes
import os
import struct
import tempfile
import threading
from collections.abc import Iterator
from typing import BinaryIO, Protocol

import numpy as np

from pipeline.errors import InputError
from pipeline.stage import SAMPLE_RATE, Source
from stages.audio.location import open_binary

_CHUNK = 1 << 18
_WAV_HEADER = 44
# What the standard library does not know, or calls by a name that browsers do not.
_TYPES = {
    ".opus": "audio/ogg",
    ".ogg": "audio/ogg",
    ".oga": "audio/ogg",
    ".spx": "audio/ogg",
    ".m4a": "audio/mp4",
    ".m4b": "audio/mp4",
    ".flac": "audio/flac",
    ".mka": "audio/webm",
}


class Sound(Protocol):
    """`size` in bytes."""

    size: int
    content_type: str

    def read(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes [start, end) in pieces."""


class OriginalSound:
    """The recording's own bytes, local or from a bucket. InputError where it cannot be opened."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        with open_binary(uri) as file:
            self.size = file.seek(0, os.SEEK_END)
        self.content_type = _content_type(uri)

    def read(self, start: int, end: int) -> Iterator[bytes]:
        with open_binary(self._uri) as file:
            file.seek(start)
            yield from _pieces(file, end - start)


class DecodedSound:
    """16 kHz mono WAV, decoded once into a file that goes with the server. Reading can begin at
    once: what is not yet decoded is waited for. InputError where it cannot be opened."""

    content_type = "audio/wav"

    def __init__(self, uri: str, duration_ms: int) -> None:
        # With torch it takes seconds to load, and most recordings play as they are.
        from stages.audio.decode import AudioParameters, AudioSource

        source = AudioSource(uri, AudioParameters.model_validate({}))
        source.probe()
        samples = duration_ms * SAMPLE_RATE // 1000
        self.size = _WAV_HEADER + samples * 2
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the server)
        self._ready = 0
        self._over = False
        self._more = threading.Condition()
        self._append(_wav_header(samples * 2))
        threading.Thread(target=self._decode, args=(source,), daemon=True).start()

    def read(self, start: int, end: int) -> Iterator[bytes]:
        """Fewer bytes where the recording breaks off or the disk is full."""
        while start < end:
            with self._more:
                while self._ready <= start and not self._over:
                    self._more.wait()
                stop = min(end, self._ready, start + _CHUNK)
            if stop <= start:
                return
            piece = os.pread(self._file.fileno(), stop - start, start)
            start += len(piece)
            yield piece

    def _decode(self, source: Source) -> None:
        try:
            with contextlib.suppress(InputError, OSError):
                for block in source.blocks():
                    pcm = (np.clip(block.samples, -1, 1) * 32767).astype("<i2").tobytes()
                    self._append(pcm[: self.size - self._ready])
        finally:
            with self._more:
                self._over = True
                self._more.notify_all()

    def _append(self, data: bytes) -> None:
        with self._more:
            self._ready += os.pwrite(self._file.fileno(), data, self._ready)
            self._more.notify_all()


def seeks_exactly(uri: str) -> bool:
    """False for MP3 of variable bit rate and for bare AAC: browsers find a place in them by a
    coarse table or by guessing, which in Chromium was 2.4 s off in a 20-minute MP3. InputError
    where it cannot be opened."""
    suffix = _suffix(uri)
    if suffix != ".mp3":
        return suffix not in (".aac", ".adts")
    with open_binary(uri) as file:
        head = file.read(10)
        # An ID3v2 tag comes first: its length has 7 bits a byte.
        tag = head[6:10] if head[:3] == b"ID3" else b""
        file.seek(sum(byte << 7 * (3 - at) for at, byte in enumerate(tag)) + len(tag and head))
        first_frame = file.read(2048)
    return b"Xing" not in first_frame and b"VBRI" not in first_frame


def _suffix(uri: str) -> str:
    return os.path.splitext(uri)[1].lower()  # noqa: PTH122 (an address, too)


def _content_type(uri: str) -> str:
    """Never a type that a browser would run: the name is the recording's own."""
    suffix = _suffix(uri)
    guess = _TYPES.get(suffix) or mimetypes.guess_type(f"x{suffix}")[0] or ""
    return guess if guess.startswith(("audio/", "video/")) else "application/octet-stream"


def _pieces(file: BinaryIO, size: int) -> Iterator[bytes]:
    while size > 0 and (piece := file.read(min(size, _CHUNK))):
        size -= len(piece)
        yield piece


def _wav_header(data_size: int) -> bytes:
    rate = SAMPLE_RATE
    chunk = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, rate * 2, 2, 16)
    return (
        struct.pack("<4sI4s", b"RIFF", (36 + data_size) & 0xFFFFFFFF, b"WAVE")
        + chunk
        + struct.pack("<4sI", b"data", data_size & 0xFFFFFFFF)
    )
