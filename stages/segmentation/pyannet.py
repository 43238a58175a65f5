"""PyanNet: who of up to three local speakers is heard in each frame of some ten seconds.

Source: Bredin, pyannote.audio 2.1 (2023); Plaquet and Bredin, Powerset multi-class cross entropy
loss for neural speaker diarization (2023), https://arxiv.org/abs/2310.13025. Parameter names are
those of pyannote/segmentation-3.0, so that its checkpoint loads unchanged. The bundled network
has the same recurrent layers and the same powerset, behind log-mel features instead of SincNet.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from stages.segmentation.log_mel import LogMelFront
from stages.segmentation.sincnet import SincNet

CHUNK_MS = 10_000


@dataclass(frozen=True)
class PyanNetSizes:
    """The defaults are those of segmentation-3.0. `log_mel`: channels of the front end that
    stands in for SincNet, 0 for SincNet itself."""

    lstm_hidden: int = 128
    lstm_layers: int = 4
    linear_hidden: int = 128
    linear_layers: int = 2
    speakers: int = 3
    log_mel: int = 0


class Powerset:
    """Classes that stand for sets of local speakers, smallest sets first: nobody, each of
    `speakers`, each pair of them."""

    at_once: ClassVar[int] = 2

    def __init__(self, speakers: int) -> None:
        self.speakers = speakers
        self.sets = [
            members
            for size in range(self.at_once + 1)
            for members in combinations(range(speakers), size)
        ]
        self.mapping = torch.zeros(len(self.sets), speakers)
        for row, members in enumerate(self.sets):
            self.mapping[row, list(members)] = 1.0

    def __len__(self) -> int:
        return len(self.sets)

    @property
    def sizes(self) -> Tensor:
        """How many speakers each class stands for; float32 [classes]."""
        return self.mapping.sum(dim=1)


class PyanNet(nn.Module):
    """Waveforms [B, T] at 16 kHz, full scale 1.0, to log-probabilities [B, F, classes]."""

    def __init__(self, sizes: PyanNetSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.powerset = Powerset(sizes.speakers)
        features = SincNet.features
        if sizes.log_mel:
            self.log_mel = LogMelFront(sizes.log_mel)
            features = sizes.log_mel
        else:
            self.sincnet = SincNet()
        self.lstm = nn.LSTM(
            features, sizes.lstm_hidden, sizes.lstm_layers, batch_first=True, bidirectional=True
        )
        widths = [2 * sizes.lstm_hidden, *[sizes.linear_hidden] * sizes.linear_layers]
        self.linear = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise(widths))
        self.classifier = nn.Linear(widths[-1], len(self.powerset))

    @property
    def front(self) -> SincNet | LogMelFront:
        """What turns samples into features, and says when its frames are."""
        return self.log_mel if self.sizes.log_mel else self.sincnet

    def forward(self, waveforms: Tensor) -> Tensor:
        hidden, _ = self.lstm(self.front(waveforms))
        for linear in self.linear:
            hidden = nn.functional.leaky_relu(linear(hidden))
        return torch.log_softmax(self.classifier(hidden), dim=-1)
