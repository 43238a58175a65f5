"""Prefix beam search and alignment, held against the enumeration of every path."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from itertools import groupby, product

import numpy as np
import pytest
from numpy.typing import NDArray

from stages.asr.decoders import LetterDecoder
from stages.asr.prefix import align, likeliest, prefix_paths


def drawn(frames: int, size: int, seed: int) -> NDArray[np.float64]:
    logits = np.random.default_rng(seed).normal(0, 1.5, (frames, size))
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def sequence(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(token for token, _ in groupby(path) if token)


def enumerated(probs: NDArray[np.float64]) -> dict[tuple[int, ...], dict[tuple[int, ...], float]]:
    """Every path's probability, by the sequence that it says."""
    found: defaultdict[tuple[int, ...], dict[tuple[int, ...], float]] = defaultdict(dict)
    for path in product(range(probs.shape[1]), repeat=len(probs)):
        found[sequence(path)][path] = float(np.prod(probs[np.arange(len(probs)), path]))
    return found


@pytest.mark.parametrize("seed", range(12))
def test_the_likeliest_sequence_is_found(seed: int) -> None:
    probs = drawn(6, 4, seed)
    every = enumerated(probs)
    assert likeliest(probs, size=200) == max(every, key=lambda said: sum(every[said].values()))


@pytest.mark.parametrize("seed", range(12))
def test_alignment_is_the_best_path_of_its_sequence(seed: int) -> None:
    probs = drawn(6, 3, seed)
    for said, paths in enumerated(probs).items():
        found = align(np.log(probs).astype(np.float32), said)
        assert tuple(found.tolist()) == max(paths, key=paths.__getitem__)


def test_many_weak_paths_outweigh_the_best_one() -> None:
    """Greedy decoding hears nothing here: blank is the best token of both frames."""
    probs = np.array([[0.6, 0.4], [0.6, 0.4]])
    assert likeliest(probs, size=8) == (1,)


def test_words_of_a_batch_have_times_and_silence_has_none() -> None:
    vocabulary = ("<blank>", " ", "a", "b")
    ids = [[2, 2, 0, 1, 3, 0, 3, 0], [0, 0, 0, 0, 0, 0, 0, 0]]
    probs = np.full((2, 8, 4), 0.01)
    for row, tokens in zip(probs, ids, strict=True):
        row[np.arange(8), tokens] = 0.97
    log_probs = np.log(probs).astype(np.float32)
    decoder = LetterDecoder(partial(prefix_paths, size=8), vocabulary, tail=1)
    first, second = decoder(log_probs, np.array([7, 3]))
    assert [(word.text, word.start, word.end) for word in first] == [("a", 0, 3), ("bb", 4, 8)]
    assert second == []


def test_ten_minutes_of_frames_stay_in_range() -> None:
    probs = np.tile(drawn(50, 5, 1), (300, 1))
    assert len(likeliest(probs, size=2)) > 1000
