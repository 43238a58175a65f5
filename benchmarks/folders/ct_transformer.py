"""Folders in CT-Transformer's published layout."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import yaml

from stages.punctuation.ct_transformer import CtTransformer, CtTransformerConfig

MARKS = ("<unk>", "_", "，", "。", "？", "、")
FULL_STOP = 3
SMALL = (6000, (32, 32, 4, 64, 2))
ZH_EN = (272_727, (256, 256, 8, 1024, 4))
LARGE = (471_067, (516, 516, 12, 2048, 12))
"""Vocabulary, then embedding, width, heads, linear units and layers of the published models."""


def make_folder(path: Path, sizes: tuple[int, tuple[int, ...]] = SMALL, marks: float = 0.5) -> Path:
    """Writes a folder as it is on the hub; the higher `marks`, the more marks."""
    vocabulary, network_sizes = sizes
    tokens = ["<unk>", *("the", "and", "so", "meeting", "it's"), *map(chr, range(0x4E00, 0x6000))]
    tokens += ["会议", "我们", "时间", *(f"x{at}" for at in range(vocabulary - len(tokens) - 3))]
    config = CtTransformerConfig(vocabulary, MARKS, (), *network_sizes)
    torch.manual_seed(0)
    network = CtTransformer(config)
    with torch.no_grad():
        network.decoder.weight *= 3
        network.decoder.bias.copy_(torch.tensor([-30, 3 - marks, 0.6, -0.2, -0.6, 0.0]))
    settings = config.to_yaml() | {"tokenizer": "CharTokenizer"}
    settings["tokenizer_conf"] = {"unk_symbol": "<unk>"}
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.yaml").write_text(yaml.safe_dump(settings, allow_unicode=True), "utf-8")
    (path / "tokens.json").write_text(json.dumps(tokens), "utf-8")
    torch.save(network.state_dict(), path / "model.pt")
    if sizes == LARGE:
        (path / "jieba_usr_dict").write_text("恒大会议 100\n", "utf-8")
    return path
