"""How something is said, as one vector: functionals of level, spectrum, pitch and rhythm.

After eGeMAPS (Eyben et al., 2016), section 3, in spirit: few descriptors, robust statistics.
Everything is relative to the loudness of the piece itself, so that the level of a recording
plays no part. Pitch: window-corrected autocorrelation (Boersma, 1993).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TypeAlias

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from pipeline.stage import SAMPLE_RATE
from stages.audio.features import Fbank, FbankOptions

Array: TypeAlias = NDArray[np.floating]

MELS = 40
CEPSTRA = 13
BANDS = 10
ACTIVE_RANGE = 30 / 10 * np.log(10)
"""Frames up to 30 dB below the loudest tenth of a piece are taken for speech."""

PITCH_WINDOW = 640
LOWEST, HIGHEST = 60, 500
"""Hz, of the pitch."""
_LAGS = np.arange(SAMPLE_RATE // HIGHEST, SAMPLE_RATE // LOWEST)
_SHIFT = 160
_PITCH_FFT = 960  # a product of small primes above the window and the longest lag
_MEL_OPTIONS = FbankOptions(num_mel_bins=MELS, window="povey", high_freq=7600.0)
_VOICED = 0.5
_QUANTILES = (0.1, 0.5, 0.9)
_MODULATIONS = ((1, 2), (2, 4), (4, 8), (8, 16))
SHORTEST = PITCH_WINDOW + 9 * _SHIFT
"""Samples needed for a vector."""


def functionals(samples: Array) -> NDArray[np.float32]:
    """`samples` [n], at least SHORTEST, 16 kHz, full scale 1.0 -> float32 [D], finite."""
    harmonicity, pitch = _pitch(samples)
    mel, cepstra = _log_mel(samples, len(pitch))
    energy = np.logaddexp.reduce(mel, axis=1)
    active = energy > _quantiles(energy, (0.9,)) - ACTIVE_RANGE
    level = energy[active].mean()
    voiced = active & (harmonicity > _VOICED)
    parts = (
        _spectral(mel - level, cepstra, active),
        _level(energy - level, active),
        _melody(pitch, voiced),
        _statistics(harmonicity[active]),
        _rhythm(energy - level, active, voiced),
    )
    vector: NDArray[np.float32] = np.nan_to_num(np.concatenate(parts)).astype(np.float32)
    return vector


def _spectral(mel: Array, cepstra: Array, active: NDArray[np.bool_]) -> Array:
    """Long-term spectrum in bands, cepstra and their movement, flux."""
    speech = mel[active]
    bands = speech.reshape(len(speech), BANDS, -1).mean(axis=2)
    movement = _delta(cepstra)[active]
    cepstra = cepstra[active]
    flux = np.abs(np.diff(mel, axis=0, prepend=mel[:1])).mean(axis=1)[active]
    return np.concatenate(
        [
            bands.mean(axis=0),
            bands.std(axis=0),
            cepstra.mean(axis=0),
            cepstra.std(axis=0),
            *_quantiles(cepstra, (0.1, 0.9)),
            movement.std(axis=0),
            _statistics(flux),
        ]
    )


def _level(energy: Array, active: NDArray[np.bool_]) -> Array:
    """`energy` of mean 0 where active: the rounding that is left of its mean must not count."""
    movement = _delta(energy[:, None])[:, 0][active]
    return np.concatenate([[0.0], _statistics(energy[active])[1:], _statistics(np.abs(movement))])


def _melody(pitch: Array, voiced: NDArray[np.bool_]) -> Array:
    """Pitch in semitones over 100 Hz: where it lies, how far and how fast it moves."""
    if voiced.sum() < 5:
        return np.zeros(11, dtype=np.float32)
    semitones = 12 * np.log2(_median_of_five(pitch)[voiced] / 100)
    steps = np.diff(semitones)
    steps = np.abs(steps[np.abs(steps) < 3])  # larger ones are octave errors or pauses
    at = np.linspace(-1, 1, len(semitones))
    slope = (at @ semitones) / (at @ at)
    low, high = _quantiles(semitones, (0.05, 0.95))
    moving = _statistics(steps) if len(steps) else np.zeros(5, dtype=np.float32)
    return np.concatenate([_statistics(semitones), moving[:3], [slope, high - low, low]])


def _rhythm(energy: Array, active: NDArray[np.bool_], voiced: NDArray[np.bool_]) -> Array:
    """How much is speech and voiced, how often voicing starts, and the modulation spectrum."""
    runs = np.flatnonzero(np.diff(voiced.astype(np.int8)) == 1)
    envelope = np.maximum(energy, energy.max() - ACTIVE_RANGE)
    windowed = (envelope - envelope.mean()) * np.hanning(len(envelope))
    power = np.abs(np.fft.rfft(windowed, n=1024)) ** 2
    hertz = np.arange(len(power)) * SAMPLE_RATE / _SHIFT / 1024
    bands = [power[(hertz >= low) & (hertz < high)].sum() for low, high in _MODULATIONS]
    shares = np.log((np.array(bands) + 1e-3) / (sum(bands) + 1e-3))
    return np.concatenate(
        [[voiced.sum() / active.sum(), len(runs) / active.sum() * SAMPLE_RATE / _SHIFT], shares]
    )


def _statistics(values: Array) -> Array:
    """Mean, standard deviation and three quantiles."""
    return np.concatenate([[values.mean(), values.std()], _quantiles(values, _QUANTILES)])


def _quantiles(values: Array, shares: Sequence[float]) -> Array:
    """`np.quantile` over the first axis, [n, ...] -> [shares, ...]; it takes its time over a few
    numbers."""
    ordered = np.sort(values, axis=0)
    at = np.array(shares) * (len(values) - 1)
    below = at.astype(np.intp)
    above = np.minimum(below + 1, len(values) - 1)
    part = (at - below).reshape(-1, *[1] * (values.ndim - 1))
    found: Array = ordered[below] + part * (ordered[above] - ordered[below])
    return found


def _median_of_five(values: Array) -> Array:
    """Of each value and its neighbours, zeros before the first and after the last."""
    median: Array = np.median(sliding_window_view(np.pad(values, 2), 5), axis=1)
    return median


def _delta(values: Array) -> Array:
    """The slope over five frames, [F, D] -> [F, D]."""
    padded = np.pad(values, ((2, 2), (0, 0)), mode="edge")
    return (2 * (padded[4:] - padded[:-4]) + padded[3:-1] - padded[1:-3]) / 10


def _pitch(samples: Array) -> tuple[Array, Array]:
    """Harmonicity in [0, 1] and pitch in Hz of each frame, [F] each."""
    frames: Array = sliding_window_view(samples, PITCH_WINDOW)[::_SHIFT]
    window, correction = _pitch_window()
    own = _autocorrelation((frames - frames.mean(axis=1, keepdims=True)) * window)
    similarity = own[:, _LAGS] / np.maximum(own[:, :1], 1e-9) * correction
    # Among lags that fit equally well, the shortest is the period: Boersma's octave cost.
    best = np.argmax(similarity - 0.02 * np.log2(_LAGS / _LAGS[0]), axis=1)
    harmonicity = similarity[np.arange(len(best)), best].clip(0, 1)
    return harmonicity, SAMPLE_RATE / _LAGS[best]


@cache
def _pitch_window() -> tuple[Array, Array]:
    """[PITCH_WINDOW], and by how much it lessens the autocorrelation at each lag."""
    window = np.hanning(PITCH_WINDOW).astype(np.float32)
    shape = _autocorrelation(window[None])[0]
    return window, shape[0] / shape[_LAGS]


def _autocorrelation(frames: Array) -> Array:
    """[F, n] -> [F, _PITCH_FFT]."""
    spectrum = torch.fft.rfft(torch.from_numpy(frames), n=_PITCH_FFT)
    power = spectrum.real.square() + spectrum.imag.square()
    correlation: Array = torch.fft.irfft(power, n=_PITCH_FFT).numpy()
    return correlation


def _log_mel(samples: Array, frames: int) -> tuple[Array, Array]:
    """[F, MELS] and its cepstra [F, CEPSTRA], without the constant one."""
    features, _ = _fbank()(torch.from_numpy(samples)[None], torch.tensor([len(samples)]))
    mel = features[0, :frames]
    return mel.numpy(), (mel @ _cosines()).numpy()


@cache
def _fbank() -> Fbank:
    return Fbank(_MEL_OPTIONS)


@cache
def _cosines() -> torch.Tensor:
    """Of an orthonormal DCT-II, without the constant one: float32 [MELS, CEPSTRA]."""
    rows, columns = np.arange(MELS)[:, None], np.arange(1, CEPSTRA + 1)
    angles = np.pi / MELS * (rows + 0.5) * columns
    return torch.from_numpy((np.sqrt(2 / MELS) * np.cos(angles)).astype(np.float32))
