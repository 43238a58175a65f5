"""CT-Transformer: punctuation (and, in ours, case) of every word from a SAN-M encoder.

Source: Chen et al., Controllable Time-Delay Transformer (2020). Parameter names as in FunASR's
punc_ct-transformer checkpoints (offline variant).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stages.sanm import SanmEncoder, SanmSizes


@dataclass(frozen=True)
class CtTransformerConfig:
    """Sizes, under FunASR's names in `config.yaml`. `case_list` and `pause_classes` are ours:
    empty and 0 for a model without a case head, or one that reads no pauses. The first layer may
    widen `embed_unit` to `output_size`."""

    vocab_size: int
    punc_list: tuple[str, ...]
    case_list: tuple[str, ...] = ()
    embed_unit: int = 256
    output_size: int = 256
    attention_heads: int = 8
    linear_units: int = 1024
    num_blocks: int = 4
    kernel_size: int = 11
    sanm_shift: int = 0
    pause_classes: int = 0

    @classmethod
    def from_yaml(cls, config: Mapping[str, Any], vocab_size: int) -> CtTransformerConfig:
        """From `config.yaml`, where the sizes lie in `model_conf` and `encoder_conf`.
        KeyError where a key is missing."""
        model, encoder = config["model_conf"], config["encoder_conf"]
        return cls(
            vocab_size=vocab_size,
            punc_list=tuple(model["punc_list"]),
            case_list=tuple(model.get("case_list", ())),
            embed_unit=model["embed_unit"],
            output_size=encoder["output_size"],
            attention_heads=encoder["attention_heads"],
            linear_units=encoder["linear_units"],
            num_blocks=encoder["num_blocks"],
            kernel_size=encoder["kernel_size"],
            sanm_shift=encoder.get("sanm_shfit", 0),  # FunASR's spelling
            pause_classes=model.get("pause_classes", 0),
        )

    @property
    def encoder(self) -> SanmSizes:
        """The encoder's part."""
        return SanmSizes(
            self.embed_unit,
            self.output_size,
            self.attention_heads,
            self.linear_units,
            self.num_blocks,
            self.kernel_size,
            self.sanm_shift,
        )

    def to_yaml(self) -> dict[str, Any]:
        """What `from_yaml` reads."""
        return {
            "model": "CTTransformer",
            "model_conf": {
                "embed_unit": self.embed_unit,
                "att_unit": self.output_size,
                "punc_list": list(self.punc_list),
                "case_list": list(self.case_list),
                "pause_classes": self.pause_classes,
            },
            "encoder": "SANMEncoder",
            "encoder_conf": {
                "input_size": self.embed_unit,
                "output_size": self.output_size,
                "attention_heads": self.attention_heads,
                "linear_units": self.linear_units,
                "num_blocks": self.num_blocks,
                "kernel_size": self.kernel_size,
                "sanm_shfit": self.sanm_shift,
                "input_layer": "pe",
            },
        }


class CtTransformer(nn.Module):
    """Word ids to scores of the mark after each word and, where trained so, of its case."""

    def __init__(self, config: CtTransformerConfig, dropout: float = 0.0) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.embed_unit)
        self.pause_embed: nn.Embedding | None = None
        if config.pause_classes:
            self.pause_embed = nn.Embedding(config.pause_classes, config.embed_unit)
        self.encoder = SanmEncoder(config.encoder, dropout)
        self.decoder = nn.Linear(config.output_size, len(config.punc_list))
        self.case_decoder: nn.Linear | None = None
        if config.case_list:
            self.case_decoder = nn.Linear(config.output_size, len(config.case_list))

    def forward(
        self, words: Tensor, lengths: Tensor, pauses: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """`words` int64 [B, T], `lengths` int64 [B] -> logits of the marks [B, T, P] and of the
        case [B, T, C] (None without a case head). Past a row's length they mean nothing. `pauses`
        int64 [B, T]: the class of the pause after each word, for a model that reads them."""
        embedded = self.embed(words)
        if self.pause_embed is not None:
            embedded = embedded + self.pause_embed(
                torch.zeros_like(words) if pauses is None else pauses
            )
        hidden = self.encoder(embedded, lengths)
        case = None if self.case_decoder is None else self.case_decoder(hidden)
        return self.decoder(hidden), case
