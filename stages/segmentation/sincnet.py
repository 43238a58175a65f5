"""SincNet: band-pass filters on the samples, each given by its two edges, then convolutions.

Sources: Ravanelli and Bengio, Speaker recognition from raw waveform with SincNet (2018); even and
odd filters as in Pariente et al., Filterbank design for end-to-end speech separation (2020).
Parameter names and arithmetic are those of pyannote.audio and asteroid-filterbanks.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from pipeline.stage import SAMPLE_RATE


class SincNet(nn.Module):
    """Waveforms [B, T] to features [B, F, 60]; `stride` samples between two outputs of the
    filters, 27 times as many between two frames."""

    features: ClassVar[int] = 60
    stride: ClassVar[int] = 10
    least: ClassVar[int] = 991
    """Samples that one frame sees: the first is centred on their middle."""

    def __init__(self) -> None:
        super().__init__()
        self.wav_norm1d = nn.InstanceNorm1d(1, affine=True)
        self.conv1d = nn.ModuleList(
            [_Encoder(80, 251, self.stride), nn.Conv1d(80, 60, 5), nn.Conv1d(60, 60, 5)]
        )
        self.pool1d = nn.ModuleList(nn.MaxPool1d(3) for _ in range(3))
        self.norm1d = nn.ModuleList(nn.InstanceNorm1d(n, affine=True) for n in (80, 60, 60))

    @property
    def frame_ms(self) -> float:
        """From one frame to the next."""
        return 27 * self.stride * 1000 / SAMPLE_RATE

    @property
    def centre_ms(self) -> float:
        """The middle of the first frame."""
        return (self.least - 1) / 2 * 1000 / SAMPLE_RATE

    def forward(self, waveforms: Tensor) -> Tensor:
        hidden: Tensor = self.wav_norm1d(waveforms[:, None])
        for layer, parts in enumerate(zip(self.conv1d, self.pool1d, self.norm1d, strict=True)):
            convolution, pool, norm = parts
            hidden = convolution(hidden)
            if layer == 0:
                hidden = hidden.abs()
            hidden = nn.functional.leaky_relu(norm(pool(hidden)))
        return hidden.transpose(1, 2)


class _Encoder(nn.Module):
    """The filters under the name `filterbank`, as the published state dict nests them."""

    def __init__(self, filters: int, length: int, stride: int) -> None:
        super().__init__()
        self.filterbank = _SincFilters(filters, length)
        self.stride = stride

    def forward(self, samples: Tensor) -> Tensor:
        return nn.functional.conv1d(samples, self.filterbank(), stride=self.stride)


class _SincFilters(nn.Module):
    """`filters` band-passes of `length` (odd) samples: the even ones, then the odd ones."""

    lowest_hz: ClassVar[float] = 50.0
    narrowest_hz: ClassVar[float] = 50.0

    def __init__(self, filters: int, length: int) -> None:
        super().__init__()
        edges = _mel_spaced(30.0, SAMPLE_RATE / 2 - 100.0, filters // 2 + 1)
        self.low_hz_ = nn.Parameter(edges[:-1, None])
        self.band_hz_ = nn.Parameter(edges.diff()[:, None])
        half = length // 2
        self.window_: Tensor
        self.n_: Tensor
        self.register_buffer("window_", torch.hamming_window(length, periodic=False)[:half])
        self.register_buffer("n_", 2 * math.pi * torch.arange(-half, 0.0)[None] / SAMPLE_RATE)

    def forward(self) -> Tensor:
        """float32 [filters, 1, length]."""
        low = self.lowest_hz + self.low_hz_.abs()
        high = (low + self.narrowest_hz + self.band_hz_.abs()).clamp(max=SAMPLE_RATE / 2)
        band = high - low
        from_low, from_high = low * self.n_, high * self.n_
        even = (from_high.sin() - from_low.sin()) / (self.n_ / 2) * self.window_
        odd = (from_low.cos() - from_high.cos()) / (self.n_ / 2) * self.window_
        cosines = torch.cat([even, 2 * band, even.flip(1)], dim=1)
        sines = torch.cat([odd, torch.zeros_like(band), -odd.flip(1)], dim=1)
        return torch.cat([cosines / (2 * band), sines / (2 * band)])[:, None]


def _mel_spaced(low_hz: float, high_hz: float, count: int) -> Tensor:
    """Frequencies in Hz at equal steps on the HTK mel scale."""
    low, high = (2595 * math.log10(1 + hz / 700) for hz in (low_hz, high_hz))
    return 700 * (10 ** (torch.linspace(low, high, count) / 2595) - 1)
