"""CTC decoding: a path to text, tokens and frames together, and frames to words; and the greedy
path. `beam.py` finds a better one.

Source: Graves et al., CTC (2006), section 3.2 (best path); the result's shape follows GigaAM's
`decoding.py`: whoever has the text has its frames too, and no time is looked up again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

BLANK = 0
SPACE = " "


@dataclass(frozen=True)
class Decoded:
    """One segment. All arrays have one entry a token: its id, its first frame and the frame
    after its last one, and its best posterior in that run (by the sound alone, whichever path
    was taken). `text` is the joined tokens."""

    text: str
    tokens: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    posteriors: NDArray[np.float32]


@dataclass(frozen=True)
class FrameWord:
    """A word in frames of its segment, [start, end). `confidence`: the geometric mean of its
    tokens' posteriors, so that one doubtful letter counts however long the word is."""

    text: str
    start: int
    end: int
    confidence: float


def greedy(
    log_probs: NDArray[np.float32], lengths: NDArray[np.int64], vocabulary: Sequence[str]
) -> list[Decoded]:
    """The best token of every frame, repeats joined, blanks dropped. log_probs float32
    [B, T, V], lengths [B] in frames; frames past a length are not looked at."""
    best = log_probs.argmax(axis=-1)
    best[np.arange(best.shape[1])[None, :] >= lengths[:, None]] = BLANK
    return along(best, log_probs, vocabulary)


def along(
    best: NDArray[np.int64], log_probs: NDArray[np.float32], vocabulary: Sequence[str]
) -> list[Decoded]:
    """What a path says, repeats joined, blanks dropped. best [B, T]: the token of every frame,
    BLANK past a row's end; log_probs float32 [B, T, V]."""
    scores = np.exp(np.take_along_axis(log_probs, best[:, :, None], axis=-1)[:, :, 0])
    # A run starts where the token changes; the sentinel column ends a row's last run.
    edges = np.diff(best, axis=1, prepend=-1, append=-1) != 0
    rows, frames = np.nonzero(edges)
    first, after = frames[:-1], frames[1:]
    emitted = (rows[:-1] == rows[1:]) & (best[rows[:-1], first % best.shape[1]] != BLANK)
    rows, first, after = rows[:-1][emitted], first[emitted], after[emitted]
    tokens = best[rows, first]
    peaks = np.array(
        [scores[r, a:b].max() for r, a, b in zip(rows, first, after, strict=True)], np.float32
    )
    bounds = np.searchsorted(rows, np.arange(len(best) + 1))
    return [
        Decoded(
            "".join(vocabulary[token] for token in tokens[a:b]),
            tokens[a:b],
            first[a:b],
            after[a:b],
            peaks[a:b],
        )
        for a, b in pairwise(bounds)
    ]


def words(decoded: Decoded, vocabulary: Sequence[str], tail: int) -> list[FrameWord]:
    """Splits at the space token. A word starts at its first token's first frame and ends with
    its last token's run; of the blanks after that, at most `tail` frames are the last letter
    ringing out, the rest is silence and nobody's. The next word is never reached into."""
    found: list[FrameWord] = []
    letters = np.array([vocabulary[token] != SPACE for token in decoded.tokens], dtype=bool)
    edges = np.flatnonzero(np.diff(letters, prepend=False, append=False))
    for first, after in edges.reshape(-1, 2):
        following = decoded.starts[edges[edges > after][0]] if (edges > after).any() else None
        end = int(decoded.ends[after - 1]) + tail
        found.append(
            FrameWord(
                text="".join(vocabulary[token] for token in decoded.tokens[first:after]),
                start=int(decoded.starts[first]),
                end=end if following is None else min(end, int(following)),
                confidence=float(np.exp(np.log(decoded.posteriors[first:after]).mean())),
            )
        )
    return found
