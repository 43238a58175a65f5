"""CTC decoding: a path to text, tokens and frames together, and frames to words; and the greedy
path. `prefix.py` and `beam.py` find better ones.

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
WORD_START = "\u2581"


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


def greedy(log_probs: NDArray[np.float32], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The best token of every frame: int64 [B, T], of log_probs float32 [B, T, V], lengths [B]
    in frames; blank past a length."""
    best: NDArray[np.int64] = log_probs.argmax(axis=-1)
    best[np.arange(best.shape[1])[None, :] >= lengths[:, None]] = BLANK
    return best


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
    """Splits at the space token, which is part of no word, and before tokens that begin with
    WORD_START (SentencePiece's pieces). `tail` as in `timed`."""
    pieces = [vocabulary[token] for token in decoded.tokens]
    inside = np.array([piece != SPACE for piece in pieces], dtype=bool)
    marked = np.array([piece.startswith(WORD_START) for piece in pieces], dtype=bool)
    begins = inside & (marked | ~np.concatenate([[False], inside[:-1]]))
    first = np.flatnonzero(begins)
    bounds = np.append(np.flatnonzero(begins | ~inside), len(pieces))
    after = bounds[np.searchsorted(bounds, first, side="right")]
    runs = np.stack([first, after], axis=1)
    texts = ["".join(pieces[a:b]).replace(WORD_START, "") for a, b in runs]
    written = np.array([bool(text) for text in texts], dtype=bool)
    return timed(decoded, [text for text in texts if text], runs[written], tail)


def found_words(
    decoded: Decoded, begins: NDArray[np.int64], names: Sequence[str], separator: int, tail: int
) -> list[FrameWord]:
    """The words of a path through a lexicon. begins int64 [T]: the number, in `names`, of the
    word that begins in a frame, or -1. `separator`: a token that is part of no word."""
    frames = np.flatnonzero(begins >= 0)
    if len(frames) == 0:
        return []
    sounds = np.flatnonzero(decoded.tokens != separator)
    first = np.searchsorted(decoded.starts[sounds], frames)
    last = np.append(first[1:], len(sounds)) - 1
    texts = [names[number] for number in begins[frames]]
    return timed(decoded, texts, np.stack([sounds[first], sounds[last] + 1], axis=1), tail)


def timed(
    decoded: Decoded, texts: Sequence[str], runs: NDArray[np.int64], tail: int
) -> list[FrameWord]:
    """Words from their tokens, runs [N, 2] (first, after the last). A word starts at its first
    token's first frame and ends with its last token's run; of the blanks after that, at most
    `tail` frames are the last sound ringing out, the rest is silence and nobody's. The next
    word is never reached into."""
    starts, ends = decoded.starts[runs[:, 0]].tolist(), decoded.ends[runs[:, 1] - 1].tolist()
    limits = [*starts[1:], ends[-1] + tail] if ends else []
    found: list[FrameWord] = []
    for text, (first, after), start, end, limit in zip(
        texts, runs.tolist(), starts, ends, limits, strict=True
    ):
        confidence = float(np.exp(np.log(decoded.posteriors[first:after]).mean()))
        found.append(FrameWord(text, start, min(end + tail, limit), confidence))
    return found
