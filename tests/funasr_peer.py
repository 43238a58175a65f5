"""The reference: FunASR itself, on a folder in the published layout.

It asks for many packages that these models have no use for: it is in requirements-dev.lock alone,
installed without dependencies, beside the few that it imports (kaldiio, lazy_loader, librosa).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray

from tests.peers import torchaudio

Samples = NDArray[np.float32]


def auto_model(folder: Path) -> Any:
    """FunASR's AutoModel of a folder."""
    torchaudio()
    from funasr import AutoModel

    return AutoModel(
        model=str(folder), device="cpu", disable_update=True, disable_pbar=True, ncpu=1
    )


class Recogniser:
    """A Paraformer, whose results are read before tokens are joined."""

    def __init__(self, folder: Path) -> None:
        self.model = auto_model(folder)

    def hear(self, samples: Samples, hotwords: str) -> list[Any]:
        """Tokens, and [start, end] of each in ms."""
        from funasr.models.paraformer import model as paraformer
        from funasr.utils import postprocess_utils as joining

        # Up to 1.4.16 the plain Paraformer passes the two in the other's place: FunASR issue
        # 3723, whose times are wrong.
        def in_order(first: Any, second: Any, *rest: Any, **more: Any) -> Any:
            return times(second.clone(), first.clone(), *rest, **more)

        times = paraformer.ts_prediction_lfr6_standard
        options = {"hotword": hotwords} if hotwords else {}
        with (
            mock.patch.object(paraformer, "ts_prediction_lfr6_standard", in_order),
            mock.patch.object(joining, "sentence_postprocess", lambda t, at: (t, at, t)),
        ):
            found = self.model.generate(
                input=torch.from_numpy(samples.copy()), output_timestamp=True, **options
            )
        if not found or not found[0]["text"]:
            return [[], []]
        return [found[0]["text"], found[0]["timestamp"]]

    @torch.inference_mode()
    def inside(self, samples: Samples) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Features [T, F], encoder output [T, D] and weights of the predictor [T + 1]."""
        from funasr.utils.load_utils import extract_fbank

        features, lengths = extract_fbank(
            [torch.from_numpy(samples.copy())],
            data_type="sound",
            frontend=self.model.kwargs["frontend"],
        )
        network = self.model.model
        encoded, lengths = network.encode(features, lengths)
        return features[0], encoded[0], network.calc_predictor(encoded, lengths)[2][0]


def marks(model: Any, words: Sequence[str]) -> list[int]:
    """The class of mark after each token of a CT-Transformer."""
    return [int(mark) for mark in model.generate(input=" ".join(words))[0]["punc_array"]]


def spellings(known: Sequence[str], count: int) -> list[list[str]]:
    """Random sequences of tokens in which every piece of a word is followed by another or by the
    word's end (what comes of others is Hansard's own)."""
    drawn = random.Random(5)
    ends = [token for token in known if token.isalpha() and token.isascii()]
    found = []
    for _ in range(count):
        tokens: list[str] = []
        while len(tokens) < 12 or "@@" in tokens[-1]:
            inside = bool(tokens) and "@@" in tokens[-1]
            tokens.append(drawn.choice(ends if inside else known))
        found.append(tokens)
    return found


def joined(tokens: Sequence[str]) -> list[Any]:
    """Words, and [start, end] of each, where token n lasts from 100 n to 100 n + 90 ms."""
    torchaudio()
    from funasr.utils.postprocess_utils import sentence_postprocess

    times = [[100 * at, 100 * at + 90] for at in range(len(tokens))]
    _, spans, words = sentence_postprocess(list(tokens), times)
    return [words, spans]
