"""Reads language models in the ARPA format, as KenLM's lmplz and SRILM write them.

Source: SRILM's ngram-format(5): logarithms to base ten, fields between tabs or spaces, a missing
back-off weight is 0.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.errors import ModelError
from stages.asr.ngram import NgramModel

_SPECIAL = ("<unk>", "<s>", "</s>")  # the first words of every NgramModel
_NEVER = -99.0  # what ARPA files write for the logarithm of 0

Gram = tuple[tuple[str, ...], float, float]


def read_arpa(path: Path) -> NgramModel:
    """A model of up to trigrams from an .arpa or .arpa.gz file. ModelError, with the line, where
    it is none."""
    grams: dict[int, list[Gram]] = {1: [], 2: [], 3: []}
    for words, score, backoff in _grams(path):
        grams[len(words)].append((words, score, backoff))
    if not grams[1]:
        raise ModelError(f"{path}: no 1-grams in it: not an ARPA file?")
    present = {words[0] for words, _, _ in grams[1]}
    grams[1] += [((name,), _NEVER, 0.0) for name in _SPECIAL if name not in present]
    ranked = {name: rank for rank, name in enumerate(_SPECIAL)}
    grams[1].sort(key=lambda gram: (ranked.get(gram[0][0], len(ranked)), gram[0]))
    ids = {words[0]: number for number, (words, _, _) in enumerate(grams[1])}

    for words, _, _ in grams[2] + grams[3]:
        if missing := [word for word in words if word not in ids]:
            raise ModelError(f"{path}: {' '.join(words)!r}: no 1-gram of {missing[0]!r}")

    pairs = {words: ids[words[0]] * len(ids) + ids[words[1]] for words, _, _ in grams[2]}
    grams[2].sort(key=lambda gram: pairs[gram[0]])
    places = {words: place for place, (words, _, _) in enumerate(grams[2])}
    triples = {
        words: places[words[:2]] * len(ids) + ids[words[2]]
        for words, _, _ in grams[3]
        if words[:2] in places  # else nothing leads there
    }
    thirds = sorted((gram for gram in grams[3] if gram[0] in triples), key=lambda g: triples[g[0]])
    return NgramModel(
        words=tuple(ids),
        unigram_scores=_natural(score for _, score, _ in grams[1]),
        bigrams=np.array([pairs[words] for words, _, _ in grams[2]], np.int64),
        bigram_scores=_natural(score for _, score, _ in grams[2]),
        trigrams=np.array([triples[words] for words, _, _ in thirds], np.int64),
        trigram_scores=_natural(score for _, score, _ in thirds),
        backoffs=_natural(backoff for _, _, backoff in grams[1] + grams[2]),
    )


def _natural(scores: Iterator[float]) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.fromiter((score * math.log(10) for score in scores), np.float32)


def _grams(path: Path) -> Iterator[Gram]:
    order = 0
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            fields = line.split()
            if not fields or fields[0] == "\\data\\" or fields[0] == "ngram":
                continue
            if fields[0].startswith("\\"):
                order = 0 if fields[0] == "\\end\\" else _order(path, number, fields[0])
            elif order:
                yield _gram(path, number, fields, order)


def _order(path: Path, number: int, heading: str) -> int:
    try:
        order = int(heading.strip("\\").removesuffix("-grams:"))
    except ValueError:
        raise ModelError(f"{path}:{number}: not a heading of an ARPA file: {heading}") from None
    if order > 3:
        raise ModelError(f"{path}:{number}: {order}-grams; the beam search takes up to 3-grams")
    return order


def _gram(path: Path, number: int, fields: list[str], order: int) -> Gram:
    try:
        score = float(fields[0])
        backoff = float(fields[order + 1]) if len(fields) > order + 1 else 0.0
    except ValueError:
        raise ModelError(f"{path}:{number}: not a {order}-gram of an ARPA file") from None
    if len(fields) not in (order + 1, order + 2):
        raise ModelError(f"{path}:{number}: not a {order}-gram of an ARPA file")
    return tuple(fields[1 : order + 1]), score, backoff
