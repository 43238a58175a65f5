"""A word trigram with back-off, looked up for whole arrays of histories and words at once.

Source: Katz (1987) for backing off; estimated by `training/language_model.py` with Chen and
Goodman's modified Kneser-Ney smoothing (1999, section 3).
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from pipeline.errors import ModelError
from stages.models import ModelFolder

UNKNOWN, BEGIN, END = 0, 1, 2  # the first three words of every vocabulary

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class NgramModel:
    """V words, N2 bigrams and N3 trigrams; probabilities are natural logarithms.

    A history is an int: v < V is "after word v", V + b "after the two words of bigram b".
    `bigrams` int64 [N2] are first * V + second, `trigrams` int64 [N3] bigram * V + third,
    both sorted. `backoffs` float32 [V + N2] by history; `unigram_scores` float32 [V] and so on.
    """

    words: tuple[str, ...]
    unigram_scores: Floats
    bigrams: Ints
    bigram_scores: Floats
    trigrams: Ints
    trigram_scores: Floats
    backoffs: Floats

    @classmethod
    def read(cls, folder: ModelFolder) -> NgramModel:
        """From a model folder: `words.json`, and `model.safetensors` with what follows each
        word and each bigram as counts, successors and scores. ModelError for other folders."""
        if folder.config().get("model") != "NgramModel":
            raise ModelError(f"{folder.path}: not an NgramModel")
        words = tuple(json.loads(folder.file("words.json").read_text()))
        stored = load_file(folder.file("model.safetensors"))
        return cls(
            words,
            stored["unigram_scores"].astype(np.float32),
            _keys(stored["bigram_counts"], stored["bigram_words"], len(words)),
            stored["bigram_scores"].astype(np.float32),
            _keys(stored["trigram_counts"], stored["trigram_words"], len(words)),
            stored["trigram_scores"].astype(np.float32),
            stored["backoffs"].astype(np.float32),
        )

    def score(self, histories: Ints, words: Ints) -> tuple[Floats, Ints]:
        """log P(word | history) float32 [N] and the histories after the words [N], for arrays
        int64 [N] of each."""
        size = len(self.words)
        longer = histories >= size
        pair = np.where(longer, histories - size, 0)
        third, found = _find(self.trigrams, pair * size + words)
        last = np.where(longer, self.bigrams[pair] % size, histories)
        second, known = _find(self.bigrams, last * size + words)
        scores = np.where(
            known,
            self.bigram_scores[second],
            self.backoffs[last] + self.unigram_scores[words],
        )
        backed = scores + np.where(longer, self.backoffs[histories], np.float32(0))
        scores = np.where(longer & found, self.trigram_scores[third], backed)
        return scores, np.where(known, size + second, words)


def _keys(counts: NDArray[np.uint32], words: NDArray[np.uint16], size: int) -> Ints:
    """Sorted keys first * size + second, from how many successors each first has."""
    return np.repeat(np.arange(len(counts)), counts) * size + words


def _find(keys: Ints, wanted: Ints) -> tuple[Ints, NDArray[np.bool_]]:
    """Where each wanted key is among sorted `keys`, and whether it is there."""
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return at, keys[at] == wanted
