"""The words that a beam search may find, as a tree of the acoustic model's tokens: phones, or
letters with a space after the last one.

Source: Ney and Ortmanns, Progress in dynamic programming search (2000), section IV: tree
lexicon with language model look-ahead.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ModelError
from stages.asr.decoding import BLANK, SPACE
from stages.asr.ngram import Floats, NgramModel

ROOT = 0
NO_NODE = -1

Nodes = NDArray[np.int32]
Pronunciations = Mapping[str, Sequence[Sequence[str]]]


@dataclass(frozen=True)
class Lexicon:
    """N nodes over V tokens; node ROOT begins every word.

    `children` int32 [N, V]: the node after a token, or NO_NODE. `tokens` int32 [N]: the token
    that led here (ROOT: the separator). `ahead` float32 [N]: the best unigram log P(word) at or
    below a node, what a path has been charged so far. The words that may end at node n are
    `words[bounds[n] : bounds[n + 1]]`, ids of the language model. `separator`: the token
    after each word, or the blank where there is none.
    """

    children: Nodes
    tokens: Nodes
    ahead: Floats
    words: Nodes
    bounds: Nodes
    separator: int

    @classmethod
    def build(
        cls,
        model: NgramModel,
        vocabulary: Sequence[str],
        pronunciations: Pronunciations | None = None,
    ) -> Lexicon:
        """Of the model's words: those pronounced, or without pronunciations those that the
        vocabulary's letters can write. ModelError where that is none."""
        ids = {token: index for index, token in enumerate(vocabulary) if index != BLANK}
        if pronunciations is None:
            if SPACE not in ids:
                raise ModelError(
                    "decoder beam needs a lexicon.txt with the acoustic model, "
                    "or an acoustic model of letters and a space token"
                )
            pronunciations = {word: [[*word, SPACE]] for word in model.words if SPACE not in word}
        spelled: list[tuple[int, ...]] = []
        words: list[int] = []
        for number, word in enumerate(model.words):
            for tokens in pronunciations.get(word, ()):
                if all(token in ids for token in tokens):
                    spelled.append(tuple(ids[token] for token in tokens))
                    words.append(number)
        if not words:
            raise ModelError("decoder beam: the lexicon holds no word of the language model")
        separator = ids.get(SPACE, BLANK)
        return _tree(spelled, np.array(words), model.unigram_scores, len(vocabulary), separator)


def _tree(
    spelled: Sequence[tuple[int, ...]],
    words: NDArray[np.int64],
    scores: Floats,
    size: int,
    separator: int,
) -> Lexicon:
    """Level after level: `spelled[i]` are the tokens of `words[i]`, `scores` those of all words."""
    longest = max(map(len, spelled))
    rows = np.full((len(spelled), longest), BLANK)
    for row, sequence in zip(rows, spelled, strict=True):
        row[: len(sequence)] = sequence
    node = np.full(len(words), ROOT)
    edges: list[NDArray[np.int64]] = []  # each new node's parent * size + token
    ahead = [np.array([scores[words].max()], np.float32)]
    count = 1
    for column in rows.T:
        on = np.flatnonzero(column != BLANK)
        edge, child = np.unique(node[on] * size + column[on], return_inverse=True)
        best = np.full(len(edge), -np.inf, np.float32)
        np.maximum.at(best, child, scores[words[on]])
        node[on] = count + child
        edges.append(edge)
        ahead.append(best)
        count += len(edge)
    parents, tokens = np.divmod(np.concatenate(edges), size)
    children = np.full((count, size), NO_NODE, np.int32)
    children[parents, tokens] = np.arange(1, count)
    order = np.lexsort((words, node))
    return Lexicon(
        children,
        np.concatenate([[separator], tokens]).astype(np.int32),
        np.concatenate(ahead),
        words[order].astype(np.int32),
        np.searchsorted(node[order], np.arange(count + 1)).astype(np.int32),
        separator,
    )


def read_pronunciations(path: Path) -> Pronunciations:
    """A lexicon.txt as Kaldi has it: a word and its tokens a line, between spaces; a word with
    several pronunciations has several lines. ModelError for a line without tokens."""
    found: defaultdict[str, list[list[str]]] = defaultdict(list)
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        word, *tokens = line.split()
        if not tokens:
            raise ModelError(f"{path}:{number}: no pronunciation after the word {word!r}")
        found[word].append(tokens)
    return found
