"""SAN-M encoder: self-attention with an FSMN memory over the values, as Paraformer and
CT-Transformer share it. Parameter names as in FunASR's checkpoints.

Source: Gao et al., SAN-M: Memory Equipped Self-Attention (2020), section 2.
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
class SanmSizes:
    """Sizes under FunASR's names; the first layer may widen `input_size` to `output_size`."""

    input_size: int
    output_size: int
    attention_heads: int
    linear_units: int
    num_blocks: int
    kernel_size: int
    sanm_shift: int = 0

    @classmethod
    def from_yaml(cls, encoder: Mapping[str, Any], input_size: int) -> SanmSizes:
        """From the `encoder_conf` of a `config.yaml`. KeyError where a key is missing."""
        return cls(
            input_size=input_size,
            output_size=encoder["output_size"],
            attention_heads=encoder["attention_heads"],
            linear_units=encoder["linear_units"],
            num_blocks=encoder["num_blocks"],
            kernel_size=encoder["kernel_size"],
            sanm_shift=encoder.get("sanm_shfit", 0),  # FunASR's spelling
        )


class SanmEncoder(nn.Module):
    """Pre-norm transformer whose attention carries an FSMN memory block. A row's result does
    not depend on its padding."""

    def __init__(self, sizes: SanmSizes, dropout: float = 0.0) -> None:
        super().__init__()
        widths = [sizes.input_size] + [sizes.output_size] * sizes.num_blocks
        layers = [SanmLayer(sizes, width, dropout) for width in widths[:-1]]
        # The first layer is apart because its input may be of another width.
        self.encoders0 = nn.ModuleList(layers[:1])
        self.encoders = nn.ModuleList(layers[1:])
        self.after_norm = nn.LayerNorm(sizes.output_size, eps=NORM_EPSILON)
        self.scale = math.sqrt(sizes.output_size)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """x [B, T, input_size], lengths [B] -> [B, T, output_size]."""
        keep = mask(lengths.to(x.device), x.shape[1])
        x = x * self.scale + sinusoids(x.shape[1], x.shape[2]).to(x)
        for layer in (*self.encoders0, *self.encoders):
            x = layer(x, keep)
        normed: Tensor = self.after_norm(x)
        return normed


class SanmLayer(nn.Module):
    """Attention with memory, then feed-forward, each normalised before and added after.
    Without a residual around the attention where the width changes."""

    def __init__(self, sizes: SanmSizes, in_size: int, dropout: float) -> None:
        super().__init__()
        size = sizes.output_size
        self.self_attn = SanmAttention(sizes, in_size)
        self.feed_forward = FeedForward(size, sizes.linear_units, dropout)
        self.norm1 = nn.LayerNorm(in_size, eps=NORM_EPSILON)
        self.norm2 = nn.LayerNorm(size, eps=NORM_EPSILON)
        self.dropout = nn.Dropout(dropout)
        self.residual = in_size == size

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        attended = self.dropout(self.self_attn(self.norm1(x), keep))
        x = x + attended if self.residual else attended
        out: Tensor = x + self.dropout(self.feed_forward(self.norm2(x)))
        return out


class Memory(nn.Module):
    """A depthwise convolution over time with a residual of its own; padding neither gives nor
    gets anything. `shift` frames of the context are moved from the future to the past."""

    def __init__(self, size: int, kernel: int, shift: int) -> None:
        super().__init__()
        self.fsmn_block = nn.Conv1d(size, size, kernel, groups=size, bias=False)
        left = (kernel - 1) // 2 + shift
        self.padding = (left, kernel - 1 - left)

    def remember(self, x: Tensor, keep: Tensor) -> Tensor:
        """x [B, T, size], keep bool [B, T] -> [B, T, size]."""
        left, most = self.padding[0], max(self.padding)
        kernel = self.fsmn_block.weight.unsqueeze(2).clone()
        kernel[:, 0, 0, left] += 1  # the residual, in the same pass
        # As an image one row high, [B, T, size] is in channels-last memory order, which is the
        # fast path of the depthwise convolution on a CPU; torch takes one that is a column wide
        # for the other order, and is ten times slower.
        image = (x * keep[..., None]).transpose(1, 2).unsqueeze(2)
        seen = F.conv2d(image, kernel, padding=(0, most), groups=len(kernel))
        remembered = seen.squeeze(2).transpose(1, 2)[:, most - left :][:, : x.shape[1]]
        return remembered * keep[..., None]


class SanmAttention(Memory):
    """Multi-head self-attention plus a memory of the values."""

    def __init__(self, sizes: SanmSizes, in_size: int) -> None:
        super().__init__(sizes.output_size, sizes.kernel_size, sizes.sanm_shift)
        self.heads = sizes.attention_heads
        self.linear_q_k_v = nn.Linear(in_size, 3 * sizes.output_size)
        self.linear_out = nn.Linear(sizes.output_size, sizes.output_size)

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        """x [B, T, in_size], keep bool [B, T] -> [B, T, size]."""
        query, key, value = self.linear_q_k_v(x).chunk(3, dim=-1)
        joined: Tensor = self.linear_out(attend(query, key, value, keep, self.heads))
        return joined + self.remember(value, keep)


class FeedForward(nn.Module):
    """Two linear layers with a ReLU between them."""

    def __init__(self, size: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.w_1 = nn.Linear(size, hidden)
        self.w_2 = nn.Linear(hidden, size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.w_2(self.dropout(self.w_1(x).relu_()))
        return out


def attend(query: Tensor, key: Tensor, value: Tensor, keep: Tensor, heads: int) -> Tensor:
    """Multi-head attention of query [B, T, D] to key and value [B, S, D], those of them that
    keep bool [B, S] names: [B, T, D]."""

    query, key, value = (by_head(part, heads) for part in (query, key, value))
    found = F.scaled_dot_product_attention(query, key, value, attn_mask=keep[:, None, None, :])
    return found.transpose(1, 2).flatten(2)


def by_head(x: Tensor, heads: int) -> Tensor:
    """[B, T, D] to [B, heads, T, D / heads]."""
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2)


def mask(lengths: Tensor, steps: int) -> Tensor:
    """Which of `steps` positions lie inside each row: bool [B, steps], of lengths [B]."""
    return torch.arange(steps, device=lengths.device)[None, :] < lengths[:, None]


def sinusoids(steps: int, depth: int) -> Tensor:
    """Positions 1..steps as sines, then cosines: float32 [steps, depth]. In FunASR's order of
    float32 operations: far into a recording, rounding them otherwise would show."""
    increment = torch.log(torch.tensor(10000.0)) / (depth / 2 - 1)
    rates = torch.exp(torch.arange(depth / 2) * -increment)
    angles = torch.arange(1, steps + 1, dtype=torch.float32)[:, None] * rates[None, :]
    return torch.cat([angles.sin(), angles.cos()], dim=1)
