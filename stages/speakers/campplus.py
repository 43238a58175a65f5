"""CAM++: a densely connected TDNN with context-aware masking, features to a speaker embedding.

Source: Wang et al., CAM++ (Interspeech 2023), section 2. Parameter names and layer sizes are
those of the published 3D-Speaker / FunASR checkpoints, so that they load with no conversion.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool1d, relu


@dataclass(frozen=True)
class CamPlusPlusSizes:
    """Sizes of the network; the defaults are the published 192-dimensional model's."""

    feat_dim: int = 80
    embedding_size: int = 192
    growth_rate: int = 32
    bn_size: int = 4
    init_channels: int = 128
    head_channels: int = 32
    block_layers: tuple[int, ...] = (12, 24, 16)
    block_dilations: tuple[int, ...] = (1, 2, 2)

    def __post_init__(self) -> None:
        if len(self.block_layers) != len(self.block_dilations):
            raise ValueError(
                f"{len(self.block_layers)} block_layers and {len(self.block_dilations)} "
                "block_dilations: one each a block expected"
            )


class CamPlusPlus(nn.Module):
    """Features [B, T, feat_dim] (mean-normalised log-mel, 10 ms a frame) to embeddings
    [B, embedding_size], not normalised. Every row has the same number of frames T >= 3."""

    def __init__(self, sizes: CamPlusPlusSizes | None = None) -> None:
        super().__init__()
        self.sizes = sizes = sizes or CamPlusPlusSizes()
        self.head = FrontConvolution(sizes.head_channels, sizes.feat_dim)
        self.xvector = nn.Sequential()
        channels = sizes.init_channels
        self.xvector.add_module("tdnn", Tdnn(self.head.out_channels, channels))
        for index, layers in enumerate(sizes.block_layers, start=1):
            block = DenseBlock(layers, channels, sizes, sizes.block_dilations[index - 1])
            self.xvector.add_module(f"block{index}", block)
            channels += layers * sizes.growth_rate
            self.xvector.add_module(f"transit{index}", Transit(channels, channels // 2))
            channels //= 2
        self.xvector.add_module("out_nonlinear", normalised_relu(channels))
        self.xvector.add_module("stats", StatisticsPooling())
        self.xvector.add_module("dense", Dense(2 * channels, sizes.embedding_size))
        for module in self.modules():
            if isinstance(module, nn.Conv1d):
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, features: Tensor) -> Tensor:
        embedding: Tensor = self.xvector(self.head(features.transpose(1, 2)))
        return embedding


class FrontConvolution(nn.Module):
    """The 2-D convolutional head (FCM): local time-frequency patterns, with the frequency axis
    shortened eightfold. [B, F, T] to [B, channels * F / 8, T]."""

    def __init__(self, channels: int, feat_dim: int) -> None:
        super().__init__()
        self.out_channels = channels * (feat_dim // 8)
        self.conv1 = nn.Conv2d(1, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.layer1 = nn.Sequential(Residual(channels, 2), Residual(channels, 1))
        self.layer2 = nn.Sequential(Residual(channels, 2), Residual(channels, 1))
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=(2, 1), padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, features: Tensor) -> Tensor:
        x = relu(self.bn1(self.conv1(features.unsqueeze(1))))
        x = self.layer2(self.layer1(x))
        x = relu(self.bn2(self.conv2(x)))
        return x.flatten(1, 2)


class Residual(nn.Module):
    """A basic residual block, [B, C, F, T] to [B, C, F / stride, T]."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, stride=(stride, 1), padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride != 1:
            self.shortcut.append(nn.Conv2d(channels, channels, 1, stride=(stride, 1), bias=False))
            self.shortcut.append(nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))
        return relu(out + self.shortcut(x))


def normalised_relu(channels: int) -> nn.Sequential:
    """Batch norm, then ReLU, under the names of the published checkpoints."""
    layer = nn.Sequential()
    layer.add_module("batchnorm", nn.BatchNorm1d(channels))
    layer.add_module("relu", nn.ReLU(inplace=True))
    return layer


class Tdnn(nn.Module):
    """Five frames of context and half the frame rate: [B, C, T] to [B, D, ceil(T / 2)]."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(in_channels, out_channels, 5, stride=2, padding=2, bias=False)
        self.nonlinear = normalised_relu(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.nonlinear(self.linear(x))
        return out


class DenseBlock(nn.ModuleList):
    """D-TDNN layers, each reading everything before it: [B, C, T] to [B, C + layers * G, T]."""

    def __init__(self, layers: int, channels: int, sizes: CamPlusPlusSizes, dilation: int) -> None:
        super().__init__()
        for index in range(layers):
            width = channels + index * sizes.growth_rate
            layer = DenseLayer(width, sizes.bn_size * sizes.growth_rate, sizes, dilation)
            self.add_module(f"tdnnd{index + 1}", layer)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self:
            x = torch.cat([x, layer(x)], dim=1)
        return x


class DenseLayer(nn.Module):
    """A bottleneck and a masked TDNN: [B, C, T] to [B, growth_rate, T]."""

    def __init__(
        self, channels: int, bottleneck: int, sizes: CamPlusPlusSizes, dilation: int
    ) -> None:
        super().__init__()
        self.nonlinear1 = normalised_relu(channels)
        self.linear1 = nn.Conv1d(channels, bottleneck, 1, bias=False)
        self.nonlinear2 = normalised_relu(bottleneck)
        self.cam_layer = ContextAwareMask(bottleneck, sizes.growth_rate, dilation)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.linear1(self.nonlinear1(x))
        out: Tensor = self.cam_layer(self.nonlinear2(hidden))
        return out


class ContextAwareMask(nn.Module):
    """A TDNN whose outputs are weighted by a mask drawn from the mean over the whole window and
    over each segment of 100 frames (2 s): [B, C, T] to [B, D, T]. Equation 3 of the paper."""

    segment = 100

    def __init__(self, in_channels: int, out_channels: int, dilation: int) -> None:
        super().__init__()
        self.linear_local = nn.Conv1d(
            in_channels, out_channels, 3, padding=dilation, dilation=dilation, bias=False
        )
        self.linear1 = nn.Conv1d(in_channels, in_channels // 2, 1)
        self.linear2 = nn.Conv1d(in_channels // 2, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        # The mask is constant over a segment: it is computed once a segment, then spread.
        context = x.mean(-1, keepdim=True) + avg_pool1d(
            x, self.segment, self.segment, ceil_mode=True
        )
        mask = torch.sigmoid(self.linear2(relu(self.linear1(context))))
        spread = mask.repeat_interleave(self.segment, dim=-1)[..., : x.shape[-1]]
        out: Tensor = self.linear_local(x) * spread
        return out


class Transit(nn.Module):
    """Between two blocks: [B, C, T] to [B, D, T]."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.nonlinear = normalised_relu(in_channels)
        self.linear = nn.Conv1d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(self.nonlinear(x))
        return out


class StatisticsPooling(nn.Module):
    """Mean and (unbiased) standard deviation over time: [B, C, T] to [B, 2C]."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x.mean(dim=-1), x.std(dim=-1)], dim=-1)


class Dense(nn.Module):
    """The embedding layer, with a batch norm that has no scale of its own: [B, C] to [B, D]."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(in_channels, out_channels, 1, bias=False)
        self.nonlinear = nn.Sequential()
        self.nonlinear.add_module("batchnorm", nn.BatchNorm1d(out_channels, affine=False))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.nonlinear(self.linear(x.unsqueeze(-1)).squeeze(-1))
        return out
