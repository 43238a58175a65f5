"""Training speech for the CTC recogniser: recorded and synthetic utterances in one int16 file,
drawn in batches of similar length and disturbed as rooms and microphones do.

Sources: Ko et al., Audio augmentation for speech recognition (2015): speed; Ko et al., A study
on data augmentation of reverberant speech (2017): simulated rooms and point noise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset

from pipeline.stage import Block
from stages.audio.features import Fbank, FbankOptions
from training.rooms import Room, impulse_response, reverberate, room_noise
from training.splits import Utterance, is_held_out, read_manifest

SAMPLE_RATE = 16000
RECORDED = (
    "asr-en-train-clean-5",
    "asr-en-dev-clean",
    "asr-en-commonvoice",
    "asr-en-speechocean762",
    "asr-en-ljspeech",
)
LONGEST = 20 * SAMPLE_RATE

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Item:
    """An utterance in a cached file: where, how long (samples), what was said, real or not."""

    file: int
    offset: int
    samples: int
    text: str
    recorded: bool


@dataclass(frozen=True)
class Memory:
    """Samples as a recording."""

    samples: Samples

    def blocks(self) -> Iterator[Block]:
        for start in range(0, len(self.samples), 60 * SAMPLE_RATE):
            yield Block(start, self.samples[start : start + 60 * SAMPLE_RATE])


def spoken(text: str) -> str:
    """The text of a manifest as tokens know it; empty where it holds digits or other letters.

    >>> spoken("SHE'S well-known, etc.")
    "she's well known etc"
    """
    text = text.lower().replace("\u2019", "'")
    if re.search(r"[^a-z' .,?!:;\"“”‘()\u2014\u2013-]", text):
        return ""
    words = (word.strip("'") for word in re.sub(r"[^a-z']", " ", text).split())
    return " ".join(word for word in words if word)


def load_audio(path: Path) -> Samples:
    """A file of shared/data: float32 [n], 16 kHz mono."""
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = samples.mean(axis=1)
    if rate != SAMPLE_RATE:  # Opus decodes at 48 kHz
        from scipy.signal import resample_poly

        divisor = int(np.gcd(rate, SAMPLE_RATE))
        mono = resample_poly(mono, SAMPLE_RATE // divisor, rate // divisor)
    return mono.astype(np.float32)


def held_in(data: Path) -> Iterator[Utterance]:
    """The recorded utterances that may be trained on."""
    for folder in RECORDED:
        for utterance in read_manifest(data / folder):
            if not is_held_out(utterance.speaker, utterance.split) and spoken(utterance.text):
                yield utterance


def cache_recorded(data: Path, cache: Path) -> None:
    """Decodes every utterance of `held_in` once, to `cache`."""
    if not (cache / "recorded.jsonl").exists():
        write_items(((load_audio(u.audio), spoken(u.text)) for u in held_in(data)), cache)


def write_items(utterances: Iterable[tuple[Samples, str]], folder: Path) -> None:
    """Recorded speech and its text, to `folder`/recorded.{pcm,jsonl}, which `read_items` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[str] = []
    offset = 0
    with (folder / "recorded.pcm").open("wb") as audio:
        for waveform, text in utterances:
            samples = (waveform.clip(-1, 1) * 32767).astype(np.int16)
            row = {"text": text, "offset": offset, "samples": len(samples)}
            rows.append(json.dumps(row) + "\n")
            audio.write(samples.tobytes())
            offset += len(samples)
    (folder / "recorded.jsonl").write_text("".join(rows))


def read_items(files: list[Path]) -> list[Item]:
    """The items of .pcm files with their .jsonl beside them (also ones still being written)."""
    items: list[Item] = []
    for number, path in enumerate(files):
        available = path.stat().st_size // 2
        for line in path.with_suffix(".jsonl").read_text().splitlines():
            try:
                row: dict[str, Any] = json.loads(line)
            except json.JSONDecodeError:
                break  # the line that is just being written
            item = Item(number, row["offset"], row["samples"], row["text"], path.stem == "recorded")
            if item.offset + item.samples <= available and item.samples <= LONGEST:
                items.append(item)
    return items


class Rooms:
    """Draws disturbances; the noises are ESC-10's and coloured noise."""

    def __init__(self, noises: list[Samples], rng: np.random.Generator) -> None:
        self.noises = noises
        self.rng = rng
        self.responses = [self._response() for _ in range(60)]

    def disturb(self, samples: Samples) -> Samples:
        """Reverberation, noise, level: each drawn anew."""
        if self.rng.random() < 0.35:
            samples = self._reverberate(samples)
        if self.rng.random() < 0.5:
            samples = samples + _below(self._noise(len(samples)), samples, self.rng.uniform(10, 40))
        peak = float(np.abs(samples).max()) + 1e-6
        return samples * np.float32(10 ** self.rng.uniform(-1.5, -0.05) / peak)

    def overhear(self, samples: Samples, other: Samples) -> Samples:
        """One utterance in four with somebody else talking behind it, as in a meeting."""
        if self.rng.random() >= 0.25:
            return samples
        voice = np.resize(np.roll(other, self.rng.integers(len(other))), len(samples))
        return samples + _below(self._reverberate(voice), samples, self.rng.uniform(8, 30))

    def _noise(self, length: int) -> Samples:
        if self.rng.random() < 0.4:
            return room_noise(length, self.rng)
        noise = self.noises[self.rng.integers(len(self.noises))]
        return np.resize(np.roll(noise, self.rng.integers(len(noise))), length)

    def _reverberate(self, samples: Samples) -> Samples:
        response = self.responses[self.rng.integers(len(self.responses))]
        return reverberate(samples, response)[: len(samples)]

    def _response(self) -> Samples:
        """A drawn room, microphone and speaker."""
        size = self.rng.uniform((3.0, 2.5, 2.4), (9.0, 7.0, 3.5))
        microphone, source = self.rng.uniform(0.1, 0.9, (2, 3)) * size
        room = Room(tuple(size), tuple(microphone), self.rng.uniform(0.15, 0.4))
        return impulse_response(room, tuple(source), self.rng)


def _below(noise: Samples, samples: Samples, decibel: float) -> Samples:
    """The noise, at a level so far below that of the samples."""
    level = np.sqrt(np.mean(samples**2)) / (np.sqrt(np.mean(noise**2)) + 1e-9)
    return noise * np.float32(level * 10 ** (-decibel / 20))


class Batches(IterableDataset[tuple[Tensor, Tensor, list[str]]]):
    """Endless batches (features [B, F, 80], frames [B], texts) of at most `seconds`, padding
    included. Each round takes every recorded item and `synthetic` times as much synthetic."""

    def __init__(
        self, files: list[Path], noise: Path, seconds: float, synthetic: float, seed: int
    ) -> None:
        self.files = files
        self.noise = noise
        self.budget = int(seconds * SAMPLE_RATE)
        self.synthetic = synthetic
        self.seed = seed

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, list[str]]]:
        torch.set_num_threads(1)
        rng = np.random.default_rng(self.seed)
        noises = [load_audio(path) for path in sorted(self.noise.rglob("*.opus"))]
        noises += [load_audio(path) for path in sorted(self.noise.rglob("*.flac"))]
        rooms = Rooms(noises, rng)
        fbank = Fbank(FbankOptions())
        while True:
            for group in self._round(rng):
                texts, waveforms = zip(*(self._take(item, rng) for item in group), strict=True)
                pairs = zip(waveforms, waveforms[1:] + waveforms[:1], strict=True)
                heard = [rooms.disturb(rooms.overhear(one, other)) for one, other in pairs]
                features = fbank(*_padded(heard))
                yield *features, list(texts)

    def _round(self, rng: np.random.Generator) -> Iterator[list[list[Item]]]:
        """Groups of utterances to be joined, in batches, in random order."""
        items = read_items(self.files)
        recorded = [item for item in items if item.recorded]
        synthetic = [item for item in items if not item.recorded]
        wanted = self.synthetic * sum(item.samples for item in recorded)
        rng.shuffle(synthetic)  # type: ignore[arg-type]
        total = np.cumsum([item.samples for item in synthetic])
        chosen = recorded + synthetic[: int(np.searchsorted(total, wanted))]
        rng.shuffle(chosen)  # type: ignore[arg-type]
        groups = sorted(
            _joined(chosen, rng), key=lambda group: _length(group) * rng.uniform(1, 1.1)
        )
        batches: list[list[list[Item]]] = [[]]
        for group in groups:
            if (len(batches[-1]) + 1) * _length(group) * 1.2 > self.budget and batches[-1]:
                batches.append([])
            batches[-1].append(group)
        rng.shuffle(batches)  # type: ignore[arg-type]
        yield from batches

    def _take(self, group: list[Item], rng: np.random.Generator) -> tuple[str, Samples]:
        """Utterances at a drawn speed each, with pauses around them, joined."""
        parts: list[Samples] = [np.zeros(int(rng.exponential(0.12) * SAMPLE_RATE), np.float32)]
        for item in group:
            raw = np.fromfile(
                self.files[item.file], np.int16, item.samples, offset=2 * item.offset
            ).astype(np.float32)
            speed = rng.choice((0.88, 0.94, 1.0, 1.0, 1.07, 1.14)) if rng.random() < 0.7 else 1.0
            if speed != 1.0:
                raw = np.interp(np.arange(0, len(raw) - 1, speed), np.arange(len(raw)), raw)
            parts.append(raw.astype(np.float32) / (np.abs(raw).max() + 1.0))
            parts.append(np.zeros(int(rng.exponential(0.2) * SAMPLE_RATE), np.float32))
        return " ".join(i.text for i in group), np.concatenate(parts)


def _joined(items: list[Item], rng: np.random.Generator) -> list[list[Item]]:
    """One in four utterances is followed by the next one in the same group, as speakers follow
    each other in a meeting."""
    groups: list[list[Item]] = []
    for item in items:
        together = groups and rng.random() < 0.25
        if together and _length(groups[-1]) + item.samples < 0.75 * LONGEST:
            groups[-1].append(item)
        else:
            groups.append([item])
    return groups


def _length(group: list[Item]) -> int:
    return sum(item.samples for item in group)


def _padded(waveforms: list[Samples]) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([len(samples) for samples in waveforms])
    padded = torch.zeros(len(waveforms), int(lengths.max()))
    for row, samples in zip(padded, waveforms, strict=True):
        row[: len(samples)] = torch.from_numpy(samples)
    return padded, lengths
