"""The bundled network's front end: log-mel features and two strided convolutions, a tenth of
SincNet's work."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from stages.audio.features import Fbank, FbankOptions

_RANGE = 14.0  # of log energies below the chunk's loudest: digital silence must not shift the mean
_SCALE = 0.3


class LogMelFront(nn.Module):
    """Waveforms [B, T] to features [B, F, channels], a frame every 40 ms. The chunk's mean is
    taken out of each mel bin, and with it the level and the microphone."""

    least: ClassVar[int] = 400
    """Samples that a frame needs."""
    frame_ms: ClassVar[float] = 40.0
    centre_ms: ClassVar[float] = 17.5
    """The middle of the first frame: 12.5 ms of a window and half a shift."""

    def __init__(self, channels: int, bins: int = 80) -> None:
        super().__init__()
        self.fbank = Fbank(FbankOptions(num_mel_bins=bins))
        self.conv1 = nn.Conv1d(bins, channels, 4, stride=2, padding=1)
        self.conv2 = nn.Conv1d(channels, channels, 5, stride=2, padding=2)

    def forward(self, waveforms: Tensor) -> Tensor:
        lengths = torch.full((len(waveforms),), waveforms.shape[1])
        features, _ = self.fbank(waveforms, lengths)
        floor = features.amax(dim=(1, 2), keepdim=True) - _RANGE
        features = torch.maximum(features, floor)
        features = _SCALE * (features - features.mean(dim=1, keepdim=True))
        hidden = nn.functional.relu(self.conv1(features.transpose(1, 2)))
        return nn.functional.relu(self.conv2(hidden)).transpose(1, 2)
