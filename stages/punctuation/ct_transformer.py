"""CT-Transformer: punctuation (and, in ours, case) of every word from a SAN-M encoder.

Chen et al., Controllable Time-Delay Transformer (2020); encoder: Gao et al., SAN-M (2020).
Parameter names as in FunASR's punc_ct-transformer checkpoints (offline variant).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NORM_EPSILON = 1e-12


@dataclass(frozen=True)
class CtTransformerConfig:
    """Sizes, under FunASR's names in `config.yaml`. `case_list` is ours: empty for a model
    without a case head. The first layer may widen `embed_unit` to `output_size`."""

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
        self.encoder = SanmEncoder(config, dropout)
        self.decoder = nn.Linear(config.output_size, len(config.punc_list))
        self.case_decoder: nn.Linear | None = None
        if config.case_list:
            self.case_decoder = nn.Linear(config.output_size, len(config.case_list))

    def forward(self, words: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor | None]:
        """`words` int64 [B, T], `lengths` int64 [B] -> logits of the marks [B, T, P] and of the
        case [B, T, C] (None without a case head). Past a row's length they mean nothing."""
        hidden = self.encoder(self.embed(words), lengths)
        case = None if self.case_decoder is None else self.case_decoder(hidden)
        return self.decoder(hidden), case


class SanmEncoder(nn.Module):
    """Pre-norm transformer whose attention carries an FSMN memory block."""

    def __init__(self, config: CtTransformerConfig, dropout: float) -> None:
        super().__init__()
        widths = [config.embed_unit] + [config.output_size] * config.num_blocks
        layers = [SanmLayer(config, width, dropout) for width in widths[:-1]]
        # The first layer is apart because its input may be of another width.
        self.encoders0 = nn.ModuleList(layers[:1])
        self.encoders = nn.ModuleList(layers[1:])
        self.after_norm = nn.LayerNorm(config.output_size, eps=NORM_EPSILON)
        self.scale = math.sqrt(config.output_size)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """x [B, T, embed_unit], lengths [B] -> [B, T, output_size]."""
        steps = torch.arange(x.shape[1], device=x.device)
        keep = steps[None, :] < lengths.to(x.device)[:, None]  # [B, T]
        x = x * self.scale + sinusoids(x.shape[1], x.shape[2]).to(x)
        for layer in (*self.encoders0, *self.encoders):
            x = layer(x, keep)
        normed: Tensor = self.after_norm(x)
        return normed


class SanmLayer(nn.Module):
    """Attention with memory, then feed-forward, each normalised before and added after.
    Without a residual around the attention where the width changes."""

    def __init__(self, config: CtTransformerConfig, in_size: int, dropout: float) -> None:
        super().__init__()
        size = config.output_size
        self.self_attn = SanmAttention(config, in_size)
        self.feed_forward = FeedForward(size, config.linear_units, dropout)
        self.norm1 = nn.LayerNorm(in_size, eps=NORM_EPSILON)
        self.norm2 = nn.LayerNorm(size, eps=NORM_EPSILON)
        self.dropout = nn.Dropout(dropout)
        self.residual = in_size == size

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        attended = self.dropout(self.self_attn(self.norm1(x), keep))
        x = x + attended if self.residual else attended
        out: Tensor = x + self.dropout(self.feed_forward(self.norm2(x)))
        return out


class SanmAttention(nn.Module):
    """Multi-head self-attention plus a depthwise convolution over the values."""

    def __init__(self, config: CtTransformerConfig, in_size: int) -> None:
        super().__init__()
        size, kernel = config.output_size, config.kernel_size
        self.heads = config.attention_heads
        self.linear_q_k_v = nn.Linear(in_size, 3 * size)
        self.linear_out = nn.Linear(size, size)
        self.fsmn_block = nn.Conv1d(size, size, kernel, groups=size, bias=False)
        left = (kernel - 1) // 2 + config.sanm_shift
        self.padding = (left, kernel - 1 - left)

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        """x [B, T, in_size], keep bool [B, T] -> [B, T, size]."""
        batch, steps, _ = x.shape
        query, key, value = self.linear_q_k_v(x).chunk(3, dim=-1)

        def by_head(part: Tensor) -> Tensor:
            return part.view(batch, steps, self.heads, -1).transpose(1, 2)

        attended = F.scaled_dot_product_attention(
            by_head(query), by_head(key), by_head(value), attn_mask=keep[:, None, None, :]
        )
        joined: Tensor = self.linear_out(attended.transpose(1, 2).reshape(batch, steps, -1))
        return joined + self.memory(value, keep)

    def memory(self, value: Tensor, keep: Tensor) -> Tensor:
        """The FSMN block with its own residual; padding neither gives nor gets anything."""
        mask = keep[..., None].to(value)
        value = value * mask
        padded = F.pad(value.transpose(1, 2), self.padding)
        remembered: Tensor = self.fsmn_block(padded).transpose(1, 2)
        return (remembered + value) * mask


class FeedForward(nn.Module):
    def __init__(self, size: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.w_1 = nn.Linear(size, hidden)
        self.w_2 = nn.Linear(hidden, size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.w_2(self.dropout(F.relu(self.w_1(x))))
        return out


def sinusoids(steps: int, depth: int) -> Tensor:
    """Positions 1..steps as sines, then cosines: float32 [steps, depth]."""
    rates = torch.exp(torch.arange(depth // 2) * (-math.log(10000.0) / (depth / 2 - 1)))
    angles = torch.arange(1, steps + 1)[:, None] * rates[None, :]
    return torch.cat([angles.sin(), angles.cos()], dim=1)
