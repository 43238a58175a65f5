"""SeACo: hotwords that a recogniser should expect. They are encoded once, every token attends to
them, and where one of them is heard its tokens take the place of what was recognised.

Source: Shi et al., SeACo-Paraformer (ICASSP 2024), section 3; the filter is its section 3.3.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from stages.asr.paraformer_decoder import DecoderSizes, ParaformerDecoder

_KEPT = 50  # hotwords that a segment attends to at most: those that it attends to most
_BY_CHARACTER = re.compile(r"[一-龥0-9]+")


@dataclass(frozen=True)
class SeacoSizes:
    """Under FunASR's names; `no_bias` is the token that says that no hotword is heard."""

    inner_dim: int
    no_bias: int
    decoder: DecoderSizes
    vocab_size: int

    @classmethod
    def from_yaml(cls, config: Mapping[str, Any], tokens: int) -> SeacoSizes:
        """Of a config.yaml. KeyError where a key is missing, ValueError for a variant that no
        published model has."""
        model = {**config, **config.get("model_conf", {})}
        if model.get("bias_encoder_type", "lstm") != "lstm" or model.get("bias_encoder_bid"):
            raise ValueError("bias_encoder_type: a one-way lstm expected")
        if config["seaco_decoder"] != "ParaformerSANMDecoder":
            raise ValueError(f"seaco_decoder {config['seaco_decoder']}")
        size = model["inner_dim"]
        decoder = DecoderSizes.from_yaml(config["seaco_decoder_conf"], size, vocab_size=0)
        return cls(size, model.get("NO_BIAS", 8377), decoder, tokens)


class HotwordBias(nn.Module):
    """The part of SeACo-Paraformer that a plain Paraformer lacks."""

    def __init__(self, sizes: SeacoSizes) -> None:
        super().__init__()
        size = sizes.inner_dim
        self.no_bias = sizes.no_bias
        self.bias_encoder = nn.LSTM(size, size, num_layers=2, batch_first=True)
        self.seaco_decoder = ParaformerDecoder(sizes.decoder)
        self.hotword_output_layer = nn.Linear(size, sizes.vocab_size)

    def represent(self, embed: nn.Module, hotwords: Sequence[Sequence[int]], start: int) -> Tensor:
        """Each hotword as a vector, by token ids and the decoder's embedding; the last stands
        for none of them (the token `start` alone): [N + 1, D]."""
        rows = [torch.tensor(list(word)) for word in (*hotwords, [start])]
        device = self.hotword_output_layer.weight.device
        padded = nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device)
        lengths = torch.tensor([len(row) for row in rows])
        spelt = embed(padded).float()
        packed = pack_padded_sequence(spelt, lengths, batch_first=True, enforce_sorted=False)
        last: Tensor = self.bias_encoder(packed)[1][0][-1]
        return last

    def forward(
        self, scores: Tensor, embedded: Tensor, hidden: Tensor, counts: Tensor, hotwords: Tensor
    ) -> Tensor:
        """Log-probabilities [B, K, V], with those of hotwords where one is heard. `embedded` and
        `hidden` [B, K, D] go into and come out of the decoder; `hotwords` [N + 1, D]."""
        known = hotwords.expand(len(scores), -1, -1)
        if known.shape[1] > _KEPT:
            known = self._likeliest(known, hidden, counts)
        lengths = torch.full_like(counts, known.shape[1])
        heard = self.seaco_decoder(embedded, counts, known, lengths)
        heard = heard + self.seaco_decoder(hidden, counts, known, lengths)
        biased = self.hotword_output_layer(heard).float().log_softmax(dim=-1)
        silent = biased.argmax(dim=-1, keepdim=True) == self.no_bias
        return torch.where(silent, scores, biased)

    def _likeliest(self, known: Tensor, hidden: Tensor, counts: Tensor) -> Tensor:
        """Of [B, N + 1, D] those that each row attends to most, and the last: [B, 51, D]."""
        lengths = torch.full_like(counts, known.shape[1])
        attended = self.seaco_decoder.attention(hidden, counts, known, lengths)
        best = attended.topk(_KEPT, dim=1).indices
        last = torch.full_like(best[:, :1], known.shape[1] - 1)
        chosen = torch.cat([best, last], dim=1)
        return known.gather(1, chosen[..., None].expand(-1, -1, known.shape[2]))


@dataclass(frozen=True)
class Spelling:
    """How a model spells words: its tokens' ids, and `seg_dict`, the tokens of known words."""

    ids: Mapping[str, int]
    pieces: Mapping[str, tuple[str, ...]]

    def tokens(self, hotword: str) -> list[int] | None:
        """The ids of a hotword; None where the model has no token for a part of it."""
        found: list[int] = []
        for word in hotword.lower().split():
            for part in self._parts(word):
                if part not in self.ids:
                    return None
                found.append(self.ids[part])
        return found or None

    def _parts(self, word: str) -> list[str]:
        if word in self.pieces:
            return list(self.pieces[word])
        if not _BY_CHARACTER.fullmatch(word):
            return [word]
        return [part for character in word for part in self.pieces.get(character, (character,))]


def read_seg_dict(path: Path) -> dict[str, tuple[str, ...]]:
    """`seg_dict`: a word and its tokens a line. Empty where the model has none."""
    if not path.is_file():
        return {}
    lines = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
    return {line[0]: tuple(line[1:]) for line in lines if len(line) > 1}
