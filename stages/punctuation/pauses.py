"""What the words' times say about marks: how long a speaker stayed at each word.

Counted from one word's beginning to the next one's, less what the word's letters usually take, so
that it does not matter where a recogniser (or an aligner) lets a word end. As classes of a
CT-Transformer's second embedding; the published models have none, and read words only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.records import Word

WORD_MS, LETTER_MS = 30, 55
"""A word takes WORD_MS and LETTER_MS for each letter: the medians of AMI's words inside of
sentences lie on that line."""

EDGES_MS = (
    *(-100, -50, 0, 50, 100, 150, 200, 250, 300),
    *(400, 500, 600, 800, 1000, 1500, 2000, 3000),
)
CLASSES = len(EDGES_MS) + 2
UNKNOWN = 0


def usual_ms(words: Sequence[str]) -> NDArray[np.int64]:
    """What each word usually takes, int64 [N]."""
    return np.array([WORD_MS + LETTER_MS * len(word) for word in words], np.int64)


def pause_classes(intervals: NDArray[np.int64], usual: NDArray[np.int64]) -> NDArray[np.int64]:
    """Class of the pause after each word, int64 [N] below CLASSES, from the ms between its
    beginning and the next one's; UNKNOWN where no time passes."""
    classes = 1 + np.digitize(intervals - usual, EDGES_MS)
    return np.where(intervals > 0, classes, UNKNOWN)


def intervals(words: Sequence[Word]) -> NDArray[np.int64]:
    """From each word's beginning to the next one's in ms, int64 [N]; 0 after the last."""
    starts = np.array([word.start for word in words], np.int64)
    return np.diff(starts, append=starts[-1:])
