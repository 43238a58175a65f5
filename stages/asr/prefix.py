"""CTC prefix beam search: the likeliest token sequence, summed over all its paths, which greedy
decoding only guesses from the likeliest path; and the frames of its tokens.

Sources: Graves et al., CTC (2006), section 3.2 (prefix search); Hannun et al., First-pass large
vocabulary continuous speech recognition (2014), algorithm 1, here without a language model.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from stages.asr.decoding import BLANK

Prefix = tuple[int, ...]

_LEAST = 1e-4  # tokens less likely than this in a frame extend no prefix there


def prefix_paths(
    log_probs: NDArray[np.float32], lengths: NDArray[np.int64], size: int
) -> NDArray[np.int64]:
    """For each row of log_probs float32 [B, T, V], lengths [B] in frames, the best alignment of
    its likeliest sequence: the token of every frame int64 [B, T], blank past the row's end.
    `size` prefixes survive a frame."""
    paths = np.full(log_probs.shape[:2], BLANK)
    for path, row, length in zip(paths, log_probs, lengths.tolist(), strict=True):
        tokens = likeliest(np.exp(row[:length].astype(np.float64)), size)
        path[:length] = align(row[:length], tokens)
    return paths


def likeliest(probs: NDArray[np.float64], size: int) -> Prefix:
    """The token sequence of the greatest total probability among those the beam keeps, from
    probs [T, V]."""
    # A prefix is a number: the prefix that it extends, and by which token. 0 is the empty one.
    extends, tokens, numbers = [0], [BLANK], dict[tuple[int, int], int]()
    # Of each prefix: the probability of its paths that end in a blank, and in its last token.
    beam: dict[int, tuple[float, float]] = {0: (1.0, 0.0)}
    for frame in probs:
        blank = float(frame[BLANK])
        likely = [(k, float(frame[k])) for k in np.flatnonzero(frame > _LEAST).tolist() if k]
        grown: defaultdict[int, list[float]] = defaultdict(lambda: [0.0, 0.0])
        for prefix, (silent, voiced) in beam.items():
            total, last = silent + voiced, tokens[prefix]
            grown[prefix][0] += total * blank
            if last != BLANK:
                grown[prefix][1] += voiced * float(frame[last])
            for token, prob in likely:
                longer = numbers.setdefault((prefix, token), len(tokens))
                if longer == len(tokens):
                    extends.append(prefix)
                    tokens.append(token)
                grown[longer][1] += prob * (silent if token == last else total)
        kept = sorted(grown.items(), key=lambda item: -sum(item[1]))[:size]
        scale = sum(kept[0][1])  # so that hours of frames stay within float's range
        beam = {prefix: (a / scale, b / scale) for prefix, (a, b) in kept}
    best = max(beam, key=lambda prefix: sum(beam[prefix]))
    sequence: list[int] = []
    while best:
        sequence.append(tokens[best])
        best = extends[best]
    return tuple(reversed(sequence))


def align(log_probs: NDArray[np.float32], tokens: Prefix) -> NDArray[np.int64]:
    """The best path [T] of log_probs [T, V] that says just `tokens` (Viterbi). The tokens must
    fit: as many frames as tokens, and one more for each token that repeats the one before."""
    states = np.full(2 * len(tokens) + 1, BLANK)
    states[1::2] = tokens
    # From two states back, past a blank, only to another token.
    skips = np.zeros(len(states), bool)
    skips[2:] = (states[2:] != BLANK) & (states[2:] != states[:-2])
    score = np.full(len(states), -np.inf)
    score[:1] = 0.0  # before the first frame: as after a blank
    steps = np.zeros((len(log_probs), len(states)), np.int64)
    for frame, row in enumerate(log_probs):
        before = np.append([-np.inf, -np.inf], score)
        options = np.stack([score, before[1:-1], np.where(skips, before[:-2], -np.inf)])
        steps[frame] = options.argmax(axis=0)
        score = options.max(axis=0) + row[states]
    state = len(states) - 1 - int(len(tokens) > 0 and score[-2] > score[-1])
    path = np.empty(len(log_probs), np.int64)
    for frame in reversed(range(len(log_probs))):
        path[frame] = states[state]
        state -= int(steps[frame, state])
    return path
