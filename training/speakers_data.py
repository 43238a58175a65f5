"""Speech for the speaker recipe: who speaks in shared/data and in synthetic voices, crops drawn
evenly over speakers, and what a room, a microphone and other people do to them.

Source: Snyder et al., X-vectors (2018), section 3.3, for the augmentation; speed-perturbed
speech as new speakers: Yamamoto et al. (2019).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.splits import Utterance, is_held_out, read_manifest
from training.voices import VOICES, VoiceError, missing, say

RATE = 16000
FOLDERS = (
    "asr-en-train-clean-5",
    "asr-en-dev-clean",
    "speakers-librispeech",
    "asr-en-commonvoice",
    "asr-en-speechocean762",
    "asr-en-ljspeech",
    "emotion-emodb",
)
WINDOW = 24000
LONGEST_S = 300.0
SENTENCES_A_VOICE = 8
TRAINED_VOICES = VOICES[::2]
HELD_OUT_VOICES = VOICES[1::2]

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Corpus:
    """`samples` int16 [N]: all utterances on end; `bounds` int64 [U, 2] their first and last
    sample; `speakers` int64 [U] index `names`."""

    samples: NDArray[np.int16]
    bounds: NDArray[np.int64]
    speakers: NDArray[np.int64]
    names: tuple[str, ...]

    def utterance(self, index: int) -> Samples:
        first, last = self.bounds[index]
        return self.samples[first:last].astype(np.float32) / np.float32(32768)


def gather(data: Path, kept: Path) -> Corpus:
    """Every speaker who is not held out, at most LONGEST_S of each. Decoded once into the folder
    `kept`."""
    if not (kept / "index.npz").exists():
        spoken = [*_recorded(data), *_synthetic(data)]
        names = sorted({name for name, _ in spoken})
        ends = np.cumsum([len(samples) for _, samples in spoken])
        kept.mkdir(parents=True, exist_ok=True)
        np.save(kept / "samples.npy", np.concatenate([samples for _, samples in spoken]))
        np.savez(
            kept / "index.npz",
            bounds=np.stack([np.r_[0, ends[:-1]], ends], axis=1),
            speakers=np.array([names.index(name) for name, _ in spoken]),
            names=np.array(names),
        )
    return load_corpus(kept)


def load_corpus(kept: Path) -> Corpus:
    """What `gather` has kept; all processes of a machine share the samples in memory."""
    samples = np.load(kept / "samples.npy", mmap_mode="r", allow_pickle=False)
    with np.load(kept / "index.npz", allow_pickle=False) as arrays:
        names = tuple(arrays["names"].tolist())
        return Corpus(samples, arrays["bounds"], arrays["speakers"], names)


def _recorded(data: Path) -> list[tuple[str, NDArray[np.int16]]]:
    """(speaker, samples) of people. lb-N and ls-N are LibriSpeech's one speaker N."""
    spoken, seconds = [], defaultdict[str, float](float)
    for folder in FOLDERS:
        for utterance in _training_utterances(data / folder):
            name = utterance.speaker.replace("lb-", "ls-")
            if seconds[name] < LONGEST_S:
                seconds[name] += utterance.seconds
                spoken.append((name, soundfile.read(utterance.audio, dtype="int16")[0]))
    return spoken


def _training_utterances(folder: Path) -> list[Utterance]:
    rows = read_manifest(folder)
    return [row for row in rows if not is_held_out(row.speaker, row.split)]


def _synthetic(data: Path) -> list[tuple[str, NDArray[np.int16]]]:
    """(voice, samples), each voice with sentences of its own; a voice that is not installed
    is named and left out."""
    rows = _training_utterances(data / "asr-en-train-clean-5")
    texts = [row.text.lower() for row in rows if 8 <= len(row.text.split()) <= 20]
    spoken = []
    for index, voice in enumerate(TRAINED_VOICES):
        if reason := missing(voice):
            print(f"left out: {reason}")
            continue
        first = index * SENTENCES_A_VOICE
        for at in range(first, first + SENTENCES_A_VOICE):
            try:
                samples = say(voice, texts[at % len(texts)]).samples
            except (VoiceError, ValueError):  # a sentence that the engine cannot time
                continue
            spoken.append((voice.label, (samples * 32767).astype(np.int16)))
    return spoken


def load_noise(data: Path) -> list[Samples]:
    """The everyday noises of noise-esc10."""
    folder = data / "noise-esc10"
    paths = sorted(p for p in folder.rglob("*") if p.suffix in {".opus", ".flac", ".ogg", ".wav"})
    return [soundfile.read(path, dtype="float32")[0] for path in paths]


def resampled(samples: Samples, length: int) -> Samples:
    """The same sound [..., T] in `length` samples, band-limited (through the spectrum)."""
    if length == samples.shape[-1]:
        return samples
    spectrum = torch.fft.rfft(torch.from_numpy(samples))
    scale = length / samples.shape[-1]
    scaled: Samples = (torch.fft.irfft(spectrum, n=length) * scale).numpy()
    return scaled


class Augmenter:
    """Rooms, noise, other voices and level on waveforms; masks on features."""

    def __init__(self, noises: list[Samples], rng: np.random.Generator) -> None:
        self.noises, self.rng = noises, rng

    def waveforms(self, clean: Tensor) -> Tensor:
        """[B, T] to [B, T], half of the rows left as they are but for the level."""
        rng, (count, length) = self.rng, clean.shape
        what = rng.choice(5, count, p=[0.5, 0.15, 0.15, 0.1, 0.1])
        out = clean.clone()
        rooms = np.flatnonzero((what == 1) | (what == 3))
        if len(rooms):
            out[rooms] = self._reverberated(out[rooms])
        for row in np.flatnonzero((what == 2) | (what == 3)):
            out[row] = mixed(out[row], self._noise(length), rng.uniform(3, 25))
        for row in np.flatnonzero(what == 4):
            out[row] = mixed(out[row], clean[(row + 1) % count], rng.uniform(8, 22))
        level = out.square().mean(1, keepdim=True).sqrt().clamp(min=1e-5)
        wanted = 10 ** (rng.uniform(-40, -15, (count, 1)) / 20)
        return (out / level * torch.from_numpy(wanted).float()).clamp(-1, 1)

    def _reverberated(self, dry: Tensor) -> Tensor:
        """Convolved with exponentially decaying noise after the direct sound."""
        rng, (count, length) = self.rng, dry.shape
        taps = RATE // 2
        seconds = torch.arange(taps) / RATE
        decay = torch.from_numpy(rng.uniform(0.1, 0.8, (count, 1))).float()
        tail = torch.randn(count, taps) * torch.exp(-6.9 * seconds / decay)
        tail[:, : RATE // 400] = 0
        direct_db = torch.from_numpy(rng.uniform(0, 15, (count, 1))).float()
        tail = tail / tail.square().sum(1, keepdim=True).sqrt() * 10 ** (-direct_db / 20)
        tail[:, 0] = 1
        size = 1 << (length + taps - 1).bit_length()
        wet: Tensor = torch.fft.irfft(torch.fft.rfft(dry, size) * torch.fft.rfft(tail, size), size)
        return wet[:, :length]

    def _noise(self, length: int) -> Tensor:
        """A recorded noise, or a coloured one."""
        if self.rng.random() < 0.6:
            noise = self.noises[self.rng.integers(len(self.noises))]
            start = self.rng.integers(max(1, len(noise) - length))
            return torch.from_numpy(np.resize(noise[start : start + length], length))
        spectrum = torch.fft.rfft(torch.randn(length))
        hertz = torch.fft.rfftfreq(length, 1 / RATE).clamp(min=20)
        coloured: Tensor = torch.fft.irfft(spectrum * hertz ** -self.rng.uniform(0, 1.2), n=length)
        return coloured

    def masked(self, features: Tensor) -> Tensor:
        """SpecAugment on [B, F, M], zero being the mean: half of the rows."""
        rng, (count, frames, bins) = self.rng, features.shape
        for row in np.flatnonzero(rng.random(count) < 0.5):
            start, width = rng.integers(frames - 25), rng.integers(5, 25)
            features[row, start : start + width] = 0
            start, width = rng.integers(bins - 10), rng.integers(2, 10)
            features[row, :, start : start + width] = 0
        return features


def mixed(speech: Tensor, other: Tensor, snr_db: float) -> Tensor:
    """`speech` with `other` at the signal-to-noise ratio."""
    ratio = speech.square().mean() / other.square().mean().clamp(min=1e-10)
    gain: Tensor = (ratio * 10 ** (-snr_db / 10)).sqrt()
    return speech + gain * other
