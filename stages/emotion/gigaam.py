"""GigaAM-Emo: how likely each turn sounds angry, sad, neutral or positive. The encoder is that of
GigaAM recognition, version 1; its output is averaged over a piece and classified.

Source: the `gigaam` package (`GigaAMEmo`), to which the results are equal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from pipeline.errors import ModelError, printable
from pipeline.stage import SAMPLE_RATE, Inputs
from stages.asr.gigaam import GigaAm, loaded, read_options
from stages.asr.gigaam_checkpoint import GigaAmCheckpoint, read_checkpoint, read_config
from stages.audio.cutting import Cut, bucketed, cut, pad
from stages.compute import NetworkParameters
from stages.emotion.turns import Tagged, TaggingParameters, TurnTagging
from stages.models import ModelFolder, WithNetwork


class GigaAmEmotionParameters(TaggingParameters, NetworkParameters):
    """Parameters of GigaAM-Emo."""

    speed_only: ClassVar[frozenset[str]] = NetworkParameters.speed_only | {"batch_seconds"}

    model: str = Field(
        "https://cdn.chatwm.opensmodel.sberdevices.ru/GigaAM/emo.ckpt",
        description="https://..., hub:OWNER/NAME@REVISION, or a folder with the .ckpt",
    )
    longest_ms: int = Field(20_000, ge=500, description="longer speech is tagged in pieces, in ms")
    batch_seconds: int = Field(
        30, ge=1, description="audio that one thread tags at once, padding included"
    )


class GigaAmEmo(nn.Module):
    """Waveforms to the probabilities of the classes. Rows do not depend on each other."""

    def __init__(self, acoustic: GigaAm, head: nn.Linear) -> None:
        super().__init__()
        self.acoustic = acoustic
        self.head = head

    @classmethod
    def read(cls, folder: ModelFolder) -> GigaAmEmo:
        """ModelError where the folder holds something else than a GigaAM-Emo."""
        checkpoint = read_checkpoint(folder)
        acoustic = loaded(lambda: GigaAm(*read_options(checkpoint)), checkpoint)
        head = _read_head(checkpoint, len(class_names(folder)))
        return cls(acoustic, head).eval()

    @torch.inference_mode()
    def forward(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        """Waveforms float32 [B, T], lengths [B] in samples, to float32 [B, classes]."""
        device = self.head.weight.device
        encoded, frames = self.acoustic(waveforms.to(device), lengths.to(device))
        at = torch.arange(encoded.shape[1], device=encoded.device)
        encoded = encoded.masked_fill((at[None, :] >= frames[:, None])[..., None], 0.0)
        probabilities: Tensor = self.head(encoded.sum(dim=1) / frames[:, None]).softmax(dim=-1)
        return probabilities


def _read_head(checkpoint: GigaAmCheckpoint, classes: int) -> nn.Linear:
    """The one linear layer of the head, whatever it is called inside the head."""
    parts = {k: v for k, v in checkpoint.state.items() if k.startswith("head.")}
    weights = [value for name, value in parts.items() if name.endswith("weight")]
    biases = [value for name, value in parts.items() if name.endswith("bias")]
    if len(weights) != 1 or len(biases) != 1 or len(weights[0]) != classes:
        raise ModelError(
            f"{printable(str(checkpoint.folder))}: not a GigaAM-Emo: its head is not one linear "
            f"layer of {classes} classes"
        )
    matrix = weights[0].flatten(1)
    head = nn.Linear(matrix.shape[1], classes)
    head.load_state_dict({"weight": matrix, "bias": biases[0]})
    return head


def class_names(folder: ModelFolder) -> Sequence[str]:
    """`cfg.id2name` in order; ModelError where there is none."""
    config: Mapping[str, Any] = read_config(folder)
    named = config.get("id2name")
    if isinstance(named, Mapping):
        return [str(named[key]) for key in sorted(named, key=int)]
    if isinstance(named, Sequence) and named:
        return [str(name) for name in named]
    raise ModelError(f"{printable(str(folder.path))}: no id2name in its cfg: not a GigaAM-Emo")


class GigaAmEmotion(WithNetwork, TurnTagging[GigaAmEmotionParameters]):
    """Pieces of similar length are tagged together."""

    version = 1
    parameters_type = GigaAmEmotionParameters

    _network: GigaAmEmo | None = None

    def labels(self) -> Sequence[str]:
        return class_names(self.folder)

    def load(self) -> None:
        self._network = GigaAmEmo.read(self.folder).to(self.device)

    def batches(self, inputs: Inputs) -> Iterator[list[Cut]]:
        spans = [piece.span for piece in self.pieces(inputs)]
        # The audio may end before the last turn does.
        heard = (found for found in cut(inputs.audio, spans) if len(found[1]))
        yield from bucketed(heard, self.parameters.batch_seconds * SAMPLE_RATE)

    def compute(self, batch: list[Cut]) -> list[Tagged]:
        if self._network is None:
            raise RuntimeError("the stage has no weights yet: call load() first")
        found: NDArray[np.float32] = self._network(*pad(batch)).cpu().numpy()
        return [Tagged(piece, row) for (piece, _), row in zip(batch, found, strict=True)]
