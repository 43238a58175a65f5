"""CMU Sphinx's generic model of US English (BSD licence), in the words of ours, to be mixed with
models of our texts.

Source: PocketSphinx 5, src/lm: ngram_model_trie.c, lm_trie.c and lm_trie_quant.c, for the layout
of a .lm.bin file. Its own tools cannot write this one as ARPA: they stop at a count that is off.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.asr.ngram import BEGIN
from training.language_model_mix import Estimate, Floats, Ints, assembled

_MAGIC = b"Trie Language Model"
_TABLE = 1 << 16  # quantised scores are 16 bits
_NATURAL = np.log(1.0001)  # scores are logarithms to that base
_SPACE = 8  # bytes after an array of bits


class Trie(NamedTuple):
    """A trigram model stored back to front: under each last word the words before it. `pairs`
    int64 [N2, 2] are (word, word before), `triples` int64 [N3, 2] (number of the pair that ends
    them, word before that); scores are natural logarithms."""

    words: list[str]
    unigram: Floats
    pairs: Ints
    bigram: Floats
    triples: Ints
    trigram: Floats


def read_trie(path: Path) -> Trie:
    """ValueError where the file is no trigram model of this kind."""
    data = path.read_bytes()
    if not data.startswith(_MAGIC) or data[len(_MAGIC)] != 3:
        raise ValueError(f"{path}: not a trigram model of CMU Sphinx")
    at = len(_MAGIC) + 1
    counts = struct.unpack_from("<3I", data, at)
    at += 4 * 4  # the counts, and the kind of table
    tables = np.frombuffer(data, np.float32, 3 * _TABLE, at).reshape(3, _TABLE) * _NATURAL
    at += 3 * 4 * _TABLE
    entry = np.dtype([("score", "<f4"), ("backoff", "<f4"), ("next", "<u4")])
    unigrams = np.frombuffer(data, entry, counts[0] + 1, at)
    at += (counts[0] + 1) * entry.itemsize

    # A pair: a word, two scores and where its triples begin; a triple: a word and a score.
    word, after = (int(count).bit_length() for count in (counts[0], counts[2]))
    wide, narrow = word + 32 + after, word + 16
    sizes = [
        ((1 + n) * bits + 7) // 8 + _SPACE for n, bits in ((counts[1], wide), (counts[2], narrow))
    ]
    inner, outer = np.split(np.frombuffer(data, np.uint8, sum(sizes), at), sizes[:1])
    at += sum(sizes) + 4
    words = data[at:].decode().split("\0")[: counts[0]]

    last = np.repeat(np.arange(counts[0]), np.diff(unigrams["next"].astype(np.int64)))
    before, score, first = (
        _field(inner, counts[1], wide, *place)[: len(last)]  # the rest is not filled
        for place in ((0, word), (word + 16, 16), (word + 32, after))
    )
    pair = np.searchsorted(first, np.arange(counts[2]), side="right") - 1
    return Trie(
        words,
        unigrams["score"][:-1] * _NATURAL,
        np.stack([last, before], axis=1),
        tables[0][score],
        np.stack([pair, _field(outer, counts[2], narrow, 0, word)], axis=1),
        tables[2][_field(outer, counts[2], narrow, word, 16)],
    )


def _field(data: NDArray[np.uint8], count: int, stride: int, offset: int, width: int) -> Ints:
    """A field of `width` bits of each of `count` records of `stride` bits: int64 [count]."""
    bits = np.arange(count) * stride + offset
    eight = data[bits[:, None] // 8 + np.arange(8)].view("<u8")[:, 0]
    found: Ints = ((eight >> (bits % 8).astype(np.uint64)) & np.uint64((1 << width) - 1)).astype(
        np.int64
    )
    return found


def published(path: Path, words: tuple[str, ...], unseen: Floats) -> Estimate:
    """The model's n-grams of `words`; words that it lacks are shared out as `unseen` [V]. How
    often a history stands in its text is what the model itself makes of it."""
    trie = read_trie(path)
    size, ids = len(words), {word: index for index, word in enumerate(words)}
    ours = np.array([ids.get(word, -1) for word in trie.words])
    known = ours >= 0
    unigram = np.zeros(size)
    unigram[ours[known]] = np.exp(trie.unigram[known])
    unigram[BEGIN] = 0.0
    unigram += (1 - unigram.sum()) * unseen

    second, first = ours[trie.pairs].T
    keep = np.flatnonzero((first >= 0) & (second >= 0))
    keep = keep[np.argsort(first[keep] * size + second[keep])]
    pairs, bigram = first[keep] * size + second[keep], np.exp(trie.bigram[keep])

    # A triple hangs on the pair of its last two words; ours on that of its first two.
    third, middle = ours[trie.pairs[trie.triples[:, 0]]].T
    head = ours[trie.triples[:, 1]] * size + middle
    before = np.searchsorted(pairs, head).clip(max=len(pairs) - 1)
    good = np.flatnonzero((third >= 0) & (pairs[before] == head))
    triples = before[good] * size + third[good]
    order = np.argsort(triples)
    trigram = np.exp(trie.trigram[good[order]])
    frequencies = np.concatenate([unigram, unigram[pairs // size] * bigram])
    model = assembled(words, unigram, pairs, bigram, triples[order], trigram)
    return Estimate(model, frequencies)
