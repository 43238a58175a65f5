"""From an acoustic model's posteriors to words: one callable for each way of decoding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from stages.asr.decoding import FrameWord, along, found_words, words

if TYPE_CHECKING:
    from stages.asr.beam import BeamSearch

LogProbs = NDArray[np.float32]
Lengths = NDArray[np.int64]


class Decoder(Protocol):
    """log_probs float32 [B, T, V], lengths [B] in frames, to the words of each row."""

    def __call__(self, log_probs: LogProbs, lengths: Lengths) -> list[list[FrameWord]]: ...


@dataclass(frozen=True)
class LetterDecoder:
    """Words as the tokens spell them. `paths` gives the token of every frame int64 [B, T];
    `tail` are the frames that a last token may ring out."""

    paths: Callable[[LogProbs, Lengths], NDArray[np.int64]]
    vocabulary: Sequence[str]
    tail: int

    def __call__(self, log_probs: LogProbs, lengths: Lengths) -> list[list[FrameWord]]:
        rows = along(self.paths(log_probs, lengths), log_probs, self.vocabulary)
        return [words(row, self.vocabulary, self.tail) for row in rows]


@dataclass(frozen=True)
class PeakDecoder:
    """As `LetterDecoder`, with times as GigaAM has them: a token lasts for the one frame in which
    it first peaks, and no silence is part of a word."""

    paths: Callable[[LogProbs, Lengths], NDArray[np.int64]]
    vocabulary: Sequence[str]

    def __call__(self, log_probs: LogProbs, lengths: Lengths) -> list[list[FrameWord]]:
        rows = along(self.paths(log_probs, lengths), log_probs, self.vocabulary)
        peaks = [replace(row, ends=row.starts + 1) for row in rows]
        return [words(row, self.vocabulary, 0) for row in peaks]


@dataclass(frozen=True)
class LexiconDecoder:
    """Words of a lexicon, by their sound and a language model."""

    search: BeamSearch
    vocabulary: Sequence[str]
    tail: int

    def __call__(self, log_probs: LogProbs, lengths: Lengths) -> list[list[FrameWord]]:
        best = self.search.best_paths(log_probs, lengths)
        rows = along(best.tokens, log_probs, self.vocabulary)
        names, separator = self.search.model.words, self.search.lexicon.separator
        return [
            found_words(row, begins, names, separator, self.tail)
            for row, begins in zip(rows, best.words, strict=True)
        ]
