"""How something is said, as one vector: functionals of level, spectrum, pitch and rhythm.

After eGeMAPS (Eyben et al., 2016), section 3, in spirit: few descriptors, robust statistics.
Everything is relative to the loudness of the piece itself, so that the level of a recording
plays no part. Pitch: window-corrected autocorrelation (Boersma, 1993).
"""

from __future__ import annotations

from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.fft import dct, irfft, next_fast_len, rfft
from scipy.signal import medfilt

from pipeline.stage import SAMPLE_RATE
from stages.audio.features import INT16_SCALE, LOG_FLOOR, FbankOptions, mel_filters

Array: TypeAlias = NDArray[np.floating]

MELS = 40
CEPSTRA = 13
BANDS = 10
ACTIVE_RANGE = 30 / 10 * np.log(10)
"""Frames up to 30 dB below the loudest tenth of a piece are taken for speech."""

MEL_WINDOW, PITCH_WINDOW = 400, 640
LOWEST, HIGHEST = 60, 500
"""Hz, of the pitch."""
_SHIFT = 160
_MEL_FFT = 512
_MEL_OPTIONS = FbankOptions(num_mel_bins=MELS, high_freq=7600.0)
_VOICED = 0.5
_QUANTILES = (0.1, 0.5, 0.9)
_MODULATIONS = ((1, 2), (2, 4), (4, 8), (8, 16))
SHORTEST = PITCH_WINDOW + 9 * _SHIFT
"""Samples needed for a vector."""


def functionals(samples: Array) -> NDArray[np.float32]:
    """`samples` [n], at least SHORTEST, 16 kHz, full scale 1.0 -> float32 [D], finite."""
    harmonicity, pitch = _pitch(samples)
    mel = _log_mel(samples)[: len(pitch)]
    energy = np.logaddexp.reduce(mel, axis=1)
    active = energy > np.quantile(energy, 0.9) - ACTIVE_RANGE
    level = energy[active].mean()
    voiced = active & (harmonicity > _VOICED)
    parts = (
        _spectral(mel - level, active),
        _level(energy - level, active),
        _melody(pitch, voiced),
        _statistics(harmonicity[active]),
        _rhythm(energy - level, active, voiced),
    )
    vector: NDArray[np.float32] = np.nan_to_num(np.concatenate(parts)).astype(np.float32)
    return vector


def _spectral(mel: Array, active: NDArray[np.bool_]) -> Array:
    """Long-term spectrum in bands, cepstra and their movement, flux."""
    speech = mel[active]
    bands = speech.reshape(len(speech), BANDS, -1).mean(axis=2)
    cepstra = dct(speech, norm="ortho", axis=1)[:, 1 : CEPSTRA + 1]
    movement = _delta(dct(mel, norm="ortho", axis=1)[:, 1 : CEPSTRA + 1])[active]
    flux = np.abs(np.diff(mel, axis=0, prepend=mel[:1])).mean(axis=1)[active]
    return np.concatenate(
        [
            bands.mean(axis=0),
            bands.std(axis=0),
            cepstra.mean(axis=0),
            cepstra.std(axis=0),
            *np.quantile(cepstra, (0.1, 0.9), axis=0),
            movement.std(axis=0),
            _statistics(flux),
        ]
    )


def _level(energy: Array, active: NDArray[np.bool_]) -> Array:
    movement = _delta(energy[:, None])[:, 0][active]
    return np.concatenate([_statistics(energy[active]), _statistics(np.abs(movement))])


def _melody(pitch: Array, voiced: NDArray[np.bool_]) -> Array:
    """Pitch in semitones over 100 Hz: where it lies, how far and how fast it moves."""
    if voiced.sum() < 5:
        return np.zeros(11, dtype=np.float32)
    semitones = 12 * np.log2(medfilt(pitch, 5)[voiced] / 100)
    steps = np.diff(semitones)
    steps = np.abs(steps[np.abs(steps) < 3])  # larger ones are octave errors or pauses
    slope = np.polyfit(np.linspace(-1, 1, len(semitones)), semitones, 1)[0]
    low, high = np.quantile(semitones, (0.05, 0.95))
    moving = _statistics(steps) if len(steps) else np.zeros(5, dtype=np.float32)
    return np.concatenate([_statistics(semitones), moving[:3], [slope, high - low, low]])


def _rhythm(energy: Array, active: NDArray[np.bool_], voiced: NDArray[np.bool_]) -> Array:
    """How much is speech and voiced, how often voicing starts, and the modulation spectrum."""
    runs = np.flatnonzero(np.diff(voiced.astype(np.int8)) == 1)
    envelope = np.maximum(energy, energy.max() - ACTIVE_RANGE)
    power = np.abs(rfft((envelope - envelope.mean()) * np.hanning(len(envelope)), n=1024)) ** 2
    hertz = np.arange(len(power)) * SAMPLE_RATE / _SHIFT / 1024
    bands = [power[(hertz >= low) & (hertz < high)].sum() for low, high in _MODULATIONS]
    shares = np.log((np.array(bands) + 1e-3) / (sum(bands) + 1e-3))
    return np.concatenate(
        [[voiced.sum() / active.sum(), len(runs) / active.sum() * SAMPLE_RATE / _SHIFT], shares]
    )


def _statistics(values: Array) -> Array:
    """Mean, standard deviation and three quantiles."""
    return np.concatenate([[values.mean(), values.std()], np.quantile(values, _QUANTILES)])


def _delta(values: Array) -> Array:
    """The slope over five frames, [F, D] -> [F, D]."""
    padded = np.pad(values, ((2, 2), (0, 0)), mode="edge")
    return (2 * (padded[4:] - padded[:-4]) + padded[3:-1] - padded[1:-3]) / 10


def _pitch(samples: Array) -> tuple[Array, Array]:
    """Harmonicity in [0, 1] and pitch in Hz of each frame, [F] each."""
    window = np.hanning(PITCH_WINDOW).astype(np.float32)
    size = next_fast_len(PITCH_WINDOW + SAMPLE_RATE // LOWEST, real=True)
    lags = np.arange(SAMPLE_RATE // HIGHEST, SAMPLE_RATE // LOWEST)
    shape = _autocorrelation(window[None], size)[0]
    own = _autocorrelation(_frames(samples, PITCH_WINDOW) * window, size)
    similarity = own[:, lags] / np.maximum(own[:, :1], 1e-9) * (shape[0] / shape[lags])
    # Among lags that fit equally well, the shortest is the period: Boersma's octave cost.
    best = np.argmax(similarity - 0.02 * np.log2(lags / lags[0]), axis=1)
    harmonicity = similarity[np.arange(len(best)), best].clip(0, 1)
    return harmonicity, SAMPLE_RATE / lags[best]


def _autocorrelation(frames: Array, size: int) -> Array:
    """[F, n] -> [F, size], by an FFT of `size` points."""
    correlation: Array = irfft(np.abs(rfft(frames, n=size, axis=1)) ** 2, n=size, axis=1)
    return correlation


def _log_mel(samples: Array) -> Array:
    """Kaldi's log-mel features, [F, MELS], as `stages.audio.features` has them; in numpy, since
    for a few seconds torch's threads cost more than the work."""
    frames = _frames(samples * np.float32(INT16_SCALE), MEL_WINDOW)
    previous = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    povey = (np.hanning(MEL_WINDOW) ** 0.85).astype(np.float32)
    spectrum = rfft((frames - np.float32(0.97) * previous) * povey, n=_MEL_FFT, axis=1)
    power = np.abs(spectrum[:, :-1]) ** 2
    mel: Array = np.log(np.maximum(power @ _mel_filters(), LOG_FLOOR))
    return mel


def _frames(samples: Array, length: int) -> Array:
    """[F, length], a frame every 10 ms, each without its mean."""
    frames: Array = sliding_window_view(samples, length)[::_SHIFT]
    centred: Array = frames - frames.mean(axis=1, keepdims=True)
    return centred


@cache
def _mel_filters() -> Array:
    filters: Array = mel_filters(_MEL_OPTIONS, _MEL_FFT).numpy()
    return filters
