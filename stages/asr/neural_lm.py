"""A recurrent language model of pieces of words, which goes on from many histories at once.

Source: Feng et al., Were RNNs all we needed? (2024), section 3.1 (minimal GRU), behind a
convolution over four pieces as in Gu and Dao, Mamba (2023), section 3.4; Shazeer, GLU variants
improve Transformer (2020); the last layer is the embedding (Press and Wolf, 2017).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from pipeline.errors import ModelError
from stages.models import ModelFolder
from stages.weightless import without_weights

PIECES = "pieces.model"  # SentencePiece's file in the model's folder
SENTENCE = 1  # the piece before a sentence, and after it
_REACH = 3  # pieces before the one that is read, in the convolution


@dataclass(frozen=True)
class NeuralLmSizes:
    """As in `config.yaml`."""

    pieces: int
    width: int
    hidden: int
    units: int
    layers: int


class State(NamedTuple):
    """What layers know of histories: `hidden` [B, L, H], and their last inputs [B, L, 3, D]."""

    hidden: Tensor
    inputs: Tensor


class Layer(nn.Module):
    """A minimal GRU, then a gated feed-forward layer, each beside a shortcut."""

    def __init__(self, sizes: NeuralLmSizes, dropout: float) -> None:
        super().__init__()
        width = sizes.width
        self.before = nn.RMSNorm(width)
        self.taps = nn.Parameter(torch.empty(_REACH + 1, width))
        self.gates = nn.Linear(width, 2 * sizes.hidden, bias=False)
        self.forget = nn.Parameter(torch.empty(sizes.hidden))
        self.back = nn.Linear(sizes.hidden, width, bias=False)
        self.between = nn.RMSNorm(width)
        self.up = nn.Linear(width, 2 * sizes.units, bias=False)
        self.down = nn.Linear(sizes.units, width, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, hidden: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x [B, T, D], hidden [B, H] and inputs [B, 3, D] before it; the same after it."""
        heard = torch.cat([inputs, self.before(x)], dim=1)
        mixed = (heard.unfold(1, _REACH + 1, 1) * self.taps.T).sum(dim=-1)
        update, proposed = self.gates(mixed).float().chunk(2, dim=-1)
        update = torch.sigmoid(update + self.forget)
        steps = []
        for new, share in zip(proposed.unbind(1), update.unbind(1), strict=True):
            hidden = torch.lerp(hidden, new, share)
            steps.append(hidden)
        x = x + self.dropout(self.back(torch.stack(steps, dim=1)))
        gate, value = self.up(self.between(x)).chunk(2, dim=-1)
        return x + self.dropout(self.down(silu(gate) * value)), hidden, heard[:, -_REACH:]


class NeuralLm(nn.Module):
    """Log probabilities of the next piece."""

    def __init__(self, sizes: NeuralLmSizes, dropout: float = 0.0) -> None:
        super().__init__()
        self.sizes = sizes
        self.embedding = nn.Embedding(sizes.pieces, sizes.width)
        self.layers = nn.ModuleList(Layer(sizes, dropout) for _ in range(sizes.layers))
        self.after = nn.RMSNorm(sizes.width)
        self.bias = nn.Parameter(torch.zeros(sizes.pieces))
        self.dropout = nn.Dropout(dropout)

    def nothing(self, count: int) -> State:
        """The state of `count` empty histories."""
        sizes = self.sizes
        return State(
            torch.zeros(count, sizes.layers, sizes.hidden),
            torch.zeros(count, sizes.layers, _REACH, sizes.width),
        )

    def forward(self, pieces: Tensor, state: State) -> tuple[Tensor, State]:
        """Pieces int64 [B, T] after the histories of `state`: logits of what follows each of them
        [B, T, V], and the state after them."""
        x = self.dropout(self.embedding(pieces) * math.sqrt(self.sizes.width))
        hidden, inputs = [], []
        for number, layer in enumerate(self.layers):
            x, last, heard = layer(x, state.hidden[:, number], state.inputs[:, number])
            hidden.append(last)
            inputs.append(heard)
        logits = self.after(x) @ self.embedding.weight.T + self.bias
        return logits, State(torch.stack(hidden, dim=1), torch.stack(inputs, dim=1))


def load_neural_lm(folder: ModelFolder) -> NeuralLm:
    """ModelError where the folder holds another kind of model."""
    config = folder.config()
    if config.get("model") != "NeuralLm":
        raise ModelError(f"{folder.path}: not a NeuralLm")
    try:
        with without_weights():
            network = NeuralLm(NeuralLmSizes(**config["sizes"]))
        network.load_state_dict(folder.state_dict(), assign=True)
    except (KeyError, TypeError, RuntimeError) as error:
        raise ModelError(f"{folder.path}: not a NeuralLm ({error})") from None
    return network.float().eval()
