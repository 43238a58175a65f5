"""The reference for GigaAM: the `gigaam` package itself for versions 1, 2 and Emo; for version 3,
which it does not have yet, the same package with the three parts exchanged that differ in the
published `modeling_gigaam.py` (convolutions over time only, layer norm, frames not centred).

The package pins an old torch: it is in requirements-dev.lock alone, installed without dependencies.
torchaudio's compiled part does not load beside a CPU-only torch; its mel spectrogram is Python.

    python -m tests.gigaam_peer     # writes tests/data/gigaam.json, for where it is not installed
"""

from __future__ import annotations

import json
import sys
import types
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stages.audio.decode import AudioSource

GOLDEN = Path(__file__).parent / "data" / "gigaam.json"
MEETING = Path(__file__).parents[1] / "demo" / "meeting.opus"

LETTERS = (" ", *(chr(ord("а") + i) for i in range(32)))
EMOTIONS = ("angry", "sad", "neutral", "positive")


def package() -> Any:
    """The imported `gigaam`."""
    extension: Any = types.ModuleType("torchaudio._extension")
    extension._IS_TORCHAUDIO_EXT_AVAILABLE = False
    extension.fail_if_no_align = lambda function: function
    sys.modules.setdefault("torchaudio._extension", extension)
    return pytest.importorskip("gigaam")


def config(version: str, layers: int = 16, width: int = 768, classes: int = 34) -> dict[str, Any]:
    """`cfg` as the checkpoints of a version have it: v1, v2, v3 or emo."""
    third = version == "v3"
    encoder = {
        "_target_": "gigaam.encoder.ConformerEncoder",
        "feat_in": 64,
        "n_layers": layers,
        "d_model": width,
        "subsampling_factor": 4,
        "ff_expansion_factor": 4,
        "self_attention_model": "rel_pos" if version in ("v1", "emo") else "rotary",
        "pos_emb_max_len": 5000,
        "n_heads": 16,
        "conv_kernel_size": 5 if third else 31,
        "flash_attn": False,
    }
    cfg: dict[str, Any] = {
        "sample_rate": 16000,
        "preprocessor": {
            "_target_": "gigaam.preprocess.FeatureExtractor",
            "sample_rate": 16000,
            "features": 64,
        },
        "encoder": encoder,
    }
    if version == "emo":
        head = {"_target_": "torch.nn.Linear", "in_features": width, "out_features": 4}
        return cfg | {"head": head, "id2name": dict(enumerate(EMOTIONS))}
    head = {"_target_": "gigaam.decoder.CTCHead", "feat_in": width, "num_classes": classes}
    decoding = {
        "_target_": "gigaam.decoding.CTCGreedyDecoding",
        "vocabulary": list(LETTERS),
    }
    return cfg | {"head": head, "decoding": decoding}


V3_PREPROCESSOR = {
    "win_length": 320,
    "hop_length": 160,
    "mel_scale": "htk",
    "n_fft": 320,
    "mel_norm": None,
    "center": False,
}
V3_ENCODER = {"subs_kernel_size": 5, "subsampling": "conv1d", "conv_norm_type": "layer_norm"}


class V3Features(nn.Module):
    """Frames of 20 ms from each 10 ms on."""

    def __init__(self) -> None:
        super().__init__()
        import torchaudio

        package()
        from gigaam.preprocess import SpecScaler

        mel = torchaudio.transforms.MelSpectrogram(
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
    package()
    from gigaam.model import GigaAMASR, GigaAMEmo
    from omegaconf import OmegaConf

    torch.manual_seed(7)
    kind = GigaAMEmo if version == "emo" else GigaAMASR
    model = kind(OmegaConf.create(cfg))
    if version == "v3":
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


def published_v3(cfg: dict[str, Any]) -> dict[str, Any]:
    """`config.json` as on the hub."""
    inner = cfg | {
        "preprocessor": cfg["preprocessor"] | V3_PREPROCESSOR,
        "encoder": cfg["encoder"] | V3_ENCODER,
    }
    return {"model_type": "gigaam", "cfg": {"model": {"_target_": "GigaAMASR", "cfg": inner}}}


def fixed_weights(shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """Weights that depend on their names and shapes alone, on no library's generator."""
    return {name: torch.from_numpy(_fixed(name, shape)) for name, shape in shapes.items()}


def _fixed(name: str, shape: torch.Size) -> np.ndarray[Any, np.dtype[Any]]:
    drawn = np.random.PCG64(zlib.crc32(name.encode())).random_raw(max(1, shape.numel()))
    uniform = (drawn >> np.uint64(40)).astype(np.float32) / 2**24
    if name.endswith("num_batches_tracked"):
        return np.zeros((), np.int64)
    if name.endswith("running_var") or ("norm" in name and name.endswith("weight")):
        return (0.5 + uniform).reshape(shape)
    fan_in = max(1, shape[1:].numel())
    return ((2 * uniform - 1) * np.float32((3 / fan_in) ** 0.5)).reshape(shape)


def golden_row() -> Tensor:
    """Two seconds of the demo meeting."""
    source = AudioSource(str(MEETING), AudioSource.parameters_type())
    return torch.from_numpy(next(iter(source.blocks())).samples[20000:52000].copy())


def small_config(version: str) -> dict[str, Any]:
    return config(version, layers=2, width=64)


@torch.inference_mode()
def golden(version: str) -> list[list[float]]:
    """Some of what the reference's encoder gives with the fixed weights."""
    model = reference(version, small_config(version))
    state = model.state_dict()
    shapes = {k: v.shape for k, v in state.items() if not k.startswith("preprocessor")}
    model.load_state_dict(fixed_weights(shapes), strict=False)
    row = golden_row()
    encoded, _ = model(row[None], torch.tensor([len(row)]))
    return [[round(v, 6) for v in frame] for frame in encoded[0].T[::5, :8].tolist()]


if __name__ == "__main__":
    kept = {version: golden(version) for version in ("v1", "v2", "v3")}
    GOLDEN.write_text(json.dumps(kept) + "\n")
