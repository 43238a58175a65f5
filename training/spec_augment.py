"""What is done to features while training, so that twelve hours of speech are not learned by heart.

Sources: Park et al., SpecAugment (2019), section 2: masks of frequency and time; Jaitly and Hinton,
Vocal tract length perturbation (2013), section 2: other speakers out of one.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.asr.ctc_network import masked
from stages.audio.features import FbankOptions, mel_edges, mel_scale

_WARPED_UP_TO_HZ = 4800.0  # which a stretched vocal tract moves in proportion, and the rest less
_MOST = 0.12
_SLOWER, _FASTER = 0.15, 0.25
_BANDS, _BAND_BINS = 2, 24
_GAP_EVERY, _GAP_FRAMES = 100, 35


def factors(batch: int, strength: float = 1.0) -> Tensor:
    """Drawn for `stretch`: [B], vocal tracts up to 12 % longer or shorter, times the strength."""
    return 1 + strength * _MOST * (2 * torch.rand(batch) - 1)


def stretch(features: Tensor, factor: Tensor, options: FbankOptions) -> Tensor:
    """Log-mel features [B, F, M] of a filterbank of these `options`, with what lay at a frequency
    times `factor` [B] at that frequency: above 1 a longer vocal tract."""
    places = np.stack([_places(float(one), options) for one in factor])
    place = torch.from_numpy(places).to(features.dtype)
    return _read(features, place, axis=2)


def _places(factor: float, options: FbankOptions) -> NDArray[np.float64]:
    """The bin, with a fraction, that each bin is to be read from: [M]."""
    edges, top = mel_edges(options), options.sample_rate / 2
    hertz = 700 * np.expm1(edges[1:-1] / 1127)
    knee = _WARPED_UP_TO_HZ * min(factor, 1.0)
    heard = np.interp(hertz, [0, knee / factor, top], [0, knee, top])
    return np.interp(mel_scale(heard), edges[1:-1], np.arange(len(hertz)))


def hurry(features: Tensor, lengths: Tensor, strength: float = 1.0) -> tuple[Tensor, Tensor]:
    """Features [B, F, M] of lengths [B], each said 0.85 to 1.25 times as fast at the same pitch,
    or as far from 1 as the strength says, and their new lengths."""
    factor = 1 + strength * ((_SLOWER + _FASTER) * torch.rand(len(features)) - _SLOWER)
    heard = (lengths / factor).long().clamp(min=1)
    place = torch.arange(int(heard.max()))[None, :] * factor[:, None]
    place = torch.minimum(place, lengths[:, None] - 1.0)
    return masked(_read(features, place, axis=1), heard), heard


def _read(features: Tensor, place: Tensor, axis: int) -> Tensor:
    """Features [B, F, M] at places with a fraction, [B, N], along frames (1) or bins (2)."""
    last = features.shape[axis] - 1
    below = place.long().clamp(max=max(0, last - 1))
    shape = [*features.shape]
    shape[axis] = place.shape[1]
    at, share = (each.unsqueeze(3 - axis).expand(shape) for each in (below, place - below))
    above = (at + 1).clamp(max=last)
    return torch.lerp(features.gather(axis, at), features.gather(axis, above), share)


def mask(features: Tensor, lengths: Tensor, strength: float = 1.0) -> Tensor:
    """Features [B, F, M] of lengths [B], with two bands of up to 24 bins and, every second, up to
    0.35 s set to zero, the mean; both times the strength."""
    widest, longest = round(strength * _BAND_BINS), round(strength * _GAP_FRAMES)
    batch, frames, bins = features.shape
    keep = torch.ones(batch, frames, bins, dtype=torch.bool)
    for _ in range(_BANDS):
        width = torch.randint(0, widest + 1, (batch, 1))
        start = (torch.rand(batch, 1) * (bins - width)).long()
        band = torch.arange(bins)[None, :]
        keep &= ~((band >= start) & (band < start + width))[:, None, :]
    for _ in range(max(1, frames // _GAP_EVERY)):
        width = torch.randint(0, longest + 1, (batch, 1))
        start = (torch.rand(batch, 1) * lengths[:, None]).long()
        time_axis = torch.arange(frames)[None, :]
        keep &= ~((time_axis >= start) & (time_axis < start + width))[:, :, None]
    return masked(features * keep, lengths)
