"""FSMN voice activity detection: the network, and loading it from a model folder.

Source: Zhang et al., Deep-FSMN (2018), https://arxiv.org/abs/1803.05030; parameter names are
those of FunASR's published FSMN-VAD, so that its checkpoint loads unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from torch import Tensor, nn

from pipeline.errors import ModelError, printable
from stages.audio.features import Cmvn, FbankOptions, load_cmvn
from stages.models import ModelFolder


@dataclass(frozen=True)
class FsmnOptions:
    """FunASR's `encoder_conf`. Orders count taps of the memory, strides their distance, both
    in frames; output 0 is silence."""

    input_dim: int
    input_affine_dim: int
    fsmn_layers: int
    linear_dim: int
    proj_dim: int
    lorder: int
    rorder: int
    lstride: int
    rstride: int
    output_affine_dim: int
    output_dim: int

    @property
    def left_context(self) -> int:
        """Frames before a frame that its posterior depends on."""
        return self.fsmn_layers * (self.lorder - 1) * self.lstride

    @property
    def right_context(self) -> int:
        """Frames after a frame that its posterior depends on."""
        return self.fsmn_layers * self.rorder * self.rstride


class _Affine(nn.Module):
    """A linear layer under the name `linear`, as the published state dict nests it."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.linear(x)
        return result


class _Memory(nn.Module):
    """Each channel's weighted sum over its past (and future) frames, added to the frame."""

    def __init__(self, options: FsmnOptions) -> None:
        super().__init__()
        dim = options.proj_dim
        self.left = (options.lorder - 1) * options.lstride
        self.right = options.rorder * options.rstride
        self.lstride, self.rstride = options.lstride, options.rstride
        self.conv_left = nn.Conv2d(
            dim, dim, (options.lorder, 1), dilation=(options.lstride, 1), groups=dim, bias=False
        )
        self.conv_right: nn.Conv2d | None = None
        if options.rorder > 0:
            self.conv_right = nn.Conv2d(
                dim, dim, (options.rorder, 1), dilation=(options.rstride, 1), groups=dim, bias=False
            )

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D]; frames outside count as zeros."""
        # As an image one row high, x is in channels-last memory order: see `stages.sanm.Memory`.
        frames, steps = x.transpose(1, 2).unsqueeze(2), x.shape[1]  # [B, D, 1, T]
        past = self.conv_left.weight.transpose(2, 3).clone()
        past[..., -1] += 1  # the frame itself, in the same pass
        out = self._weigh(frames, past, self.lstride, self.left)[..., :steps]
        if self.conv_right is not None:
            future = self.conv_right.weight.transpose(2, 3)
            ahead = self.rstride + self.right
            out = out + self._weigh(frames, future, self.rstride, self.right)[..., ahead:]
        summed: Tensor = out.squeeze(2).transpose(1, 2)
        return summed

    def _weigh(self, frames: Tensor, kernel: Tensor, stride: int, padding: int) -> Tensor:
        return nn.functional.conv2d(
            frames, kernel, None, 1, (0, padding), (1, stride), groups=len(kernel)
        )


class _Layer(nn.Module):
    def __init__(self, options: FsmnOptions) -> None:
        super().__init__()
        self.linear = _Affine(options.linear_dim, options.proj_dim, bias=False)
        self.fsmn_block = _Memory(options)
        self.affine = _Affine(options.proj_dim, options.linear_dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.affine(self.fsmn_block(self.linear(x))).relu_()
        return out


class Fsmn(nn.Module):
    """Stacked, normalised features to the scores of `output_dim` classes, one row a frame."""

    def __init__(self, options: FsmnOptions) -> None:
        super().__init__()
        self.options = options
        self.in_linear1 = _Affine(options.input_dim, options.input_affine_dim)
        self.in_linear2 = _Affine(options.input_affine_dim, options.linear_dim)
        self.fsmn = nn.Sequential(*(_Layer(options) for _ in range(options.fsmn_layers)))
        self.out_linear1 = _Affine(options.linear_dim, options.output_affine_dim)
        self.out_linear2 = _Affine(options.output_affine_dim, options.output_dim)

    def forward(self, features: Tensor) -> Tensor:
        """[B, T, input_dim] -> logits [B, T, output_dim]."""
        x = self.in_linear2(self.in_linear1(features)).relu_()
        logits: Tensor = self.out_linear2(self.out_linear1(self.fsmn(x)))
        return logits

    def silence(self, features: Tensor) -> Tensor:
        """[B, T, input_dim] -> posterior of silence [B, T]."""
        posterior: Tensor = self(features).softmax(dim=-1)[..., 0]
        return posterior


@dataclass(frozen=True)
class FsmnConfig:
    """What a folder's `config.yaml` says: the network and its frontend, before any weights."""

    network: FsmnOptions
    fbank: FbankOptions
    lfr_m: int

    @property
    def left_context(self) -> int:
        """Fbank frames before a frame that its posterior depends on."""
        return self.network.left_context + self.lfr_left

    @property
    def right_context(self) -> int:
        """Fbank frames after a frame that its posterior depends on."""
        return self.network.right_context + self.lfr_m - 1 - self.lfr_left

    @property
    def lfr_left(self) -> int:
        """Frames that low-frame-rate stacking joins on the left."""
        return (self.lfr_m - 1) // 2


@dataclass(frozen=True)
class FsmnModel:
    """A loaded folder."""

    config: FsmnConfig
    network: Fsmn
    cmvn: Cmvn


def read_config(folder: ModelFolder) -> FsmnConfig:
    """Reads `config.yaml` alone. ModelError where the folder holds another kind of model."""
    config = folder.config()
    frontend = config.get("frontend_conf", {})
    if config.get("encoder") != "FSMN" or frontend.get("lfr_n", 1) != 1:
        raise ModelError(
            f"{printable(str(folder.path))}: not an FSMN-VAD with a posterior for every frame"
        )
    try:
        encoder = {field.name: config["encoder_conf"][field.name] for field in fields(FsmnOptions)}
        fbank = FbankOptions.from_yaml(frontend)
        return FsmnConfig(FsmnOptions(**encoder), fbank, frontend["lfr_m"])
    except KeyError as missing:
        raise ModelError(
            f"{printable(str(folder.path))}/config.yaml: {missing} is missing"
        ) from missing


def load_fsmn(folder: ModelFolder) -> FsmnModel:
    """Reads a folder in the published layout: `config.yaml`, `am.mvn` and the weights, whose
    names carry FunASR's prefix `encoder.`. ModelError where they do not fit each other."""
    config = read_config(folder)
    network = Fsmn(config.network)
    state = {name.removeprefix("encoder."): value for name, value in folder.state_dict().items()}
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ModelError(
            f"{printable(str(folder.path))}: the weights do not fit config.yaml"
        ) from error
    return FsmnModel(config, network.eval(), load_cmvn(folder.file("am.mvn")))
