"""From waveforms to unit-length speaker embeddings: Kaldi features, CAM++, normalisation.

Source: 3D-Speaker `speakerlab/process/processor.py` (80 mels, povey window, samples of full
scale 1.0, features mean-normalised over the window); the layout of config.yaml is FunASR's.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import ModelError
from stages.audio.features import INT16_SCALE, Fbank, FbankOptions
from stages.models import ModelFolder
from stages.speakers.campplus import CamPlusPlus, CamPlusPlusSizes

# Keys of a published `model_conf` that name what the network here does anyway.
_ONLY = {"config_str": "batchnorm-relu", "output_level": "segment"}
_IGNORED = {"memory_efficient"}


class SpeakerEmbedder(nn.Module):
    """Waveforms [B, T] of one length (16 kHz, full scale 1.0, at least 45 ms: three frames) to
    embeddings float32 [B, D], each of length 1. A row's result does not depend on the others."""

    def __init__(self, network: CamPlusPlus) -> None:
        super().__init__()
        self.network = network
        bins = network.sizes.feat_dim
        self.fbank = Fbank(FbankOptions(num_mel_bins=bins, window="povey"))

    def features(self, waveforms: Tensor) -> Tensor:
        """Log-mel [B, F, M], of zero mean over the frames. Kaldi's floor on the energy is an
        absolute one, and the published models were trained with samples of full scale 1.0."""
        lengths = torch.full((len(waveforms),), waveforms.shape[1])
        features, _ = self.fbank(waveforms / INT16_SCALE, lengths)
        centred: Tensor = features - features.mean(dim=1, keepdim=True)
        return centred

    def forward(self, waveforms: Tensor) -> Tensor:
        return nn.functional.normalize(self.network(self.features(waveforms)), dim=1)


def load_embedder(folder: ModelFolder) -> SpeakerEmbedder:
    """Reads a bundled or published CAM++, ready for inference. ModelError names the folder
    and what does not fit."""
    network = CamPlusPlus(read_sizes(folder))
    try:
        network.load_state_dict(folder.state_dict())
    except RuntimeError as error:
        reason = str(error).splitlines()[1:2] or [str(error)]
        raise ModelError(
            f"{folder.weights}: not these sizes of CAM++: {reason[0].strip()}"
        ) from None
    return SpeakerEmbedder(network).eval()


def read_sizes(folder: ModelFolder) -> CamPlusPlusSizes:
    """The sizes in `model_conf` of config.yaml; what is not named is as published. 3D-Speaker's
    own folders have no config.yaml: the weights say how long an embedding is."""
    if not (folder.path / "config.yaml").is_file():
        last = folder.state_dict().get("xvector.dense.linear.weight")
        if last is None:
            raise ModelError(f"{folder.weights}: neither a CAM++ nor a config.yaml beside it")
        return CamPlusPlusSizes(embedding_size=last.shape[0])
    config = folder.config()
    if config.get("model") != "CAMPPlus":
        raise ModelError(
            f"{folder.path}/config.yaml: model CAMPPlus expected, not {config.get('model')}"
        )
    given: dict[str, Any] = dict(config.get("model_conf") or {})
    for key, value in _ONLY.items():
        if given.pop(key, value) != value:
            raise ModelError(f"{folder.path}/config.yaml: only {key}: {value} is supported")
    known = {field.name for field in fields(CamPlusPlusSizes)}
    if unknown := given.keys() - known - _IGNORED:
        raise ModelError(f"{folder.path}/config.yaml: unknown in model_conf: {sorted(unknown)}")
    sizes: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in given.items() if k in known
    }
    return CamPlusPlusSizes(**sizes)
