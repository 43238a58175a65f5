"""How far a run is: recordings, hours of audio, speed, time left, and how busy its stages are."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping

from pipeline.load import StageLoad

_WINDOW = 20  # samples over which utilisation is a mean


class Progress:
    """What a run has done so far. Told by the run, read by whoever shows it.

    `recordings` is their number; `done` and `failed` count those of this run, `skipped` those
    that needed no work; `audio_ms` is the duration of what is done."""

    def __init__(self, recordings: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.recordings = recordings
        self.done = self.failed = self.skipped = 0
        self.audio_ms = 0
        self._clock = clock
        self._began = clock()

    def recording_done(self, audio_ms: int) -> None:
        self.done += 1
        self.audio_ms += audio_ms

    def recording_failed(self) -> None:
        self.failed += 1

    def recording_skipped(self) -> None:
        self.skipped += 1

    @property
    def ended(self) -> int:
        return self.done + self.failed + self.skipped

    @property
    def seconds(self) -> float:
        """Since the start."""
        return self._clock() - self._began

    @property
    def rtfx(self) -> float:
        """Seconds of audio done in a second."""
        return self.audio_ms / 1000 / max(self.seconds, 1e-3)

    @property
    def left(self) -> float | None:
        """Seconds until the end, if the rest takes as long as what is done; None before the
        first recording."""
        worked = self.done + self.failed
        if not worked:
            return None
        return (self.recordings - self.ended) * self.seconds / worked

    def line(self) -> str:
        """132 of 1,000 recordings, 3 failed, 26.4 hours of audio, RTFx 95, 1:45:00 left"""
        parts = [f"{self.ended:,} of {self.recordings:,} recordings"]
        if self.failed:
            parts.append(f"{self.failed:,} failed")
        parts += [f"{hours(self.audio_ms)} of audio", f"RTFx {self.rtfx:.0f}"]
        if self.left is not None and self.ended < self.recordings:
            parts.append(f"{hms(self.left)} left")
        return ", ".join(parts)


class Utilisation:
    """The share of a stage's workers that are at work, as a mean over the last samples."""

    def __init__(self) -> None:
        self._samples: dict[str, deque[float]] = {}

    def add(self, loads: Mapping[str, StageLoad]) -> None:
        for stage, load in loads.items():
            samples = self._samples.setdefault(stage, deque(maxlen=_WINDOW))
            samples.append(min(1.0, load.running / load.workers) if load.workers else 0.0)

    def of(self, stage: str) -> float:
        samples = self._samples.get(stage)
        return sum(samples) / len(samples) if samples else 0.0


def hours(milliseconds: int) -> str:
    """26.4 hours; minutes below one hour."""
    if milliseconds < 3_600_000:
        return f"{milliseconds / 60_000:.1f} minutes"
    return f"{milliseconds / 3_600_000:,.1f} hours"


def hms(seconds: float) -> str:
    """1:45:00"""
    minutes, second = divmod(round(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02}:{second:02}"
