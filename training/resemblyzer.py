"""A public speaker encoder as a teacher and as a peer: resemblyzer's GE2E LSTM in torch.

Source: Wan et al., Generalized End-to-End Loss (2018); weights and features as the PyPI package
`resemblyzer` (Apache 2.0) has them. Nothing of it is shipped.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

SAMPLE_RATE = 16000
FFT, SHIFT, MELS = 400, 160, 40
TARGET_DBFS = -30.0


def installed_weights() -> Path | None:
    """`pretrained.pt` of the installed package, which is not imported; None where it is not."""
    package = importlib.util.find_spec("resemblyzer")
    if package is None or package.origin is None:
        return None
    return Path(package.origin).parent / "pretrained.pt"


class Resemblyzer(nn.Module):
    """Waveforms [B, T] (16 kHz, full scale 1.0) to embeddings [B, 256] of length 1."""

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.lstm = nn.LSTM(MELS, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)
        state = torch.load(weights, map_location="cpu", weights_only=True)["model_state"]
        self.load_state_dict({k: v for k, v in state.items() if not k.startswith("similarity")})
        self.mel: Tensor
        self.register_buffer("mel", torch.from_numpy(slaney_filters()), persistent=False)
        self.eval()

    @torch.inference_mode()
    def forward(self, waveforms: Tensor) -> Tensor:
        hidden = self.lstm(self._features(waveforms))[1][0][-1]
        return nn.functional.normalize(torch.relu(self.linear(hidden)), dim=1)

    def _features(self, waveforms: Tensor) -> Tensor:
        """Mel power [B, F, 40], without a logarithm, after raising quiet audio to -30 dBFS."""
        level = 10 * torch.log10(waveforms.square().mean(dim=1, keepdim=True) + 1e-12)
        waveforms = waveforms * 10 ** ((TARGET_DBFS - level).clamp(min=0) / 20)
        window = torch.hann_window(FFT)
        spectrum = torch.stft(
            waveforms, FFT, SHIFT, window=window, pad_mode="constant", return_complex=True
        )
        power = spectrum.real.square() + spectrum.imag.square()
        return power.transpose(1, 2) @ self.mel


def slaney_filters() -> NDArray[np.float32]:
    """librosa's default mel filters, each of unit area: float32 [FFT / 2 + 1, MELS]."""
    # Slaney's scale is linear (200/3 Hz a mel) up to 1 kHz and logarithmic above.
    step = np.log(6.4) / 27

    def mel(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(hertz < 1000, hertz * 3 / 200, 15 + np.log(hertz.clip(1) / 1000) / step)

    def hertz(mels: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(mels < 15, mels * 200 / 3, 1000 * np.exp(step * (mels - 15)))

    edges = hertz(np.linspace(0, mel(np.array(SAMPLE_RATE / 2.0)), MELS + 2))
    bins = np.linspace(0, SAMPLE_RATE / 2, FFT // 2 + 1)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    triangles = np.maximum(0, np.minimum(rising, falling))
    return (triangles * (2 / (edges[2:] - edges[:-2]))).astype(np.float32)
