"""Convolutional CTC acoustic model: log-mel frames to character posteriors, one every 40 ms.

Sources: Liu et al., ConvNeXt (2022), section 2 (the block, here in time only); Han et al.,
ContextNet (2020), section 2.2 (squeeze-and-excitation over the whole segment).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, silu

FRAME_MS = 40
_PRIOR_FRAMES = 50  # how many frames the corpus mean counts for in a segment's own mean


@dataclass(frozen=True)
class NetworkOptions:
    """The `network` part of the model folder's config."""

    tokens: int
    inputs: int = 80
    width: int = 256
    blocks: int = 12
    kernel: int = 15
    expansion: int = 4
    dropout: float = 0.0


def masked(x: Tensor, lengths: Tensor) -> Tensor:
    """x [B, T, D] with zeros past each row's length."""
    keep = torch.arange(x.shape[1], device=x.device)[None, :] < lengths[:, None]
    return x.masked_fill(~keep[..., None], 0.0)


class Halving(nn.Module):
    """Convolution over time with stride 2: [B, T, D] to [B, ceil(T / 2), W]."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, width, kernel_size=5, stride=2, padding=2)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        y = self.conv(x.transpose(1, 2)).transpose(1, 2)
        lengths = torch.div(lengths + 1, 2, rounding_mode="floor")
        return masked(silu(y), lengths), lengths


class Block(nn.Module):
    """Depthwise convolution, two pointwise layers, a gate from the segment's mean; residual."""

    def __init__(self, options: NetworkOptions) -> None:
        super().__init__()
        width, kernel = options.width, options.kernel
        self.depthwise = nn.Conv2d(
            width, width, (kernel, 1), padding=(kernel // 2, 0), groups=width
        )
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, options.expansion * width)
        self.contract = nn.Linear(options.expansion * width, width)
        self.squeeze = nn.Linear(width, width // 8)
        self.excite = nn.Linear(width // 8, width)
        self.dropout = nn.Dropout(options.dropout)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """x [B, T, W], zeros past each length, to the same."""
        # As an image one row high, [B, T, W] is in channels-last memory order, which is the fast
        # path of the depthwise convolution on a CPU: see `stages.sanm.Memory`.
        image, conv = x.transpose(1, 2).unsqueeze(2), self.depthwise
        kernel, padding = conv.weight.transpose(2, 3), conv.padding[::-1]
        seen = conv2d(image, kernel, conv.bias, padding=padding, groups=len(kernel))
        y = seen.squeeze(2).transpose(1, 2)
        y = self.contract(silu(self.expand(self.norm(y))))
        y = masked(y, lengths)
        mean = y.sum(dim=1) / lengths.clamp(min=1)[:, None]
        gate = torch.sigmoid(self.excite(silu(self.squeeze(mean))))
        mixed: Tensor = x + self.dropout(y * gate[:, None, :])
        return mixed


class CtcNetwork(nn.Module):
    """Padding never reaches a real frame, so a segment's posteriors do not depend on its batch."""

    mean: Tensor
    scale: Tensor

    def __init__(self, options: NetworkOptions) -> None:
        super().__init__()
        self.options = options
        self.register_buffer("mean", torch.zeros(options.inputs))
        self.register_buffer("scale", torch.ones(options.inputs))
        self.first = Halving(options.inputs, options.width)
        self.second = Halving(options.width, options.width)
        self.blocks = nn.ModuleList(Block(options) for _ in range(options.blocks))
        self.norm = nn.LayerNorm(options.width)
        self.head = nn.Linear(options.width, options.tokens)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Log-mel features [B, F, inputs], lengths [B] in frames, to log posteriors
        float32 [B, ceil(F / 4), tokens] and their lengths [B]."""
        x, lengths = self.encode(features, lengths)
        for block in self.blocks:
            x = block(x, lengths)
        return self.posteriors(x), lengths

    def encode(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """What enters the blocks: [B, ceil(F / 4), width], and lengths [B]."""
        x, lengths = self.first(self.normalise(features, lengths), lengths)
        encoded: tuple[Tensor, Tensor] = self.second(x, lengths)
        return encoded

    def normalise(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Takes out the segment's own mean spectrum (its level and microphone). Short segments
        lean on the corpus mean: a mean over half a word would erase the word."""
        sums = masked(features, lengths).sum(dim=1) + _PRIOR_FRAMES * self.mean
        mean = sums / (lengths + _PRIOR_FRAMES)[:, None]
        return masked((features - mean[:, None, :]) * self.scale, lengths)

    def posteriors(self, x: Tensor) -> Tensor:
        """Log posteriors over the tokens, float32."""
        return torch.log_softmax(self.head(self.norm(x)).float(), dim=-1)
