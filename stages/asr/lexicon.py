"""The words that a beam search may spell, as a tree of letters, and beside it a letter model
that spells every other word (a name, say) at the price of its unlikely letters.

Source: Ney and Ortmanns, Progress in dynamic programming search (2000), section IV: tree
lexicon with language model look-ahead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ModelError
from stages.asr.decoding import BLANK, SPACE
from stages.asr.ngram import UNKNOWN, Floats, Ints, NgramModel

ROOT = 0
NO_NODE = NO_WORD = -1
_SMOOTHING = 5.0  # occurrences that the letter model's shorter history counts for


@dataclass(frozen=True)
class Lexicon:
    """N nodes over V tokens. Node ROOT begins known words, `spelling` unknown ones.

    `children` int64 [N, V]: the node after a token, or NO_NODE. `arcs` float32 [N, V]: what
    following it adds to log P: a share of the best word still ahead, or a letter's own.
    `words` int64 [N]: the word that may end here, or NO_WORD; `closing` float32 [N]: what is
    added then, besides log P(word), so that a known word has paid log P(word) in all.
    `letters` int64 [N]: the token that led here; for the two roots the space.
    """

    children: Ints
    arcs: Floats
    words: Ints
    closing: Floats
    letters: Ints
    spelling: int
    space: int

    @classmethod
    def build(cls, model: NgramModel, vocabulary: Sequence[str]) -> Lexicon:
        """Of the model's words that can be written with the vocabulary's letters. ModelError
        where the vocabulary has no space: it is not one of letters."""
        ids = {token: index for index, token in enumerate(vocabulary) if len(token) == 1}
        if SPACE not in ids:
            raise ModelError("decoder beam needs an acoustic model of letters and a space token")
        space = ids.pop(SPACE)
        known = [n for n, word in enumerate(model.words) if all(c in ids for c in word)]
        longest = max(len(model.words[n]) for n in known)
        rows = [[ids[c] for c in model.words[n]] for n in known]
        spelled = np.array([row + [BLANK] * (longest - len(row)) for row in rows])
        tree = _tree(np.array(known), spelled, model.unigram_scores, len(vocabulary), space)
        return _with_spelling(tree, spelled, float(model.unigram_scores[UNKNOWN]))


def _tree(known: Ints, spelled: Ints, scores: Floats, size: int, space: int) -> Lexicon:
    """The known words alone [W], spelled int64 [W, L] with BLANK after their ends. Look-ahead is
    the best word score below a node."""
    node = np.zeros(len(known), np.int64)
    edges: list[Ints] = []  # level after level, each new node's parent * size + token
    ahead = [np.zeros(1, np.float32)]
    count = 1
    for letter in spelled.T:
        on = np.flatnonzero(letter != BLANK)
        edge, child = np.unique(node[on] * size + letter[on], return_inverse=True)
        best = np.full(len(edge), -np.inf, np.float32)
        np.maximum.at(best, child, scores[known[on]])
        node[on] = count + child
        edges.append(edge)
        ahead.append(best)
        count += len(edge)
    parents, tokens = np.divmod(np.concatenate(edges), size)
    children = np.full((count, size), NO_NODE)
    children[parents, tokens] = np.arange(1, count)
    likely = np.concatenate(ahead)
    arcs = np.where(children >= 0, likely[children] - likely[:, None], np.float32(0))
    words = np.full(count, NO_WORD)
    words[node] = known
    letters = np.concatenate([[space], tokens])
    return Lexicon(children, arcs, words, -likely, letters, count, space)


def _with_spelling(tree: Lexicon, spelled: Ints, unknown: float) -> Lexicon:
    """Adds a node for every two last tokens (the space before a word's first). The letters'
    probabilities are those of the known words, each counted once."""
    size, space = tree.children.shape[1], tree.space
    padded = np.pad(spelled, ((0, 0), (2, 1)), constant_values=((0, 0), (space, BLANK)))
    padded[np.arange(len(padded)), (padded != BLANK).sum(1)] = space
    places = (padded[:, :-2] * size + padded[:, 1:-1]) * size + padded[:, 2:]
    places = places[(padded[:, 1:-1] != BLANK) & (padded[:, 2:] != BLANK)]
    counts = np.bincount(places, minlength=size**3).reshape(size, size, size).astype(float)
    single = (counts.sum((0, 1)) + 1) / (counts.sum() + size)
    double = _smoothed(counts.sum(0), single)
    scores = np.log(_smoothed(counts, double)).astype(np.float32).reshape(-1, size)

    first = len(tree.children)
    last = np.arange(size * size) % size
    children = first + last[:, None] * size + np.arange(size)
    children[:, [BLANK, space]] = NO_NODE
    root = space * size + space
    arcs = scores.copy()
    arcs[root] += unknown
    # Only a root has the space as its last letter, and no word ends at a root.
    words = np.where(last == space, NO_WORD, UNKNOWN)
    return Lexicon(
        np.concatenate([tree.children, children]),
        np.concatenate([tree.arcs, arcs]),
        np.concatenate([tree.words, words]),
        np.concatenate([tree.closing, scores[:, space] - unknown]),
        np.concatenate([tree.letters, last]),
        first + root,
        space,
    )


def _smoothed(counts: NDArray[np.float64], lower: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities over the last axis, leaning on those of the shorter history."""
    total = counts.sum(-1, keepdims=True)
    mixed: NDArray[np.float64] = (counts + _SMOOTHING * lower) / (total + _SMOOTHING)
    return mixed
