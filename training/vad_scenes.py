"""Scenes to train voice activity detection on: clips of speech with pauses, in rooms, under
noise, music, changing levels and the talk of bystanders, with the posterior of silence that a clean
recording gives.

Labels: the published FSMN-VAD on the clean clip, and silence wherever the clip's own energy is
far below its speech.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt

from stages.audio.features import Fbank
from stages.vad.fsmn import FsmnModel
from stages.vad.posteriors import Window, posteriors
from training.rooms import Room, impulse_response, reverberate, room_noise
from training.splits import is_held_out, read_manifest

RATE = 16000
SHIFT = 160
MARGIN = 30  # frames of near-silence on both sides of a clip: the teacher's onsets need them
EMPTY, BABBLE = 0.3, 0.1  # scenes without a speaker, and how many of these in a crowd
OVERLAPPED = 0.3  # of the scenes in which somebody talks: two do, at once
BYSTANDERS = 0.4  # of them, too
BYSTANDERS_DB = (22.0, 40.0)  # below those who talk: nothing that a transcript should hold
QUIET_DB = 40.0  # below a clip's loud frames: silence, whatever the teacher says
HOURS = {
    "asr-en-train-clean-5": 2.0,
    "asr-en-dev-clean": 1.0,
    "asr-en-commonvoice": 2.4,
    "asr-en-speechocean762": 1.0,
    "asr-en-ljspeech": 0.1,
}
SYNTHETIC_HOURS = 0.5

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Clip:
    """`samples` int16, a whole number of frames; `silence` float32, one label a frame."""

    samples: NDArray[np.int16]
    silence: NDArray[np.float32]


def recorded(data: Path, seed: int) -> Iterator[Samples]:
    """Clips of HOURS of each corpus, speakers that are held out left aside."""
    for corpus, hours in HOURS.items():
        utterances = [
            u for u in read_manifest(data / corpus) if not is_held_out(u.speaker, u.split)
        ]
        order = np.random.default_rng(seed).permutation(len(utterances))
        left = hours * 3600
        for index in order:
            if left <= 0:
                break
            left -= utterances[index].seconds
            yield soundfile.read(utterances[index].audio, dtype="float32")[0]


def synthetic(folder: Path) -> Iterator[Samples]:
    """Clips of SYNTHETIC_HOURS from what `training.synthesis` wrote."""
    left = SYNTHETIC_HOURS * 3600 * RATE
    manifest = min(folder.glob("*.jsonl"))
    with manifest.open() as rows, manifest.with_suffix(".pcm").open("rb") as audio:
        for row in map(json.loads, rows):
            if left <= 0:
                return
            left -= row["samples"]
            raw = audio.read(2 * row["samples"])
            yield np.frombuffer(raw, np.int16).astype(np.float32) / 32768


def noises(data: Path, held_out: bool) -> list[Samples]:
    """ESC-10, whose fold 5 is held out: the first number of a file's name is its fold."""
    files = sorted((data / "noise-esc10").glob("*/*.opus"))
    return [
        soundfile.read(file, dtype="float32")[0]
        for file in files
        if file.name.startswith("5-") == held_out
    ]


def label(samples: Samples, teacher: FsmnModel, fbank: Fbank, rng: np.random.Generator) -> Clip:
    """A clip at a common level, with its margins and labels."""
    loud = np.sqrt(np.mean(np.square(samples))) + 1e-6
    length = len(samples) // SHIFT * SHIFT
    padded = np.pad(samples[:length] * np.float32(0.05 / loud), MARGIN * SHIFT).clip(-1, 1)
    floor = (1e-4 * rng.standard_normal(len(padded) + 240)).astype(np.float32)
    heard = floor + np.pad(padded, (0, 240))  # 240: the last frame has its 25 ms
    frames = posteriors(Window(0, 0, None, heard), teacher, fbank)
    quiet = frames.decibel < np.percentile(frames.decibel, 90) - QUIET_DB
    silence = np.where(quiet, 1.0, frames.silence).astype(np.float32)
    return Clip((padded * 32767).astype(np.int16), silence[: len(padded) // SHIFT])


class Scenes:
    """Draws (waveform float32 [seconds * 16000 + 240], label of silence [seconds * 100])."""

    def __init__(self, clips: list[Clip], noise: list[Samples], seconds: int, seed: int) -> None:
        self.clips, self.noise, self.frames = clips, noise, seconds * 100
        self.rng = np.random.default_rng(seed)
        self.rooms = [self._room() for _ in range(40)]

    def _room(self) -> Samples:
        size = self.rng.uniform((3, 3, 2.4), (9, 7, 3.4))
        spots = self.rng.uniform(0.15, 0.85, (2, 3)) * size
        room = Room(tuple(size), tuple(spots[0]), float(self.rng.uniform(0.15, 0.6)))
        response = impulse_response(room, tuple(spots[1]), self.rng)
        return response / np.float32(np.sqrt(np.square(response).sum()))

    def draw(self, snr: float | None = None) -> tuple[Samples, Samples]:
        """`snr` in dB puts one background behind one speaker after the other; without it, none to
        two lie at 0 to 25 dB, and others may talk as well."""
        rng, length = self.rng, self.frames * SHIFT + 240
        speech, silence = np.zeros(length, np.float32), np.ones(self.frames, np.float32)
        spoken = rng.random() > EMPTY
        if spoken:
            self._talk(speech, silence)
            if snr is None and rng.random() < OVERLAPPED:
                self._talk(speech, silence)
        elif snr is None and rng.random() < BABBLE:
            speech = self._babble(length)
        if rng.random() < 0.45:
            speech = self._in_room(speech)
        if snr is None and spoken and rng.random() < BYSTANDERS:
            speech = speech + self._bystanders(speech)
        count = rng.choice((0, 1, 2), p=(0.2, 0.6, 0.2)) if snr is None else 1
        levels = rng.uniform(0, 25, count) if snr is None else np.array([snr])
        return self._record(self._with_backgrounds(speech, levels)), silence

    def _in_room(self, speech: Samples) -> Samples:
        room = self.rooms[self.rng.integers(len(self.rooms))]
        return reverberate(speech, room)[: len(speech)]

    def _babble(self, length: int) -> Samples:
        """Three to six who talk among themselves, far off: none of them can be followed."""
        voices = np.zeros(length, np.float32)
        for _ in range(int(self.rng.integers(3, 7))):
            self._talk(voices, np.ones(self.frames, np.float32))
        return self._in_room(voices)

    def _bystanders(self, speech: Samples) -> Samples:
        """Others who talk at the far end of the room, or into somebody else's microphone: a meeting
        is full of them, and a network that hears every voice takes them for speech."""
        voices = np.zeros_like(speech)
        self._talk(voices, np.ones(self.frames, np.float32))
        below = self.rng.uniform(*BYSTANDERS_DB)
        scale = _power(speech) * 10 ** (-below / 10) / (_power(voices) + 1e-12)
        return self._in_room(voices) * np.float32(np.sqrt(scale))

    def _with_backgrounds(self, speech: Samples, levels: NDArray[np.float64]) -> Samples:
        power = _power(speech) or 0.0025
        mixed = speech
        for level in levels:
            noise = self._background(len(speech))
            scale = power * 10 ** (-level / 10) / (np.square(noise).mean() + 1e-12)
            mixed = mixed + noise * np.float32(np.sqrt(scale))
        return mixed

    def _record(self, mixed: Samples) -> Samples:
        """Sometimes a narrow band; any level; mostly the hiss of a microphone; 16 bits."""
        rng = self.rng
        if rng.random() < 0.15:
            edges = (rng.uniform(60, 300), rng.uniform(3300, 7000))
            mixed = sosfilt(butter(4, edges, "band", fs=RATE, output="sos"), mixed)
        mixed = mixed * 10 ** (rng.uniform(-40, -1) / 20) / (np.abs(mixed).max() + 1e-6)
        if rng.random() < 0.8:
            mixed = mixed + 10 ** rng.uniform(-5, -3.3) * rng.standard_normal(len(mixed))
        steps = np.round(mixed * 32768).clip(-32768, 32767)
        return (steps / 32768).astype(np.float32)

    def _talk(self, speech: Samples, silence: Samples) -> None:
        """Clips one after the other with pauses; levels differ by up to 16 dB."""
        at = int(self.rng.integers(-300, 200))
        while at < self.frames:
            clip = self.clips[self.rng.integers(len(self.clips))]
            first, last = max(at, 0), min(at + len(clip.silence), self.frames)
            if last > first:
                gain = np.float32(10 ** (self.rng.uniform(-8, 8) / 20) / 32768)
                part = clip.samples[(first - at) * SHIFT : (last - at) * SHIFT] * gain
                speech[first * SHIFT : last * SHIFT] += part
                there = silence[first:last]
                np.minimum(there, clip.silence[first - at : last - at], out=there)
            pause = self.rng.choice((self.rng.uniform(-50, 30), self.rng.uniform(0, 300)))
            at += len(clip.silence) + int(pause)

    def _background(self, length: int) -> Samples:
        kind = self.rng.random()
        if kind < 0.35:
            return self._handling(length)
        if kind < 0.65:
            noise = self.noise[self.rng.integers(len(self.noise))]
            return np.resize(np.roll(noise, int(self.rng.integers(len(noise)))), length)
        if kind < 0.75:
            return room_noise(length, self.rng)
        if kind < 0.82:
            return self.rng.standard_normal(length).astype(np.float32)
        return self._music(length)

    def _handling(self, length: int) -> Samples:
        """Steps, clothes, paper, keys, breath on a microphone: bursts of dull or bright noise of
        5 ms to 0.8 s, from sudden to swelling, over a rumble."""
        rng = self.rng
        out = room_noise(length, rng) * np.float32(rng.uniform(0, 0.1))
        for _ in range(int(rng.integers(5, 100))):
            burst = rng.standard_normal(int(RATE * 10 ** rng.uniform(-2.3, -0.1)))
            rise = max(1, int(len(burst) * rng.uniform(0.02, 0.6)))
            burst[:rise] *= np.linspace(0, 1, rise)
            burst[rise:] *= np.geomspace(1, 0.01, len(burst) - rise)
            top = 10 ** rng.uniform(2.2, 3.8)
            burst = sosfilt(butter(1, top, fs=RATE, output="sos"), burst)
            loud = 10 ** rng.uniform(-1.5, 0) / (np.abs(burst).max() + 1e-6)
            at = int(rng.integers(length - len(burst)))
            out[at : at + len(burst)] += (loud * burst).astype(np.float32)
        return out

    def _music(self, length: int) -> Samples:
        """Notes of a random scale with overtones and decay: tonal, but nobody talks."""
        out = np.zeros(length, np.float32)
        at = 0
        while at < length:
            duration = int(self.rng.uniform(0.1, 1.2) * RATE)
            time = np.arange(min(duration, length - at)) / RATE
            for pitch in 110 * 2 ** (self.rng.integers(0, 36, self.rng.integers(1, 4)) / 12):
                for overtone in range(1, int(self.rng.integers(2, 8))):
                    decay = np.exp(-time * self.rng.uniform(0.5, 6)) / overtone
                    out[at : at + len(time)] += decay * np.sin(2 * np.pi * pitch * overtone * time)
            at += duration // int(self.rng.integers(1, 3))
        return out


def _power(speech: Samples) -> float:
    """Mean square of where there is anything at all."""
    sounding = speech[speech != 0]
    return float(np.square(sounding).mean()) if len(sounding) else 0.0
