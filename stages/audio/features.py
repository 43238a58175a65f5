"""Batched log-mel filterbanks in torch, equal to Kaldi's `compute-fbank-feats` (dither 0), and
FunASR's frontend on top of them: low-frame-rate stacking and CMVN (`WavFrontend`).

Sources: Kaldi `feat/feature-window.cc`, `feat/mel-computations.cc`; Gao et al., Paraformer
(2022), section 4.1 for the low frame rate. Peer in the tests: kaldi-native-fbank.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

INT16_SCALE = 32768.0
LOG_FLOOR = float(np.finfo(np.float32).eps)
_AT_ONCE = 256  # frames: what they need fits a core's cache, and a pass over them costs little


@dataclass(frozen=True)
class FbankOptions:
    """Kaldi's names. `window` povey is Kaldi's default, hamming FunASR's; with `snip_edges`
    off, frames are centred on their shift and the edges are mirrored."""

    sample_rate: int = 16000
    num_mel_bins: int = 80
    frame_length_ms: float = 25.0
    frame_shift_ms: float = 10.0
    window: Literal["hamming", "povey"] = "hamming"
    snip_edges: bool = True
    preemphasis: float = 0.97
    low_freq: float = 20.0
    high_freq: float = 0.0

    @classmethod
    def from_yaml(cls, frontend: Mapping[str, Any]) -> FbankOptions:
        """Of FunASR's `frontend_conf`. KeyError where a key is missing."""
        return cls(
            sample_rate=frontend["fs"],
            num_mel_bins=frontend["n_mels"],
            frame_length_ms=frontend["frame_length"],
            frame_shift_ms=frontend["frame_shift"],
            window=frontend["window"],
        )

    @property
    def frame_length(self) -> int:
        return int(self.sample_rate * self.frame_length_ms / 1000)

    @property
    def frame_shift(self) -> int:
        return int(self.sample_rate * self.frame_shift_ms / 1000)


class Fbank(torch.nn.Module):
    """Waveforms to log-mel features. Float32 throughout; runs on any device."""

    def __init__(self, options: FbankOptions | None = None) -> None:
        super().__init__()
        self.options = options or FbankOptions()
        length = self.options.frame_length
        self.fft_size = 1 << (length - 1).bit_length()
        self.window: Tensor
        self.mel: Tensor
        self.register_buffer("window", _window(self.options), persistent=False)
        self.register_buffer("mel", mel_filters(self.options, self.fft_size), persistent=False)

    def num_frames(self, lengths: Tensor) -> Tensor:
        """Frames that so many samples give, [B] to [B]; 0 for fewer than one window's."""
        length, shift = self.options.frame_length, self.options.frame_shift
        more = shift - length if self.options.snip_edges else shift // 2
        return torch.div(lengths + more, shift, rounding_mode="floor").clamp(min=0)

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """`waveforms` [B, T] with full scale 1.0, zero-padded; `lengths` [B] in samples.

        Returns features [B, F, num_mel_bins] (log energy of the int16-scaled signal, as Kaldi
        has it; zeros past a row's end) and the frames of each row [B].
        """
        counts = self.num_frames(lengths.to(waveforms.device))
        frames = int(counts.max()) if len(counts) else 0
        if frames == 0:
            empty = waveforms.new_zeros(len(waveforms), 0, self.options.num_mel_bins)
            return empty, counts
        framed = self._frame(waveforms * INT16_SCALE, lengths, frames)
        parts = torch.split(framed, max(1, _AT_ONCE // len(framed)), dim=1)
        features = torch.cat([self._log_mel(part) for part in parts], dim=1)
        keep = torch.arange(frames, device=features.device)[None, :] < counts[:, None]
        return features.mul_(keep[..., None]), counts

    def _frame(self, waveforms: Tensor, lengths: Tensor, frames: int) -> Tensor:
        """[B, T] to overlapping windows [B, F, frame_length]."""
        length, shift = self.options.frame_length, self.options.frame_shift
        if self.options.snip_edges:
            needed = (frames - 1) * shift + length
            waveforms = torch.nn.functional.pad(waveforms, (0, max(0, needed - waveforms.shape[1])))
            return waveforms.unfold(1, length, shift)[:, :frames]
        # Centred frames: an index outside a row is mirrored at the row's own end.
        first = shift // 2 - length // 2
        device = waveforms.device
        starts = torch.arange(frames, device=device) * shift + first
        index = starts[:, None] + torch.arange(length, device=device)[None, :]
        ends = lengths.to(device)[:, None, None].clamp(min=1)
        mirrored = index[None].expand(len(waveforms), -1, -1)
        period = 2 * ends
        mirrored = torch.remainder(mirrored, period)
        mirrored = torch.where(mirrored >= ends, period - 1 - mirrored, mirrored)
        flat = mirrored.reshape(len(waveforms), -1)
        return waveforms.gather(1, flat).view(len(waveforms), frames, length)

    def _log_mel(self, frames: Tensor) -> Tensor:
        """Windows [B, F, frame_length] to log-mel [B, F, M]."""
        frames = frames - frames.mean(dim=-1, keepdim=True)
        previous = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
        frames = (frames - self.options.preemphasis * previous) * self.window
        spectrum = torch.fft.rfft(frames, n=self.fft_size)
        power = spectrum.real.square() + spectrum.imag.square()
        mel: Tensor = power[..., :-1] @ self.mel
        return mel.clamp(min=LOG_FLOOR).log()


def _window(options: FbankOptions) -> Tensor:
    n = torch.arange(options.frame_length, dtype=torch.float64)
    phase = torch.cos(2 * math.pi * n / (options.frame_length - 1))
    if options.window == "hamming":
        return (0.54 - 0.46 * phase).float()
    return (0.5 - 0.5 * phase).pow(0.85).float()


def mel_scale(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
    """The HTK mel scale."""
    scaled: NDArray[np.float64] = 1127.0 * np.log(1.0 + hertz / 700.0)
    return scaled


def mel_edges(options: FbankOptions) -> NDArray[np.float64]:
    """In mel, float64 [num_mel_bins + 2]: each filter's centre between its two edges."""
    nyquist = options.sample_rate / 2
    high = options.high_freq if options.high_freq > 0 else nyquist + options.high_freq
    low_mel, high_mel = mel_scale(np.array([options.low_freq, high]))
    return np.linspace(low_mel, high_mel, options.num_mel_bins + 2)


def mel_filters(options: FbankOptions, fft_size: int) -> Tensor:
    """Triangular filters, equal steps on the HTK mel scale, no normalisation:
    float32 [fft_size / 2, num_mel_bins]."""
    edges = mel_edges(options)
    bins = mel_scale(np.arange(fft_size // 2) * options.sample_rate / fft_size)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return torch.from_numpy(np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32))


def stack_frames(features: Tensor, lengths: Tensor, m: int, n: int) -> tuple[Tensor, Tensor]:
    """Low frame rate: `m` neighbouring frames joined, every `n`-th kept, as FunASR's `apply_lfr`
    (the first frame is repeated (m-1)//2 times on the left, the last as often as needed).

    features [B, F, D], lengths [B] -> [B, ceil(F / n), m * D], ceil(lengths / n).
    """
    batch, frames, dim = features.shape
    counts = torch.div(lengths + n - 1, n, rounding_mode="floor")
    if frames == 0:
        return features.new_zeros(batch, 0, m * dim), counts
    out = (frames + n - 1) // n
    device = features.device
    index = (
        torch.arange(out, device=device)[:, None] * n
        + torch.arange(m, device=device)
        - (m - 1) // 2
    )
    last = (lengths.to(device) - 1).clamp(min=0)[:, None, None]
    index = torch.minimum(index.clamp(min=0)[None], last)
    rows = torch.arange(batch, device=device)[:, None, None]
    stacked = features[rows, index].reshape(batch, out, m * dim)
    keep = torch.arange(out, device=device)[None, :] < counts.to(device)[:, None]
    return stacked.mul_(keep[..., None]), counts


@dataclass(frozen=True)
class Cmvn:
    """Global mean and variance normalisation, (x + shift) * scale; both float32 [D]."""

    shift: Tensor
    scale: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        return (features + self.shift) * self.scale

    def to(self, device: str | torch.device) -> Cmvn:
        """The same, for features that are there."""
        return Cmvn(self.shift.to(device), self.scale.to(device))


def load_cmvn(path: Path) -> Cmvn:
    """Reads FunASR's `am.mvn` (Kaldi nnet text: <AddShift> then <Rescale>, each with one
    `<LearnRateCoef> 0 [ ... ]` row). ValueError names the file where it is something else."""
    rows: list[Tensor] = []
    for line in path.read_text().splitlines():
        if line.lstrip().startswith("<LearnRateCoef>"):
            values = line[line.index("[") + 1 : line.index("]")].split()
            rows.append(torch.tensor([float(value) for value in values]))
    if len(rows) != 2 or rows[0].shape != rows[1].shape:
        raise ValueError(f"{path}: not an am.mvn file (one shift and one scale row expected)")
    return Cmvn(shift=rows[0], scale=rows[1])


def save_cmvn(path: Path, cmvn: Cmvn) -> None:
    """Writes what `load_cmvn` reads."""
    dim = len(cmvn.shift)

    def row(values: Tensor) -> str:
        return f"<LearnRateCoef> 0 [ {' '.join(f'{v:.8g}' for v in values.tolist())} ]"

    path.write_text(
        f"<Nnet>\n<Splice> {dim} {dim}\n[ 0 ]\n<AddShift> {dim} {dim}\n{row(cmvn.shift)}\n"
        f"<Rescale> {dim} {dim}\n{row(cmvn.scale)}\n</Nnet>\n"
    )
