"""The audio of one recording, decoded once for all stages that listen to it, as long as it is
short enough to be kept."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.stage import Audio, Block

MOST = 1 << 27  # bytes: 35 minutes


class KeptAudio:
    """`audio`, whose blocks stay after the first whole pass if they have `most` bytes at most.
    Nobody writes into them."""

    def __init__(self, audio: Audio, most: int = MOST) -> None:
        self._audio = audio
        self._most = most
        self._kept: list[Block] = []

    @property
    def notes(self) -> list[str]:
        """See `Audio`."""
        return self._audio.notes

    @notes.setter
    def notes(self, notes: list[str]) -> None:
        self._audio.notes = notes

    def blocks(self) -> Iterator[Block]:
        """See `Audio`."""
        if self._kept:
            yield from self._kept
            return
        heard: list[Block] = []
        size = 0
        for block in self._audio.blocks():
            size += block.samples.nbytes
            if size <= self._most:
                heard.append(block)
            else:
                heard.clear()
            yield block
        self._kept = heard
