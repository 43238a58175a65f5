"""The reference for GigaAM: the `gigaam` package itself for versions 1, 2 and Emo; for version 3,
which its latest release (0.1.0) does not have, the same package with the three parts exchanged that
differ in the published `modeling_gigaam.py` (convolutions over time only, layer norm, frames not
centred).

The package pins an old torch: it is in requirements-dev.lock alone, installed without dependencies.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.peers import torchaudio


class V3Features(nn.Module):
    """Frames of 20 ms from each 10 ms on."""

    def __init__(self) -> None:
        super().__init__()
        transforms = torchaudio().transforms
        from gigaam.preprocess import SpecScaler

        mel = transforms.MelSpectrogram(
            sample_rate=16000, n_fft=320, win_length=320, hop_length=160, n_mels=64, center=False
        )
        self.featurizer = nn.Sequential(mel, SpecScaler())

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.featurizer(waveforms), (lengths - 320) // 160 + 1


class V3Subsampling(nn.Module):
    """Two strided convolutions over time."""

    def __init__(self, width: int) -> None:
        super().__init__()
        first = nn.Conv1d(64, width, 5, stride=2, padding=2)
        second = nn.Conv1d(width, width, 5, stride=2, padding=2)
        self.conv = nn.Sequential(first, nn.ReLU(), second, nn.ReLU())

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.conv(x.transpose(1, 2)).transpose(1, 2), (lengths + 3) // 4


class ChannelNorm(nn.LayerNorm):
    """Over the channels of [B, C, T]."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


def reference(version: str, cfg: dict[str, Any]) -> Any:
    """The reference model with random but fixed weights, in evaluation mode."""
    torchaudio()
    from gigaam.model import GigaAMASR, GigaAMEmo
    from omegaconf import OmegaConf

    torch.manual_seed(7)
    kind = GigaAMEmo if version == "emo" else GigaAMASR
    model = kind(OmegaConf.create(cfg))
    if version.startswith("v3"):
        width = cfg["encoder"]["d_model"]
        model.preprocessor = V3Features()
        model.encoder.pre_encode = V3Subsampling(width)
        for layer in model.encoder.layers:
            layer.conv.batch_norm = ChannelNorm(width)
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        with torch.no_grad():
            if "pos_bias" in name or name.endswith(("running_mean", "norm.bias")):
                value.normal_(std=0.3)
            elif name.endswith("running_var"):
                value.uniform_(0.5, 2)
            elif name.startswith("head") and name.endswith("weight"):
                value.normal_(std=1)
    return model.eval()


@torch.inference_mode()
def make_talkative(model: Any, waveform: Tensor, helped: Sequence[int] = (0,)) -> None:
    """Takes the mean out of the scores of the tokens, and helps some (the space) and the blank a
    bit: random weights give every frame nearly the same scores, and a text of one letter."""
    encoded, _ = model(waveform[None], torch.tensor([len(waveform)]))
    layer = model.head.decoder_layers[0]
    scores = layer(encoded)[0]
    layer.bias -= scores.mean(dim=1)
    layer.bias[[*helped, -1]] += 1.5 * scores.std(dim=1).mean()


def save_ckpt(model: Any, cfg: dict[str, Any], path: Path) -> None:
    """As the package's checkpoints: torch file, `cfg` an OmegaConf object."""
    from omegaconf import OmegaConf

    torch.save({"state_dict": model.state_dict(), "cfg": OmegaConf.create(cfg)}, path)
