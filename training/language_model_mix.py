"""One n-gram model out of several: mixed linearly with weights that suit development text, then
pruned.

Sources: Jelinek and Mercer, Interpolated estimation of Markov source parameters (1980), for the
weights; Stolcke, Entropy-based pruning of backoff language models (1998).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.asr.ngram import BEGIN, END, UNKNOWN, NgramModel

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_ROUNDS = 100
_TOGETHER = 1_000_000  # n-grams scored at once


@dataclass(frozen=True)
class Estimate:
    """A model, and what share of the words of its text follow each history, [V + N2]: the
    histories are numbered as in the model."""

    model: NgramModel
    frequencies: Floats


def assembled(
    words: tuple[str, ...],
    unigram: Floats,
    pairs: Ints,
    bigram: Floats,
    triples: Ints,
    trigram: Floats,
) -> NgramModel:
    """The model of probabilities of some n-grams: back-off weights give every history the rest.
    `pairs` first * V + second and `triples` pair * V + third are sorted."""
    size = len(words)
    histories, seconds = np.divmod(pairs, size)
    after_word = _back_off(size, histories, bigram, unigram[seconds])
    scores = [np.log(p).astype(np.float32) for p in (unigram, bigram, trigram)]
    after_pair = np.zeros(len(pairs), np.float32)
    backoffs = np.concatenate([after_word.astype(np.float32), after_pair])
    model = NgramModel(words, scores[0], pairs, scores[1], triples, scores[2], backoffs)
    before, thirds = np.divmod(triples, size)
    lower = np.exp(model.score(seconds[before], thirds)[0].astype(float))
    backoffs[size:] = _back_off(len(pairs), before, trigram, lower)
    return model


def _back_off(size: int, history: Ints, kept: Floats, lower: Floats) -> Floats:
    """log back-off weights [size]: what the kept n-grams of a history leave over, shared out
    among the words that they do not name."""
    left = 1 - np.bincount(history, kept, size)
    unnamed = 1 - np.bincount(history, lower, size)
    weights: Floats = np.log(np.maximum(left, 1e-9) / np.maximum(unnamed, 1e-9))
    return weights


def probabilities(model: NgramModel, first: Ints, second: Ints, third: Ints) -> Floats:
    """P(third | first second), and P(third | BEGIN) where `second` is BEGIN: each [N]."""
    found = np.empty(len(third))
    for start in range(0, len(third), _TOGETHER):
        part = slice(start, start + _TOGETHER)
        after = np.where(second[part] == BEGIN, BEGIN, model.score(first[part], second[part])[1])
        found[part] = model.score(after, third[part])[0]
    np.exp(found, out=found)
    return found


def predicted(row: Ints) -> tuple[Ints, Ints, Ints]:
    """The known words and ENDs of a row of pieces, after the two words before each."""
    padded = np.concatenate([[END], row])
    first, second, third = padded[:-2], padded[1:-1], padded[2:]
    known = (third != BEGIN) & (third != UNKNOWN)
    return first[known], second[known], third[known]


def perplexity(model: NgramModel, row: Ints) -> float:
    """Of the known words and ENDs in a row of pieces."""
    return float(np.exp(-np.log(probabilities(model, *predicted(row))).mean()))


def mixing_weights(models: Sequence[NgramModel], development: Sequence[Ints]) -> Floats:
    """The weights [D] of the models under which rows of text are most probable; each row
    counts the same, however long."""
    shares: list[Floats] = []
    tables: list[Floats] = []
    for row in development:
        grams = predicted(row)
        tables.append(np.stack([probabilities(model, *grams) for model in models], axis=1))
        shares.append(np.full(len(grams[0]), 1 / len(grams[0]) / len(development)))
    table, share = np.concatenate(tables), np.concatenate(shares)
    weights = np.full(len(models), 1 / len(models))
    for _ in range(_ROUNDS):
        parts = table * weights
        weights = share @ (parts / parts.sum(axis=1, keepdims=True))
    return weights


def mix(estimates: Sequence[Estimate], weights: Floats) -> Estimate:
    """All n-grams of all models of the same words, with the weighted mean of what the models
    make of them."""
    models = [estimate.model for estimate in estimates]
    words = models[0].words
    size = len(words)
    pairs = np.unique(np.concatenate([model.bigrams for model in models]))
    triples = np.unique(np.concatenate([_triples(model, pairs) for model in models]))
    before, third = np.divmod(triples, size)
    first, second = np.divmod(pairs, size)
    unigram, bigram, trigram = np.zeros(size), np.zeros(len(pairs)), np.zeros(len(triples))
    frequencies = np.zeros(size + len(pairs))
    for estimate, weight in zip(estimates, weights, strict=True):
        model, shares = estimate.model, estimate.frequencies
        unigram += weight * np.exp(model.unigram_scores)
        bigram += weight * np.exp(model.score(first, second)[0])
        trigram += weight * probabilities(model, first[before], second[before], third)
        frequencies[:size] += weight * shares[:size]
        frequencies[size + np.searchsorted(pairs, model.bigrams)] += weight * shares[size:]
    return Estimate(assembled(words, unigram, pairs, bigram, triples, trigram), frequencies)


def _triples(model: NgramModel, pairs: Ints) -> Ints:
    """The trigrams of a model, their bigrams counted in `pairs`."""
    size = len(model.words)
    before, third = np.divmod(model.trigrams, size)
    return np.searchsorted(pairs, model.bigrams)[before] * size + third


def prune(estimate: Estimate, threshold: float) -> NgramModel:
    """Without the n-grams whose loss, each alone, raises the perplexity of the text by less
    than the share `threshold`."""
    model = estimate.model
    size = len(model.words)
    unigram, bigram, trigram = (
        np.exp(scores.astype(float))
        for scores in (model.unigram_scores, model.bigram_scores, model.trigram_scores)
    )
    first, second = np.divmod(model.bigrams, size)
    before, third = np.divmod(model.trigrams, size)
    lower = np.exp(model.score(second[before], third)[0].astype(float))
    shares = estimate.frequencies[size:]
    chosen = _loss(before, trigram, lower, shares) > np.log1p(threshold)
    keep = _loss(first, bigram, unigram[second], estimate.frequencies[:size]) > np.log1p(threshold)
    keep[before[chosen]] = True  # the histories of trigrams
    number = np.cumsum(keep) - 1
    triples = number[before[chosen]] * size + third[chosen]
    return assembled(
        model.words, unigram, model.bigrams[keep], bigram[keep], triples, trigram[chosen]
    )


def _loss(history: Ints, kept: Floats, lower: Floats, shares: Floats) -> Floats:
    """Stolcke's relative entropy between a model and the same without one of its n-grams, [N]:
    `kept` and `lower` are their probabilities and those of their shorter forms."""
    size = len(shares)
    left = np.maximum(1 - np.bincount(history, kept, size), 1e-9)[history]
    unnamed = np.maximum(1 - np.bincount(history, lower, size), 1e-9)[history]
    weight = np.log(left / unnamed)
    after = np.log((left + kept) / (unnamed + lower))
    lost: Floats = kept * (np.log(lower) + after - np.log(kept)) + left * (after - weight)
    return -shares[history] * lost
