"""Sounds without a voice in them: paper, clothes on a microphone, keys, a chair.

They come and go as speech does, and a network may take them for it. But wherever speech stands well
above the noise its vowels can be heard to be periodic, and these are not.

Source of the measure: Boersma (1993), Accurate short-term analysis of the fundamental frequency
and the harmonics-to-noise ratio of a sampled sound, section 2: a window's autocorrelation, divided
by that of the window's shape.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.records import Span
from stages.vad.endpoint import FRAME_MS
from stages.vad.faint import NOISE_PERCENTILE
from stages.vad.posteriors import Frames, Window

RATE = 16000
FRAME, SHIFT = 400, 160
LENGTH = 640  # samples: three periods of a deep voice
BAND_HZ = (300, 3500)  # above what rumbles, below what hisses
PITCH_HZ = (70, 400)  # of a higher one, two or three periods are found
_HERTZ = torch.arange(LENGTH // 2 + 1) * RATE / (2 * LENGTH)  # to 4 kHz

MAY_BE_SPEECH = 0.8  # with less of a posterior of silence; others are not asked
VOICED = 0.8  # of an autocorrelation of 1: 6 dB of harmonics over noise
LEAST_SHARE, LEAST_FRAMES = 0.05, 30  # voiced frames, either of which is a voice
LOUD_PERCENTILE = 90  # of a segment's frames
ABOVE_NOISE_DB = 15.0  # where noise drowns the periods, nothing is known
SURE_PERCENTILE = 80  # of the frames' posteriors: what the network thinks of a segment


@torch.inference_mode()
def voiced_frames(window: Window, frames: Frames) -> NDArray[np.bool_]:
    """Which frames of a window may be speech and are voiced, [n]."""
    likely = np.flatnonzero(frames.silence < MAY_BE_SPEECH)
    samples, asked = torch.tensor(window.samples), torch.from_numpy(likely)
    found = np.zeros(len(frames.silence), bool)
    found[likely] = voicing(samples, window.start - window.context + asked).numpy() > VOICED
    return found


def voicing(samples: Tensor, frames: Tensor) -> Tensor:
    """Of samples float32 [N] at 16 kHz, and numbers of frames of 10 ms, int64 [F]: how periodic
    each frame is, with the 15 ms before it, from about 0 (noise) to 1 (a tone); [F]."""
    if not len(frames):
        return torch.zeros(0)
    padded = torch.nn.functional.pad(samples, (LENGTH - FRAME, LENGTH))
    heard = padded.unfold(0, LENGTH, SHIFT)[frames] * torch.hann_window(LENGTH)
    spectrum = torch.fft.rfft(heard, 2 * LENGTH)[:, : len(_HERTZ)]
    found = (spectrum.real.square() + spectrum.imag.square()) @ _correlation()
    peaks: Tensor = found[:, 1:].amax(dim=1) / (found[:, 0] + 1e-9)
    return peaks


@cache
def _correlation() -> Tensor:
    """From a power spectrum to the autocorrelation at no lag, and at each of PITCH_HZ: [bins,
    1 + lags]. Within BAND_HZ, and for a window of any shape."""
    lags = torch.arange(RATE // PITCH_HZ[1], RATE // PITCH_HZ[0] + 1)
    band = ((1 + (BAND_HZ[0] / _HERTZ) ** 8) * (1 + (_HERTZ / BAND_HZ[1]) ** 8)) ** -2
    waves = torch.cos(2 * math.pi * _HERTZ[:, None] * torch.cat([torch.zeros(1), lags]) / RATE)
    window = torch.fft.rfft(torch.hann_window(LENGTH), 2 * LENGTH).abs().square()
    shape = torch.fft.irfft(window)
    return band[:, None] * waves / torch.cat([torch.ones(1), shape[lags] / shape[0]])


def with_voices(
    spans: Iterable[Span],
    silence: NDArray[np.float32],
    decibel: NDArray[np.float32],
    voiced: NDArray[np.bool_],
    threshold: float,
) -> Iterator[Span]:
    """The segments but for those without a voice; silence, decibel and voiced are [F]. Left out is
    what stands ABOVE_NOISE_DB over the recording's quietest frames and has hardly any voiced ones,
    unless the network takes speech to be likelier than silence by `threshold` there."""
    if not len(decibel):
        return
    noise = np.percentile(decibel, NOISE_PERCENTILE)
    for span in spans:
        part = slice(span.start // FRAME_MS, -(-span.end // FRAME_MS))
        clear = np.percentile(decibel[part], LOUD_PERCENTILE) > noise + ABOVE_NOISE_DB
        least = min(LEAST_SHARE * len(voiced[part]), LEAST_FRAMES)
        sure = 1 - 2 * np.percentile(silence[part], 100 - SURE_PERCENTILE) >= threshold
        if sure or not clear or voiced[part].sum() >= least:
            yield span
