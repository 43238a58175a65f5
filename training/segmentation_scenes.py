"""Ten seconds of a meeting to train segmentation on: training speakers' utterances said in the
turn-taking of real meetings, in a room or through a mix of headsets, over noise, with who is
heard in each frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt

from benchmarks.meetings import RATE, Clip, Turn, Voice, clip_of, pool_of, spoken
from benchmarks.turn_taking import Spurt, turn_taking
from training.rooms import Room, impulse_response, reverberate, room_noise
from training.splits import is_held_out, read_manifest

FOLDERS = (
    "asr-en-train-clean-5",
    "asr-en-dev-clean",
    "asr-en-commonvoice",
    "asr-en-speechocean762",
    "asr-en-ljspeech",
    "asr-zh-aishell-sample",
    "emotion-emodb",
    "speakers-librispeech",
)
SPEAKERS = 3
CHUNK_MS = 10_000
LEAD_MS = 3_000  # before the chunk, so that it begins in the middle of what is said
CLIPS = 6  # of a speaker, for one chunk
SPREAD_DB = 4.0

Samples = NDArray[np.float32]


def voices(data: Path, held_out: bool) -> dict[str, list[Clip]]:
    """What each speaker says, at one level: of those to train on, or of the half of the others
    that parameters are chosen on."""
    said: dict[str, list[Clip]] = {}
    for folder in FOLDERS:
        for utterance in read_manifest(data / folder):
            out = is_held_out(utterance.speaker, utterance.split)
            if out == held_out and (not out or pool_of(utterance.speaker) == "tuning"):
                clip = clip_of(utterance, 1.0)
                if clip.speech:
                    said.setdefault(utterance.speaker, []).append(clip)
    return said


class Scenes:
    """Draws (waveform float32 [160000], who is heard float32 [3, frames]); `centres_ms` [frames]
    are the moments that count."""

    def __init__(
        self,
        said: dict[str, list[Clip]],
        meetings: Sequence[Sequence[Spurt]],
        noises: Sequence[Samples],
        centres_ms: NDArray[np.float64],
        rooms: int,
        seed: int,
    ) -> None:
        self.said, self.meetings, self.noises = said, meetings, noises
        self.centres_ms = centres_ms
        self.rng = np.random.default_rng(seed)
        self.names = sorted(said)
        # The more somebody has to say, the more often they speak, within bounds.
        seconds = [min(120, sum(clip.duration for clip in said[n]) / 1000) for n in self.names]
        self.share = np.array(seconds) / sum(seconds)
        self.rooms = [self._room() for _ in range(rooms)]
        self.ventilation = [room_noise(30 * RATE, self.rng) for _ in range(20)]

    def _room(self) -> list[Samples]:
        """From SPEAKERS places to one microphone, the direct sound with gain 1."""
        size = self.rng.uniform((3, 3, 2.4), (9, 7, 3.4))
        spots = self.rng.uniform(0.12, 0.88, (SPEAKERS + 1, 3)) * size
        room = Room(tuple(size), tuple(spots[0]), float(self.rng.uniform(0.15, 0.5)))
        return [impulse_response(room, tuple(spot), self.rng) for spot in spots[1:]]

    def draw(self) -> tuple[Samples, NDArray[np.float32]]:
        """One chunk; a sixth or so of its speech is overlapped."""
        turns = self._turns()
        people = list(dict.fromkeys(turn.speaker for turn in turns))
        responses = self._responses()
        gains = np.float32(10) ** (self.rng.normal(0, SPREAD_DB / 20, SPEAKERS).astype(np.float32))
        mixed = np.zeros((LEAD_MS + CHUNK_MS) * RATE // 1000, np.float32)
        heard = np.zeros((SPEAKERS, len(self.centres_ms)), np.float32)
        for turn in turns:
            at = people.index(turn.speaker)
            self._mark(turn, heard[at])
            if turn.end > LEAD_MS:
                said = turn.clip.samples * (gains[at] / np.float32(32768))
                _add(mixed, reverberate(said, responses[at]), turn.start * RATE // 1000)
        return self._record(mixed[LEAD_MS * RATE // 1000 :]), heard

    def _turns(self) -> list[Turn]:
        """Of up to three people; every second time with somebody talking over somebody."""
        count = int(self.rng.choice((1, 2, 3), p=(0.1, 0.3, 0.6)))
        people = self.rng.choice(self.names, count, replace=False, p=self.share).tolist()
        spurts = self._spurts(people)
        if count > 1 and self.rng.random() < 0.5:
            for _ in range(10):
                if _overlapped(spurts):
                    break
                spurts = self._spurts(people)
        said = {}
        for name in people:
            clips = self.said[name]
            chosen = self.rng.choice(len(clips), min(CLIPS, len(clips)), replace=False)
            said[name] = Voice([clips[at] for at in chosen], whole=False)
        return list(spoken(iter(spurts), said))

    def _spurts(self, people: list[str]) -> list[Spurt]:
        return list(turn_taking(self.meetings, people, LEAD_MS + CHUNK_MS, self.rng))

    def _mark(self, turn: Turn, heard: NDArray[np.float32]) -> None:
        for start, end in turn.clip.speech:
            begin, until = turn.start + start - LEAD_MS, turn.start + end - LEAD_MS
            heard[(self.centres_ms >= begin) & (self.centres_ms < until)] = 1.0

    def _responses(self) -> list[Samples]:
        """A microphone in a room; or headsets, each of which hears the others faintly and late;
        or nothing but the voices."""
        kind = self.rng.random()
        if kind < 0.2:
            return [np.ones(1, np.float32)] * SPEAKERS
        room = self.rooms[self.rng.integers(len(self.rooms))]
        if kind < 0.55:
            return room
        bleed = np.float32(10 ** (self.rng.uniform(-26, -8) / 20))
        return [_direct_and(response * bleed, int(self.rng.integers(16, 160))) for response in room]

    def _record(self, mixed: Samples) -> Samples:
        """Noise, sometimes a narrow band, any level."""
        rng = self.rng
        loud = mixed[np.abs(mixed) > 1e-3]
        power = float(np.square(loud).mean()) if len(loud) else 1e-3
        if rng.random() < 0.9:
            mixed = mixed + self._noise(len(mixed), power * 10 ** (-rng.uniform(5, 40) / 10))
        if rng.random() < 0.1:
            edges = (rng.uniform(60, 300), rng.uniform(3300, 7000))
            mixed = sosfilt(butter(3, edges, "band", fs=RATE, output="sos"), mixed)
        mixed = mixed * 10 ** (rng.uniform(-35, -1) / 20) / (np.abs(mixed).max() + 1e-6)
        steps = np.round(mixed * 32768).clip(-32768, 32767)
        return (steps / 32768).astype(np.float32)

    def _noise(self, length: int, power: float) -> Samples:
        kind = self.rng.random()
        if kind < 0.15:
            noise = self.rng.standard_normal(length).astype(np.float32)
        else:
            shelf = self.noises if kind < 0.5 else self.ventilation
            noise = shelf[self.rng.integers(len(shelf))]
            noise = np.resize(np.roll(noise, int(self.rng.integers(len(noise)))), length)
        return noise * np.float32(np.sqrt(power / (np.square(noise).mean() + 1e-12)))


def _add(mixed: Samples, part: Samples, at: int) -> None:
    part = part[: len(mixed) - at]
    mixed[at : at + len(part)] += part


def _overlapped(spurts: Sequence[Spurt]) -> bool:
    """Whether two talk at once for half a second of the chunk."""
    return any(
        min(one.end, other.end) - max(one.start, other.start, LEAD_MS) > 500
        for at, one in enumerate(spurts)
        for other in spurts[at + 1 :]
    )


def _direct_and(response: Samples, delay: int) -> Samples:
    whole = np.pad(response, (delay, 0))
    whole[0] += 1.0
    return whole


def batches(scenes: Scenes, size: int) -> Iterator[tuple[Samples, NDArray[np.float32]]]:
    """Waveforms [size, 160000] and who is heard [size, 3, frames], without end."""
    while True:
        drawn = [scenes.draw() for _ in range(size)]
        yield np.stack([w for w, _ in drawn]), np.stack([h for _, h in drawn])
