"""CTC beam search with a lexicon and a word n-gram: the best path of tokens through every
frame, so that words keep the frames in which they were heard.

Source: Hannun et al., First-pass large vocabulary continuous speech recognition (2014); Viterbi
over paths as in flashlight's LexiconDecoder. Of the paths with the same future (lexicon node,
words before it, whether the node's token was the last frame's) the best goes on. Equal scores are
decided by a fixed order: of one state, what `beam_search._extend` offers first; of several, the
lower state. So every row has one result, whatever batch it is in.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from stages.asr.beam_search import NO_WORD, Limits, Ngrams, Tree, search
from stages.asr.decoding import BLANK
from stages.asr.lexicon import Lexicon
from stages.asr.ngram import Ints, NgramModel
from stages.asr.rescoring import Rescorer
from stages.asr.word_graph import WordGraph, word_graph

GRAPH_MARGIN = 8.0  # how far behind the best path a word may be and be thought of again


@dataclass(frozen=True)
class BeamOptions:
    """`lm_weight` multiplies log P(word), `word_score` is added per word (natural logs).
    `size` paths a segment survive a frame, none more than `margin` behind the best; each goes
    on with the frame's best `tokens` tokens."""

    lm_weight: float
    word_score: float
    size: int
    margin: float = 14.0
    tokens: int = 12


@dataclass(frozen=True)
class BestPaths:
    """int64 [B, T] each: the token of every frame, blank past a row's length; and the word that
    begins in a frame, or NO_WORD."""

    tokens: Ints
    words: Ints


@dataclass(frozen=True)
class BeamSearch:
    """Finds the path with the best sum of log posteriors, weighted log P(words) and word
    scores. Only words of the lexicon come out. Threads may share one."""

    model: NgramModel
    lexicon: Lexicon
    options: BeamOptions
    rescorer: Rescorer | None = None

    def best_paths(self, log_probs: NDArray[np.float32], lengths: Ints) -> BestPaths:
        """log_probs float32 [B, T, V], lengths [B] in frames. A row takes some 28 bytes for each
        of `size` paths in each of its frames."""
        tokens = np.full(log_probs.shape[:2], BLANK)
        words = np.full(log_probs.shape[:2], NO_WORD)
        limits = Limits(**vars(self.options))
        graphs: dict[int, WordGraph] = {}
        for row, length in enumerate(lengths.tolist()):
            heard = np.ascontiguousarray(log_probs[row, :length])
            found = search(heard, self._tree, self._ngrams, limits)
            tokens[row, :length], words[row, :length] = found.tokens, found.words
            if self.rescorer is None:
                continue
            graph = word_graph(heard, found, self._tree, self.model, limits, GRAPH_MARGIN)
            if graph is not None:
                graphs[row] = graph
        if self.rescorer is not None:
            chosen = self.rescorer.best(
                list(graphs.values()), self.options.lm_weight, self.options.word_score
            )
            for (row, graph), arcs in zip(graphs.items(), chosen, strict=True):
                if arcs:
                    tokens[row, : lengths[row]], words[row, : lengths[row]] = graph.path(arcs)
        return BestPaths(tokens, words)

    @cached_property
    def _tree(self) -> Tree:
        return Tree(**vars(self.lexicon))

    @cached_property
    def _ngrams(self) -> Ngrams:
        model = self.model
        return Ngrams(
            model.unigram_scores,
            model.bigrams,
            _bounds(model.bigrams, len(model.words), len(model.words)),
            model.bigram_scores,
            model.trigrams,
            _bounds(model.trigrams, len(model.bigrams), len(model.words)),
            model.trigram_scores,
            model.backoffs,
        )


def _bounds(keys: Ints, count: int, size: int) -> Ints:
    """Where the keys of each of `count` histories begin, and where the last one's end."""
    return np.searchsorted(keys, np.arange(count + 1) * size)
