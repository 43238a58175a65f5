"""The bundled emotion model: standardised functionals, one linear layer, calibrated softmax."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.errors import ModelError, printable
from stages.emotion.features import functionals
from stages.models import ModelFolder

LARGEST = 4.0
"""Standard deviations beyond which a descriptor says nothing more: unlike any training data."""


class EmotionHead(nn.Module):
    """Functionals [B, D] to probabilities [B, classes]; `labels` name the classes."""

    def __init__(self, labels: Sequence[str], dim: int) -> None:
        super().__init__()
        self.labels = tuple(labels)
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))
        self.linear = nn.Linear(dim, len(self.labels))

    def forward(self, vectors: Tensor) -> Tensor:
        standardised = ((vectors - self.mean) / self.scale).clamp(-LARGEST, LARGEST)
        probabilities: Tensor = self.linear(standardised).softmax(dim=-1)
        return probabilities

    @torch.inference_mode()
    def probabilities(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of one piece of speech, [n] at 16 kHz: float32 [classes]. Each piece is looked at by
        itself, so that no result depends on what it is computed together with."""
        result: NDArray[np.float32] = self(torch.from_numpy(functionals(samples))).numpy()
        return result


def load_head(folder: ModelFolder) -> EmotionHead:
    """The head that `training/emotion.py` wrote; ModelError where it is something else."""
    config, state = folder.config(), folder.state_dict()
    if config.get("model") != "EmotionHead" or "linear.weight" not in state:
        raise ModelError(f"{printable(str(folder.path))}: not an emotion model of Hansard's")
    head = EmotionHead(config["labels"], dim=state["linear.weight"].shape[1])
    head.load_state_dict(state)
    return head.eval()
