"""Log-mel features as torchaudio's `MelSpectrogram` and a clamped logarithm give them: the
frontend of models that were not trained on Kaldi's.

Source: torchaudio `functional.melscale_fbanks` (mel scale htk, no norm) and `spectrogram`
(power 2, periodic Hann). All in float32, in its order: models were trained on its rounding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.stage import SAMPLE_RATE

FLOOR, CEILING = 1e-9, 1e9


@dataclass(frozen=True)
class LogMelOptions:
    """The names of GigaAM's `cfg.preprocessor`, in samples at 16 kHz; the defaults are those of v1
    and v2. With `center`, frame t is centred on t hop_length and the edges are mirrored; without,
    it begins there."""

    features: int = 64
    n_fft: int = 400
    win_length: int = 400
    hop_length: int = 160
    center: bool = True

    @property
    def least(self) -> int:
        """Samples that a row needs: to be mirrored, or to fill a window."""
        return self.n_fft // 2 + 1 if self.center else self.n_fft


class LogMel(torch.nn.Module):
    """Waveforms to log-mel features. A row does not depend on its padding."""

    def __init__(self, options: LogMelOptions) -> None:
        super().__init__()
        self.options = options
        self.window: Tensor
        self.mel: Tensor
        self.register_buffer("window", torch.hann_window(options.win_length))
        self.register_buffer("mel", mel_filters(options.n_fft, options.features))

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """`waveforms` [B, T], full scale 1.0, zero-padded; `lengths` [B] in samples, each at
        least `options.least`. Returns [B, F, features] and the frames of each row [B]."""
        counts = self.counts(lengths)
        frames = self._frames(waveforms, lengths, int(counts.max()))
        spectrum = torch.fft.rfft(frames * self._padded_window())
        power = spectrum.real.square() + spectrum.imag.square()
        mel: Tensor = power @ self.mel
        return mel.clamp(FLOOR, CEILING).log(), counts

    def counts(self, lengths: Tensor) -> Tensor:
        """Frames of rows of so many samples."""
        reach = 0 if self.options.center else self.options.n_fft
        return torch.div(lengths - reach, self.options.hop_length, rounding_mode="floor") + 1

    def _frames(self, waveforms: Tensor, lengths: Tensor, count: int) -> Tensor:
        """[B, T] to overlapping windows [B, count, n_fft]."""
        size, hop = self.options.n_fft, self.options.hop_length
        needed = (count - 1) * hop + size
        if not self.options.center:
            waveforms = torch.nn.functional.pad(waveforms, (0, max(0, needed - waveforms.shape[1])))
            return waveforms.unfold(1, size, hop)[:, :count]
        # Mirrored at each row's own ends, the sample at the end itself not repeated.
        last = lengths[:, None] - 1
        at = torch.arange(-(size // 2), needed - size // 2, device=waveforms.device).abs()[None, :]
        at = (last - (last - at).abs()).clamp(min=0)
        return waveforms.gather(1, at).unfold(1, size, hop)

    def _padded_window(self) -> Tensor:
        """The window in the middle of n_fft samples."""
        missing = self.options.n_fft - self.options.win_length
        return torch.nn.functional.pad(self.window, (missing // 2, missing - missing // 2))


def mel_filters(n_fft: int, count: int) -> Tensor:
    """Triangles, equal steps on the HTK mel scale from 0 Hz to half the sample rate, not
    normalised: float32 [n_fft / 2 + 1, count]."""
    highest = 2595.0 * math.log10(1.0 + SAMPLE_RATE / 2 / 700.0)
    hertz = torch.linspace(0, SAMPLE_RATE // 2, n_fft // 2 + 1)
    edges = 700.0 * (10.0 ** (torch.linspace(0.0, highest, count + 2) / 2595.0) - 1.0)
    widths = edges[1:] - edges[:-1]
    slopes = edges[None, :] - hertz[:, None]
    falling = -slopes[:, :-2] / widths[:-1]
    rising = slopes[:, 2:] / widths[1:]
    return torch.minimum(falling, rising).clamp(min=0)
