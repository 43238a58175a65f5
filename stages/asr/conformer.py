"""Conformer encoder, as GigaAM has it in all its versions; parameters have the names of the
published checkpoints.

Sources: Gulati et al., Conformer (2020), section 2; Dai et al., Transformer-XL (2019), appendix B
(relative positions, GigaAM v1); Su et al., RoFormer (2021), section 3.2 (rotary positions, from
v2 on: turned before the projections, not after them as elsewhere).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import glu, pad, relu, scaled_dot_product_attention, silu


@dataclass(frozen=True)
class ConformerOptions:
    """The names of GigaAM's `cfg.encoder`; the defaults are those of v1 and v2."""

    feat_in: int = 64
    n_layers: int = 16
    d_model: int = 768
    subsampling: Literal["conv1d", "conv2d"] = "conv2d"
    subs_kernel_size: int = 3
    subsampling_factor: int = 4
    ff_expansion_factor: int = 4
    self_attention_model: Literal["rotary", "rel_pos"] = "rotary"
    n_heads: int = 16
    pos_emb_max_len: int = 5000
    conv_norm_type: Literal["batch_norm", "layer_norm"] = "batch_norm"
    conv_kernel_size: int = 31


class Subsampling(nn.Module):
    """Strided convolutions over time, and over frequency with conv2d:
    [B, F, feat_in] to [B, ceil(F / subsampling_factor), d_model]."""

    def __init__(self, options: ConformerOptions) -> None:
        super().__init__()
        self.over_frequency = options.subsampling == "conv2d"
        self.steps = int(math.log2(options.subsampling_factor))
        self.kernel = options.subs_kernel_size
        layer = nn.Conv2d if self.over_frequency else nn.Conv1d
        channels = 1 if self.over_frequency else options.feat_in
        layers: list[nn.Module] = []
        for _ in range(self.steps):
            layers += [
                layer(channels, options.d_model, self.kernel, stride=2, padding=self.kernel // 2),
                nn.ReLU(),
            ]
            channels = options.d_model
        self.conv = nn.Sequential(*layers)
        if self.over_frequency:
            bands = options.feat_in
            for _ in range(self.steps):
                bands = (bands + 1) // 2
            self.out = nn.Linear(options.d_model * bands, options.d_model)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        # Time is dimension 2 throughout; what lies past a row's end is zero before each
        # convolution, as it would be if the row were alone.
        x = features.unsqueeze(1) if self.over_frequency else features.transpose(1, 2)
        x = _without_padding(x, lengths)
        for convolution in list(self.conv)[::2]:
            x = relu(convolution(x))
            lengths = torch.div(lengths + 1, 2, rounding_mode="floor")
            x = _without_padding(x, lengths)
        x = x.transpose(1, 2)
        return self.out(x.flatten(2)) if self.over_frequency else x, lengths


def _without_padding(x: Tensor, lengths: Tensor) -> Tensor:
    """x [B, C, T] or [B, C, T, D] with zeros from each row's length on."""
    past = torch.arange(x.shape[2], device=x.device)[None, :] >= lengths[:, None]
    return x.masked_fill(past[:, None, :, None] if x.dim() == 4 else past[:, None, :], 0.0)


class Attention(nn.Module):
    """What the two kinds of attention share: projections into heads and out of them."""

    def __init__(self, options: ConformerOptions) -> None:
        super().__init__()
        self.heads = options.n_heads
        self.width = options.d_model // options.n_heads
        self.linear_q = nn.Linear(options.d_model, options.d_model)
        self.linear_k = nn.Linear(options.d_model, options.d_model)
        self.linear_v = nn.Linear(options.d_model, options.d_model)
        self.linear_out = nn.Linear(options.d_model, options.d_model)

    def by_head(self, x: Tensor) -> Tensor:
        """[B, T, D] to [B, T, H, D / H]."""
        return x.reshape(*x.shape[:2], self.heads, self.width)

    def split(self, x: Tensor) -> Tensor:
        """[B, T, D] to [B, H, T, D / H]."""
        return self.by_head(x).transpose(1, 2)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Heads [B, H, T, D / H] to [B, T, D]."""
        attended = scaled_dot_product_attention(q, k, v, attn_mask=mask)
        joined: Tensor = self.linear_out(attended.transpose(1, 2).flatten(2))
        return joined


class RotaryAttention(Attention):
    """`positions`: cosines and sines, [2, T, D / H]."""

    def forward(self, x: Tensor, positions: Tensor, heard: Tensor | None) -> Tensor:
        cos, sin = positions[:, : x.shape[1], None].to(x.dtype)
        each = self.by_head(x)
        low, high = each.chunk(2, dim=-1)
        turned = (each * cos + torch.cat([-high, low], dim=-1) * sin).flatten(2)
        q, k = self.split(self.linear_q(turned)), self.split(self.linear_k(turned))
        return self.attend(q, k, self.split(self.linear_v(x)), heard)


class RelativeAttention(Attention):
    """`positions`: sines and cosines of the distances L - 1 ... -(L - 1), [2 L - 1, D]."""

    def __init__(self, options: ConformerOptions) -> None:
        super().__init__(options)
        self.linear_pos = nn.Linear(options.d_model, options.d_model, bias=False)
        self.pos_bias_u = nn.Parameter(torch.zeros(self.heads, self.width))
        self.pos_bias_v = nn.Parameter(torch.zeros(self.heads, self.width))

    def forward(self, x: Tensor, positions: Tensor, heard: Tensor | None) -> Tensor:
        frames, middle = x.shape[1], len(positions) // 2
        nearby = positions[middle - frames + 1 : middle + frames].to(x.dtype)
        q = self.by_head(self.linear_q(x))
        by_distance = (q + self.pos_bias_v).transpose(1, 2) @ self.split(
            self.linear_pos(nearby)[None]
        ).transpose(-2, -1)
        bias = _by_position(by_distance) / math.sqrt(self.width)
        if heard is not None:
            bias = bias.masked_fill(~heard, float("-inf"))
        k, v = self.split(self.linear_k(x)), self.split(self.linear_v(x))
        return self.attend((q + self.pos_bias_u).transpose(1, 2), k, v, bias)


def _by_position(scores: Tensor) -> Tensor:
    """Scores by distance [B, H, T, 2 T - 1] to scores by position [B, H, T, T]."""
    batch, heads, frames, distances = scores.shape
    shifted = pad(scores, (1, 0)).view(batch, heads, distances + 1, frames)
    return shifted[:, :, 1:].view(batch, heads, frames, distances)[..., :frames]


class Convolution(nn.Module):
    """Gated pointwise, depthwise, normalised, pointwise convolution over time."""

    def __init__(self, options: ConformerOptions) -> None:
        super().__init__()
        width, kernel = options.d_model, options.conv_kernel_size
        self.pointwise_conv1 = nn.Conv1d(width, 2 * width, 1)
        self.depthwise_conv = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        # `batch_norm` is the name in the checkpoints whichever it is.
        self.by_frame = options.conv_norm_type == "layer_norm"
        self.batch_norm = nn.LayerNorm(width) if self.by_frame else nn.BatchNorm1d(width)
        self.pointwise_conv2 = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        y = glu(self.pointwise_conv1(x.transpose(1, 2)), dim=1)
        y = self.depthwise_conv(_without_padding(y, lengths))
        if self.by_frame:
            y = self.batch_norm(y.transpose(1, 2)).transpose(1, 2)
        else:
            y = self.batch_norm(y)
        mixed: Tensor = self.pointwise_conv2(silu(y))
        return mixed.transpose(1, 2)


class FeedForward(nn.Module):
    """Two linear layers."""

    def __init__(self, options: ConformerOptions) -> None:
        super().__init__()
        inner = options.d_model * options.ff_expansion_factor
        self.linear1 = nn.Linear(options.d_model, inner)
        self.linear2 = nn.Linear(inner, options.d_model)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear2(silu(self.linear1(x)))
        return y


class Layer(nn.Module):
    """Half a feed-forward step, attention, convolution, the other half; all residual."""

    def __init__(self, options: ConformerOptions) -> None:
        super().__init__()
        rotary = options.self_attention_model == "rotary"
        self.norm_feed_forward1 = nn.LayerNorm(options.d_model)
        self.feed_forward1 = FeedForward(options)
        self.norm_self_att = nn.LayerNorm(options.d_model)
        self.self_attn = RotaryAttention(options) if rotary else RelativeAttention(options)
        self.norm_conv = nn.LayerNorm(options.d_model)
        self.conv = Convolution(options)
        self.norm_feed_forward2 = nn.LayerNorm(options.d_model)
        self.feed_forward2 = FeedForward(options)
        self.norm_out = nn.LayerNorm(options.d_model)

    def forward(
        self, x: Tensor, lengths: Tensor, positions: Tensor, heard: Tensor | None
    ) -> Tensor:
        x = x + 0.5 * self.feed_forward1(self.norm_feed_forward1(x))
        x = x + self.self_attn(self.norm_self_att(x), positions, heard)
        x = x + self.conv(self.norm_conv(x), lengths)
        x = x + 0.5 * self.feed_forward2(self.norm_feed_forward2(x))
        y: Tensor = self.norm_out(x)
        return y


class ConformerEncoder(nn.Module):
    """Padding never reaches a real frame: a row's output does not depend on its batch."""

    def __init__(self, options: ConformerOptions) -> None:
        super().__init__()
        self.options = options
        self.pre_encode = Subsampling(options)
        self.layers = nn.ModuleList(Layer(options) for _ in range(options.n_layers))
        self.positions: Tensor
        self.register_buffer("positions", torch.empty(0, device="cpu"), persistent=False)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B, F, feat_in], lengths [B] in frames, to [B, ceil(F / factor), d_model]
        and lengths [B]. What lies past a row's length means nothing."""
        x, lengths = self.pre_encode(features, lengths)
        self._reach(x.shape[1], x.device)
        frames = torch.arange(x.shape[1], device=x.device)
        heard = (frames[None, :] < lengths[:, None])[:, None, None, :]
        all_heard = bool(heard.all())
        for layer in self.layers:
            x = layer(x, lengths, self.positions, None if all_heard else heard)
        return x, lengths

    @property
    def dtype(self) -> torch.dtype:
        """In which the layers compute."""
        dtype: torch.dtype = self.layers[0].norm_out.weight.dtype  # type: ignore[union-attr, assignment]
        return dtype

    def _reach(self, frames: int, device: torch.device) -> None:
        """Positions for so many frames: at least for a minute, so that they are made once."""
        rotary = self.options.self_attention_model == "rotary"
        reached = self.positions.shape[1] if self.positions.dim() == 3 else len(self.positions) // 2
        if frames <= reached:
            return
        length = max(frames, 1500)
        made = rotary_positions(length, self.options) if rotary else distances(length, self.options)
        self.positions = made.to(device)


def rotary_positions(length: int, options: ConformerOptions) -> Tensor:
    """Cosines and sines, float32 [2, length, d_model / n_heads]. GigaAM's base is the longest
    position (5000), not the usual 10000."""
    width = options.d_model // options.n_heads
    speeds = 1.0 / options.pos_emb_max_len ** (torch.arange(0, width, 2).float() / width)
    angles = torch.arange(length).float()[:, None] * speeds[None, :]
    angles = torch.cat([angles, angles], dim=-1)
    return torch.stack([angles.cos(), angles.sin()])


def distances(length: int, options: ConformerOptions) -> Tensor:
    """Sines and cosines, interleaved, float32 [2 length - 1, d_model]: from the farthest frame
    behind to the farthest ahead."""
    steps = torch.arange(length - 1, -length, -1).float()[:, None]
    speeds = torch.exp(
        torch.arange(0, options.d_model, 2).float() * -(math.log(10000.0) / options.d_model)
    )
    return torch.stack([(steps * speeds).sin(), (steps * speeds).cos()], dim=-1).flatten(1)
