"""Trains the bundled emotion head: logistic regression on functionals of EmoDB's acted speech,
distorted in many ways, with read speech of other corpora as further neutral speech.

    python -m training.emotion --data ../shared/data --out DIR

Scores are of leave-one-speaker-out over EmoDB's ten actors, with strength and temperature chosen
on the nine others (nested). The functionals are kept in DIR: run again to go on from there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.signal import fftconvolve

from pipeline.stage import SAMPLE_RATE
from stages.audio.decode import AudioParameters, AudioSource
from stages.emotion.features import functionals
from stages.emotion.head import LARGEST, EmotionHead
from stages.models import save_model
from training.splits import Utterance, is_held_out, read_manifest

LABELS = ("neutral", "positive", "angry", "sad")
ACTED = {"neutral": 0, "happiness": 1, "anger": 2, "sadness": 3}
READ = {"asr-en-commonvoice": 600, "asr-en-train-clean-5": 300, "asr-en-speechocean762": 300}
COPIES = 8
STRENGTHS = (0.1, 0.3, 1.0, 3.0)
SEED = 2

Array: TypeAlias = NDArray[np.float32]
Matrix: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Data:
    """`acted` float32 [N, 1 + COPIES, D]: each clip as it is, then distorted; `labels` int [N],
    `speakers` [N]. `read` float32 [M, D]: neutral speech of training speakers."""

    acted: Array
    labels: NDArray[np.int64]
    speakers: NDArray[np.str_]
    read: Array


@dataclass(frozen=True)
class Linear:
    """Standardisation and weights of the classes; `temperature` divides the logits."""

    mean: Matrix
    scale: Matrix
    weight: Matrix
    bias: Matrix
    temperature: float = 1.0

    def logits(self, vectors: Array) -> Matrix:
        """[..., D] to [..., classes]."""
        standardised = ((vectors - self.mean) / self.scale).clip(-LARGEST, LARGEST)
        result: Matrix = (standardised @ self.weight.T + self.bias) / self.temperature
        return result


def decode(path: Path) -> Array:
    """float32 [n] at 16 kHz."""
    source = AudioSource(str(path), AudioParameters.model_validate({}))
    return np.concatenate([block.samples for block in source.blocks()])


def distort(samples: Array, noises: Sequence[Array], rng: np.random.Generator) -> Array:
    """A clip cut shorter, through another microphone, room and line, with noise."""
    if rng.random() < 0.6:
        length = min(len(samples), int(rng.uniform(1.0, 2.0) * SAMPLE_RATE))
        first = int(rng.integers(0, len(samples) - length + 1))
        samples = samples[first : first + length]
    size = len(samples)
    hertz = np.maximum(np.fft.rfftfreq(size, 1 / SAMPLE_RATE), 20.0)
    octaves = np.log2(hertz)
    decibels = rng.normal(0, 1.5) * (octaves - 10)
    decibels += np.interp(octaves, np.linspace(5.5, 13, 8), rng.normal(0, 3, 8))
    gain = 10 ** (decibels / 20)
    if rng.random() < 0.25:  # a telephone line
        gain /= (1 + (hertz / 3500) ** 16) * (1 + (300 / hertz) ** 8)
    heard = np.fft.irfft(np.fft.rfft(samples) * gain, size)
    if rng.random() < 0.5:
        heard = fftconvolve(heard, _echo(rng))[:size]
    if rng.random() < 0.7:
        noise = rng.normal(size=size)
        if rng.random() < 0.6:
            noise = np.resize(noises[int(rng.integers(len(noises)))], size)
        power = np.mean(heard**2) / max(float(np.mean(noise**2)), 1e-12)
        heard = heard + noise * np.sqrt(power * 10 ** (-rng.uniform(5, 40) / 10))
    return np.asarray(heard, dtype=np.float32)


def _echo(rng: np.random.Generator) -> Matrix:
    """A direct sound, and noise that decays by 60 dB in 0.1 to 0.6 s and is 0 to 12 dB lower."""
    seconds = np.arange(int(0.4 * SAMPLE_RATE)) / SAMPLE_RATE
    tail = rng.normal(size=len(seconds)) * 10 ** (-3 * seconds / rng.uniform(0.1, 0.6))
    tail *= 10 ** (-rng.uniform(0, 12) / 20) / np.sqrt(np.sum(tail**2))
    tail[0] = 1.0
    return np.asarray(tail)


def load_noises(data: Path) -> list[Array]:
    """Every clip of noise that is not silent."""
    files = sorted(p for p in (data / "noise-esc10").rglob("*") if p.suffix in (".opus", ".flac"))
    noises = [decode(file) for file in files]
    return [noise for noise in noises if len(noise) > SAMPLE_RATE and noise.std() > 1e-4]


def some_read_speech(data: Path, corpus: str, count: int, held_out: bool) -> list[Utterance]:
    """Up to `count` utterances, drawn evenly, of speakers who are (or are not) held out."""
    rows = [u for u in read_manifest(data / corpus) if is_held_out(u.speaker, u.split) == held_out]
    order = np.random.default_rng(SEED).permutation(len(rows))[:count]
    return [rows[at] for at in sorted(order)]


def read_functionals(rows: Sequence[Utterance], noises: Sequence[Array]) -> Array:
    """One piece of 1.5 to 3 s of each utterance, every second one distorted: [M, D].
    Without `noises` none is."""
    rng = np.random.default_rng(SEED)
    vectors = []
    for number, row in enumerate(rows):
        samples = decode(row.audio)
        length = min(len(samples), int(rng.uniform(1.5, 3.0) * SAMPLE_RATE))
        first = int(rng.integers(0, len(samples) - length + 1))
        piece = samples[first : first + length]
        if noises and number % 2:
            piece = distort(piece, noises, rng)
        vectors.append(functionals(piece))
    return np.array(vectors)


def load_data(data: Path, cache: Path) -> Data:
    """All functionals; a minute or two, and at once when `cache` has them."""
    if cache.is_file():
        with np.load(cache, allow_pickle=False) as kept:
            return Data(kept["acted"], kept["labels"], kept["speakers"], kept["read"])
    rng = np.random.default_rng(SEED)
    noises = load_noises(data)
    rows = [row for row in read_manifest(data / "emotion-emodb") if row.emotion in ACTED]
    clips = [decode(row.audio) for row in rows]
    acted = [
        [functionals(clip), *(functionals(distort(clip, noises, rng)) for _ in range(COPIES))]
        for clip in clips
    ]
    read = [
        read_functionals(some_read_speech(data, corpus, count, held_out=False), noises)
        for corpus, count in READ.items()
    ]
    found = Data(
        np.array(acted),
        np.array([ACTED[row.emotion] for row in rows]),
        np.array([row.speaker for row in rows]),
        np.concatenate(read),
    )
    cache.parent.mkdir(parents=True, exist_ok=True)
    np.savez(cache, **vars(found))
    return found


@lru_cache(maxsize=512)
def fit(data: Data, without: frozenset[str], strength: float) -> Linear:
    """Logistic regression on all speakers but those `without`. The four classes weigh the same;
    read speech weighs as much again as acted neutral speech."""
    from sklearn.linear_model import LogisticRegression

    keep = ~np.isin(data.speakers, sorted(without))
    acted, labels = data.acted[keep], data.labels[keep]
    copies = acted.shape[1]
    vectors = np.concatenate([acted.reshape(-1, acted.shape[2]), data.read]).astype(np.float64)
    classes = np.concatenate([np.repeat(labels, copies), np.zeros(len(data.read), dtype=np.int64)])
    share = len(labels) / len(LABELS) / np.bincount(labels) / copies
    weights = np.concatenate(
        [
            share[np.repeat(labels, copies)],
            np.full(len(data.read), len(labels) / len(LABELS) / len(data.read)),
        ]
    )
    mean, scale = vectors.mean(axis=0), vectors.std(axis=0) + 1e-6
    standardised = ((vectors - mean) / scale).clip(-LARGEST, LARGEST)
    model = LogisticRegression(C=strength, max_iter=300)
    model.fit(standardised, classes, sample_weight=weights)
    return Linear(mean, scale, model.coef_, model.intercept_)


def negative_log_likelihood(logits: Matrix, labels: NDArray[np.int64]) -> float:
    """The mean over clips (and their copies), in nats; logits [N, 1 + COPIES, classes]."""
    top = logits.max(axis=-1, keepdims=True)
    log = logits - top - np.log(np.exp(logits - top).sum(axis=-1, keepdims=True))
    return float(-log[np.arange(len(labels)), :, labels].mean())


def held_out_logits(data: Data, without: frozenset[str], strength: float) -> Matrix:
    """Leave-one-speaker-out among the speakers that are left: [n, 1 + COPIES, classes]."""
    left = sorted(set(data.speakers.tolist()) - without)
    logits = np.zeros((*data.acted.shape[:2], len(LABELS)))
    for speaker in left:
        own = data.speakers == speaker
        logits[own] = fit(data, without | {speaker}, strength).logits(data.acted[own])
    return logits[np.isin(data.speakers, left)]


def fit_calibrated(data: Data, without: frozenset[str] = frozenset()) -> tuple[Linear, float]:
    """The model without some speakers, and its strength: that, and the temperature, are those
    that suit the others best, each held out in turn."""
    labels = data.labels[~np.isin(data.speakers, sorted(without))]

    def loss(log_temperature: float, logits: Matrix) -> float:
        return negative_log_likelihood(logits / np.exp(log_temperature), labels)

    tried: list[tuple[float, float, float]] = []
    for strength in STRENGTHS:
        logits = held_out_logits(data, without, strength)
        best = minimize_scalar(loss, bounds=(-2, 2), args=(logits,), method="bounded")
        tried.append((float(best.fun), strength, float(np.exp(best.x))))
    _, strength, temperature = min(tried)
    plain = fit(data, without, strength)
    return Linear(plain.mean, plain.scale, plain.weight, plain.bias, temperature), strength


def cross_validate(data: Data) -> Matrix:
    """Probabilities of every clip, clean and distorted, by a model that never heard its
    speaker: [N, 1 + COPIES, classes]."""
    logits = np.zeros((*data.acted.shape[:2], len(LABELS)))
    for speaker in sorted(set(data.speakers.tolist())):
        own = data.speakers == speaker
        model, strength = fit_calibrated(data, frozenset({speaker}))
        logits[own] = model.logits(data.acted[own])
        hits = (logits[own, 0].argmax(axis=1) == data.labels[own]).mean()
        log(speaker=speaker, strength=strength, temperature=model.temperature, accuracy=float(hits))
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: Matrix = raised / raised.sum(axis=-1, keepdims=True)
    return result


def to_head(model: Linear) -> EmotionHead:
    """The same as a torch module, the temperature folded into the weights."""
    head = EmotionHead(LABELS, dim=len(model.mean))
    tensors = {
        "mean": model.mean,
        "scale": model.scale,
        "linear.weight": model.weight / model.temperature,
        "linear.bias": model.bias / model.temperature,
    }
    head.load_state_dict({k: torch.from_numpy(v).float() for k, v in tensors.items()})
    return head


def log(**values: Any) -> None:
    print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in values.items()}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    data = load_data(arguments.data, arguments.out / "functionals.npz")
    model, strength = fit_calibrated(data)
    config = {"model": "EmotionHead", "labels": list(LABELS), "sample_rate": SAMPLE_RATE}
    save_model(arguments.out / "emotion-emodb", to_head(model).state_dict(), config)
    log(clips=len(data.labels), read=len(data.read), strength=strength, t=model.temperature)


if __name__ == "__main__":
    main()
