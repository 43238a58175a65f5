"""CAM++: a densely connected TDNN with context-aware masking, features to a speaker embedding.

Source: Wang et al., CAM++ (Interspeech 2023), section 2. Parameter names and layer sizes are
those of the published 3D-Speaker / FunASR checkpoints, so that they load with no conversion.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import relu


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
        self.xvector.add_module("out_nonlinear", NormalisedRelu(channels))
        self.xvector.add_module("stats", StatisticsPooling())
        self.xvector.add_module("dense", Dense(2 * channels, sizes.embedding_size))
        for module in self.modules():
            if isinstance(module, nn.Conv1d):
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, features: Tensor) -> Tensor:
        embedding: Tensor = self.xvector(self.head(features))
        return embedding


class FrontConvolution(nn.Module):
    """The 2-D convolutional head (FCM): local time-frequency patterns, with the frequency axis
    shortened eightfold. [B, T, F] to [B, T, channels * F / 8]."""

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
        # Channels last is the fast layout of small convolutions on a CPU; all layers keep it.
        image = features.transpose(1, 2).unsqueeze(1).to(memory_format=torch.channels_last)
        x = normalised(self.conv1, self.bn1, image).relu_()
        x = self.layer2(self.layer1(x))
        x = normalised(self.conv2, self.bn2, x).relu_()
        return x.permute(0, 3, 1, 2).flatten(2)


class Residual(nn.Module):
    """A basic residual block, [B, C, F, T] to [B, C, F / stride, T]."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, stride=(stride, 1), padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        self.stride = stride
        if stride != 1:
            self.shortcut.append(nn.Conv2d(channels, channels, 1, bias=False))
            self.shortcut.append(nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        hidden = normalised(self.conv1, self.bn1, x).relu_()
        out = normalised(self.conv2, self.bn2, hidden)
        # Rows are taken before the convolution: on some CPUs oneDNN's gradient of a 1 x 1
        # convolution with a stride writes past its memory (torch 2.13, AVX-512 without AMX).
        return out.add_(self.shortcut(x[:, :, :: self.stride])).relu_()


def normalised(conv: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Convolution, then batch norm. In evaluation the norm is a part of the kernel: these images
    are large, and every pass over them counts."""
    if norm.training or norm.running_mean is None or norm.running_var is None:
        out: Tensor = norm(conv(x))
        return out
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    shift = norm.bias - norm.running_mean * scale
    kernel = (conv.weight * scale[:, None, None, None]).to(memory_format=torch.channels_last)
    return nn.functional.conv2d(x, kernel, shift, conv.stride, conv.padding)


class NormalisedRelu(nn.Module):
    """Batch norm, then ReLU: [..., C] to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.batchnorm = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.batchnorm(x.flatten(0, -2)).view_as(x).relu_()
        return out


class TimeConv(nn.Conv1d):
    """A convolution over time, of frames that lie one after the other: [B, T, C] to [B, T', D].
    Over one frame it is a matrix product, and over several one of images one row high."""

    def forward(self, x: Tensor) -> Tensor:
        if self.kernel_size == (1,):
            return nn.functional.linear(x, self.weight[..., 0], self.bias)
        rows = nn.functional.conv2d(
            x.transpose(1, 2).unsqueeze(2),
            self.weight.unsqueeze(2),
            self.bias,
            (1, *self.stride),
            (0, *self.padding),
            (1, *self.dilation),
        )
        return rows.squeeze(2).transpose(1, 2)


class Tdnn(nn.Module):
    """Five frames of context and half the frame rate: [B, T, C] to [B, ceil(T / 2), D]."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.linear = TimeConv(in_channels, out_channels, 5, stride=2, padding=2, bias=False)
        self.nonlinear = NormalisedRelu(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.nonlinear(self.linear(x))
        return out


class DenseBlock(nn.ModuleList):
    """D-TDNN layers, each reading everything before it: [B, T, C] to [B, T, C + layers * G]."""

    def __init__(self, layers: int, channels: int, sizes: CamPlusPlusSizes, dilation: int) -> None:
        super().__init__()
        for index in range(layers):
            width = channels + index * sizes.growth_rate
            layer = DenseLayer(width, sizes.bn_size * sizes.growth_rate, sizes, dilation)
            self.add_module(f"tdnnd{index + 1}", layer)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self:
            x = torch.cat([x, layer(x)], dim=-1)
        return x


class DenseLayer(nn.Module):
    """A bottleneck and a masked TDNN: [B, T, C] to [B, T, growth_rate]."""

    def __init__(
        self, channels: int, bottleneck: int, sizes: CamPlusPlusSizes, dilation: int
    ) -> None:
        super().__init__()
        self.nonlinear1 = NormalisedRelu(channels)
        self.linear1 = TimeConv(channels, bottleneck, 1, bias=False)
        self.nonlinear2 = NormalisedRelu(bottleneck)
        self.cam_layer = ContextAwareMask(bottleneck, sizes.growth_rate, dilation)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.linear1(self.nonlinear1(x))
        out: Tensor = self.cam_layer(self.nonlinear2(hidden))
        return out


class ContextAwareMask(nn.Module):
    """A TDNN whose outputs are weighted by a mask drawn from the mean over the whole window and
    over each segment of 100 frames (2 s): [B, T, C] to [B, T, D]. Equation 3 of the paper."""

    segment = 100

    def __init__(self, in_channels: int, out_channels: int, dilation: int) -> None:
        super().__init__()
        self.linear_local = TimeConv(
            in_channels, out_channels, 3, padding=dilation, dilation=dilation, bias=False
        )
        self.linear1 = TimeConv(in_channels, in_channels // 2, 1)
        self.linear2 = TimeConv(in_channels // 2, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        # The mask is constant over a segment: it is computed once a segment, then spread.
        segments = [part.mean(1) for part in torch.split(x, self.segment, dim=1)]
        context = torch.stack(segments, dim=1) + x.mean(1, keepdim=True)
        mask = torch.sigmoid(self.linear2(relu(self.linear1(context))))
        spread = mask.repeat_interleave(self.segment, dim=1)[:, : x.shape[1]]
        out: Tensor = self.linear_local(x) * spread
        return out


class Transit(nn.Module):
    """Between two blocks: [B, T, C] to [B, T, D]."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.nonlinear = NormalisedRelu(in_channels)
        self.linear = TimeConv(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(self.nonlinear(x))
        return out


class StatisticsPooling(nn.Module):
    """Mean and (unbiased) standard deviation over time: [B, T, C] to [B, 2C]."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x.mean(dim=1), x.std(dim=1)], dim=-1)


class Dense(nn.Module):
    """The embedding layer, with a batch norm that has no scale of its own: [B, C] to [B, D]."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.linear = TimeConv(in_channels, out_channels, 1, bias=False)
        self.nonlinear = nn.Sequential()
        self.nonlinear.add_module("batchnorm", nn.BatchNorm1d(out_channels, affine=False))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.nonlinear(self.linear(x))
        return out
