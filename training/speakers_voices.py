"""Pseudo-speakers: the same people with a longer or shorter vocal tract and another pitch, and
what a public speaker encoder (the teacher) makes of each of them.

Source: speed-perturbed speech as new speakers, Yamamoto et al. (2019); the envelope is moved
apart from the pitch by cepstral smoothing, as in Röbel and Rodet (2005), section 2.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from training.resemblyzer import Resemblyzer
from training.speakers_data import load_corpus, resampled

ROWS = 7
LARGEST_SPEED, LARGEST_WARP = 1.25, 1.12
TEACHER_WINDOW = 25600
FFT, HOP, QUEFRENCIES = 512, 256, 32
LOUDEST_CHANGE = 2.5  # nepers
OWN_SHARE = 0.5
SHRINKAGE = 2.0

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Voices:
    """`speeds` and `warps` float64 [ROWS, S]: in row r, speaker s speaks `speeds[r, s]` times as
    fast (pitch and formants rise with it), with formants moved by `warps[r, s]`. Row 0 is as
    recorded."""

    speeds: NDArray[np.float64]
    warps: NDArray[np.float64]

    @classmethod
    def draw(cls, speakers: int, seed: int) -> Voices:
        rng = np.random.default_rng(seed)
        speeds, warps = (
            np.exp(np.log(largest) * rng.uniform(-1, 1, (ROWS, speakers)))
            for largest in (LARGEST_SPEED, LARGEST_WARP)
        )
        speeds[0] = warps[0] = 1.0
        return cls(speeds, warps)


def warped(waveforms: Tensor, warps: Tensor) -> Tensor:
    """[B, T] with the spectral envelope of row b stretched by `warps[b]`; the pitch stays."""
    window = torch.hann_window(FFT)
    spectrum = torch.stft(waveforms, FFT, HOP, window=window, return_complex=True)
    # Its own noise floor, so that silence has an envelope too.
    power = spectrum.real.square() + spectrum.imag.square()
    level = 0.5 * torch.log(power + 1e-4 * power.mean((1, 2), keepdim=True) + 1e-9)
    cepstrum = torch.fft.irfft(level, n=FFT, dim=1)
    cepstrum[:, QUEFRENCIES : FFT - QUEFRENCIES + 1] = 0
    envelope = torch.fft.rfft(cepstrum, dim=1).real
    top = FFT // 2
    place = (torch.arange(top + 1) / warps[:, None]).clamp(max=top)  # [B, F]
    below = place.floor().long().clamp(max=top - 1)
    part = (place - below)[..., None].float()
    frames = envelope.shape[-1]
    lower = envelope.gather(1, below[..., None].expand(-1, -1, frames))
    upper = envelope.gather(1, (below + 1)[..., None].expand(-1, -1, frames))
    change = (lower + part * (upper - lower) - envelope).clamp(-LOUDEST_CHANGE, LOUDEST_CHANGE)
    moved: Tensor = torch.istft(
        spectrum * change.exp(), FFT, HOP, window=window, length=waveforms.shape[1]
    )
    return moved


def teacher_targets(kept: Path, weights: Path, voices: Voices, dim: int, processes: int) -> Tensor:
    """Where each utterance of the corpus in `kept` belongs, in every row of `voices`: float16
    [ROWS, U, dim] of length 1. Half of it is the teacher's mean over (at most four) windows of
    the utterance, half the mean over all that the speaker says, which no single window shows; in
    the directions that tell the training speakers apart (linear discriminant analysis)."""
    heard = partial(_heard, kept, weights, voices)
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        vectors = normalize(torch.stack(list(pool.map(heard, range(ROWS)))), dim=-1)
    speakers = torch.from_numpy(load_corpus(kept).speakers)
    people = torch.cat([speakers + row * (int(speakers.max()) + 1) for row in range(ROWS)])
    flat = vectors.flatten(0, 1)
    mean = flat[: len(speakers)].mean(0)
    projection = discriminant(flat, people, dim)
    settled = OWN_SHARE * flat + (1 - OWN_SHARE) * normalize(means_of(flat, people), dim=1)[people]
    return normalize((settled - mean) @ projection, dim=1).view(*vectors.shape[:2], dim).half()


@torch.inference_mode()
def _heard(kept: Path, weights: Path, voices: Voices, row: int) -> Tensor:
    """The teacher's mean over the windows of each utterance: float32 [U, 256]."""
    torch.set_num_threads(1)
    corpus, teacher = load_corpus(kept), Resemblyzer(weights)
    vectors = torch.zeros(len(corpus.bounds), 256)
    for first in range(0, len(corpus.bounds), 32):
        indices = range(first, min(first + 32, len(corpus.bounds)))
        parts = []
        for index in indices:
            speed = voices.speeds[row, corpus.speakers[index]]
            windows = evenly(corpus.utterance(index), round(TEACHER_WINDOW * speed))
            parts.append(torch.from_numpy(resampled(windows, TEACHER_WINDOW)))
        owners = torch.tensor([i for i, p in zip(indices, parts, strict=True) for _ in p])
        waveforms = torch.cat(parts)
        if row:
            warps = torch.from_numpy(voices.warps[row])[corpus.speakers[owners.numpy()]]
            waveforms = warped(waveforms, warps)
        vectors.index_add_(0, owners, teacher(waveforms))
    print(f"teacher: row {row} of {ROWS} done", flush=True)
    return vectors


def evenly(samples: Samples, length: int) -> Samples:
    """Two to four windows [W, length], spread over an utterance (repeated where it is shorter)."""
    samples = np.resize(samples, max(len(samples), length))
    count = min(4, max(2, round(len(samples) / length)))
    starts = np.linspace(0, len(samples) - length, count).astype(int)
    return np.stack([samples[at : at + length] for at in starts])


def means_of(vectors: Tensor, people: Tensor) -> Tensor:
    """The mean of each person's vectors: [P, D]."""
    count = torch.bincount(people).clamp(min=1)[:, None]
    sums = torch.zeros(len(count), vectors.shape[1]).index_add_(0, people, vectors)
    return sums / count


def discriminant(vectors: Tensor, people: Tensor, dim: int) -> Tensor:
    """Vectors [N, D] of people [N] to a projection [D, dim], by linear discriminant analysis."""
    vectors = vectors - vectors.mean(0)
    means = means_of(vectors, people)
    within = (vectors - means[people]).T.cov()
    # Shrunk, so that directions with hardly any variance are not blown up.
    values, axes = torch.linalg.eigh(
        within + SHRINKAGE * within.trace() / len(within) * torch.eye(len(within))
    )
    whiten = axes / values.sqrt()
    between = means[torch.bincount(people) > 0] @ whiten
    directions: Tensor = torch.linalg.eigh(between.T @ between)[1][:, -dim:]
    return whiten @ directions
