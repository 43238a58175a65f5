"""Folders in CAM++'s published layout: 192 dimensions (200,000 Chinese speakers), or 512."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import yaml

from stages.speakers.campplus import CamPlusPlus, CamPlusPlusSizes

WEIGHTS = {192: "campplus_cn_common.bin", 512: "campplus_voxceleb.bin"}


def make_folder(path: Path, dimensions: int = 192) -> Path:
    """Writes a folder as it is on the hub."""
    torch.manual_seed(0)
    state = CamPlusPlus(CamPlusPlusSizes(embedding_size=dimensions)).state_dict()
    for name, value in state.items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2)
        elif name.endswith(("running_mean", "bias")):
            value.normal_()
    path.mkdir(parents=True, exist_ok=True)
    torch.save(state, path / WEIGHTS[dimensions])
    sizes = {"feat_dim": 80, "embedding_size": dimensions, "growth_rate": 32, "bn_size": 4}
    sizes |= {"init_channels": 128, "config_str": "batchnorm-relu", "output_level": "segment"}
    config = {"model": "CAMPPlus", "model_conf": sizes, "frontend": "WavFrontend"}
    config["frontend_conf"] = {"fs": 16000}
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    named = {"init_param": WEIGHTS[dimensions], "config": "config.yaml"}
    (path / "configuration.json").write_text(json.dumps({"file_path_metas": named}))
    return path
