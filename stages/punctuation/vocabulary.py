"""Words to embedding rows. A word outside the vocabulary shares a row with the words of its
ending (or gets `<unk>`, as in the published checkpoints), so that it is never simply dropped."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

UNKNOWN = "<unk>"
SUFFIX_LETTERS = 3
_DIGIT = re.compile(r"\d")


class Vocabulary:
    """`tokens` in the order of their rows; after them come `suffix_buckets` shared rows."""

    def __init__(self, tokens: Sequence[str], suffix_buckets: int = 0) -> None:
        self.tokens = tuple(tokens)
        self.suffix_buckets = suffix_buckets
        self._rows = {token: row for row, token in enumerate(self.tokens)}
        if not suffix_buckets and UNKNOWN not in self._rows:
            raise ValueError(f"a vocabulary without suffix buckets needs {UNKNOWN}")

    @classmethod
    def read(cls, path: Path, suffix_buckets: int) -> Vocabulary:
        """From `tokens.json`, a list of strings."""
        return cls(json.loads(path.read_text(encoding="utf-8")), suffix_buckets)

    def __len__(self) -> int:
        return len(self.tokens) + self.suffix_buckets

    def row(self, word: str) -> int:
        """The row of one word, whatever its case; digits count as one and the same digit
        where the word itself is not listed. A published vocabulary is taken at its word."""
        if not self.suffix_buckets:
            return self._rows.get(word, self._rows[UNKNOWN])
        key = word.lower()
        for known in (word, key, shape(key)):
            if known in self._rows:
                return self._rows[known]
        return self.fallback(key)

    def fallback(self, word: str) -> int:
        """The row that a lower-case `word` has as an unknown one, with suffix buckets."""
        ending = shape(word)[-SUFFIX_LETTERS:].encode()
        return len(self.tokens) + zlib.crc32(ending) % self.suffix_buckets

    def rows(self, words: Sequence[str]) -> NDArray[np.int64]:
        """int64 [N]. Each distinct word is looked up once."""
        known = {word: self.row(word) for word in set(words)}
        return np.fromiter((known[word] for word in words), np.int64, len(words))


def shape(word: str) -> str:
    """Every digit as 0.

    >>> shape("b52")
    'b00'
    """
    return _DIGIT.sub("0", word)
