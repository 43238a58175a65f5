"""Overlapping windows of words, and how much the reading in each of them counts."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.punctuation.ct_transformer import CtTransformer

CONTEXT = 16  # words at a window's inner edges that the neighbouring window decides


@torch.inference_mode()
def read_windows(
    network: CtTransformer, words: Tensor, length: int, readings: int, batch_size: int
) -> tuple[Tensor, Tensor | None]:
    """Of words (their rows and classes of pauses, int64 [2, N], N >= 1, where the network is),
    each read in `readings` windows of at most `length`: mean log-probabilities of the marks [N, P]
    and of the cases [N, C] (None without a case head), on the CPU. With one reading, that of the
    deepest window alone."""
    count = words.shape[1]
    length = min(length, count)
    starts = window_starts(count, length, readings)
    shares = torch.from_numpy((by_depth if readings > 1 else deepest)(starts, length, count))
    windows = words.unfold(1, length, 1)[:, torch.from_numpy(starts).to(words.device)]
    marks, cases = [], []
    for rows, pauses in torch.split(windows, batch_size, dim=1):
        mark, case = network(rows, torch.full((len(rows),), length), pauses)
        marks.append(mark.log_softmax(dim=-1).cpu())
        cases += [] if case is None else [case.log_softmax(dim=-1).cpu()]

    def mean(scores: Tensor) -> Tensor:
        total = torch.zeros(count, scores.shape[-1])
        for start, weighted in zip(starts.tolist(), scores * shares[..., None], strict=True):
            total[start : start + length] += weighted
        return total

    return mean(torch.cat(marks)), mean(torch.cat(cases)) if cases else None


def window_starts(count: int, length: int, readings: int = 1) -> NDArray[np.int64]:
    """Starts of windows of `length` words over `count`; the last one ends with the recording.
    They overlap by twice CONTEXT (or half a window, if that is less), or so that words far from
    the recording's ends lie in `readings` windows.

    >>> window_starts(300, 128).tolist(), window_starts(300, 128, 2).tolist()
    ([0, 96, 172], [0, 64, 128, 172])
    """
    overlap = 2 * min(CONTEXT, length // 4)
    stride = max(1, length // readings if readings > 1 else length - overlap)
    return np.append(np.arange(0, count - length, stride), count - length)


def deepest(starts: NDArray[np.int64], length: int, count: int) -> NDArray[np.float32]:
    """What each window counts for each of its words, [W, length]: 1 for each of `count` words in
    the window in which it lies farthest from an inner edge, 0 in its others."""
    middles = (starts[1:] + starts[:-1] + length) // 2  # of each overlap
    words = np.arange(count)
    window = np.searchsorted(middles, words, side="right")
    shares = np.zeros((len(starts), length), np.float32)
    shares[window, words - starts[window]] = 1
    return shares


def by_depth(starts: NDArray[np.int64], length: int, count: int) -> NDArray[np.float32]:
    """The same where every window counts, the more the farther a word is from its edges: a mean
    over readings with more before the word, and with more after it."""
    depth = np.minimum(np.arange(1, length + 1), np.arange(length, 0, -1))
    total = np.zeros(count)
    words = starts[:, None] + np.arange(length)
    np.add.at(total, words, depth)
    shares: NDArray[np.float32] = (depth / total[words]).astype(np.float32)
    return shares
