"""From scores of marks to sentences: pauses and the longest allowed sentence end sentences
besides the marks themselves. All arrays are over the words of one recording."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

ASCII = {"\uff0c": ",", "\u3001": ",", "\u3002": ".", "\uff1f": "?", "\uff01": "!"}
ENDS = frozenset(".?!")
VISIBLE = ENDS | {","}


class MarkSet:
    """The classes of a model's punctuation head: what is written, and what ends a sentence.
    ValueError where none of them does."""

    def __init__(self, symbols: Sequence[str]) -> None:
        self.ascii = [ASCII.get(symbol, symbol) for symbol in symbols]
        self.symbols = list(symbols)
        self.is_end = np.array([symbol in ENDS for symbol in self.ascii])
        self.is_mark = np.array([symbol in VISIBLE for symbol in self.ascii])
        self.ends = np.flatnonzero(self.is_end)
        if not len(self.ends):
            raise ValueError(f"no mark that ends a sentence in {list(symbols)}")

    def after(self, word: str, mark: int) -> str:
        """What is written after `word`: full-width marks only follow full-width letters."""
        if not self.is_mark[mark]:
            return ""
        return self.ascii[mark] if word[-1:].isascii() else self.symbols[mark]


def decide(
    scores: NDArray[np.float32], pauses: NDArray[np.bool_], max_words: int, marks: MarkSet
) -> NDArray[np.intp]:
    """The class of mark after each word, int [N].

    `scores` [N, P] are log-probabilities, `pauses` bool [N] says where a sentence has to end.
    The last word ends one too. A sentence of more than `max_words` is cut where a mark is
    likeliest, at least a quarter of `max_words` from both its ends.
    """
    chosen: NDArray[np.intp] = scores.argmax(axis=1)
    ending = marks.ends[scores[:, marks.ends].argmax(axis=1)]
    forced = pauses.copy()
    forced[-1] = True
    forced &= ~marks.is_end[chosen]
    chosen[forced] = ending[forced]

    marked = np.logaddexp.reduce(scores[:, marks.is_mark], axis=1)
    margin = max(1, max_words // 4)
    bounds = np.concatenate([[0], np.flatnonzero(marks.is_end[chosen]) + 1])
    long = np.flatnonzero(np.diff(bounds) > max_words)
    open_sentences = [(int(bounds[i]), int(bounds[i + 1])) for i in long]
    while open_sentences:
        start, end = open_sentences.pop()
        if end - start <= max_words:
            continue
        inside = slice(start + margin - 1, end - margin)
        cut = inside.start + int(marked[inside].argmax())
        chosen[cut] = ending[cut]
        open_sentences += [(start, cut + 1), (cut + 1, end)]
    return chosen
