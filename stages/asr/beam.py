"""CTC beam search with a lexicon and a word n-gram: the best path of tokens through every
frame, so that words keep the frames in which they were heard.

Source: Hannun et al., First-pass large vocabulary continuous speech recognition (2014); Viterbi
over paths as in flashlight's LexiconDecoder. All segments of a batch advance together, frame by
frame, in flat arrays; no number of one segment meets another's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stages.asr.decoding import BLANK
from stages.asr.lexicon import NO_NODE, ROOT, Lexicon
from stages.asr.ngram import BEGIN, Ints, NgramModel

NO_WORD = -1

Scores = NDArray[np.float64]

_UNFINISHED = -1e6  # a path that ends inside a word is taken only if all do


@dataclass(frozen=True)
class BeamOptions:
    """`lm_weight` multiplies log P(word), `word_score` is added per word (natural logs).
    `size` paths a segment survive a frame, none more than `margin` behind the best; each goes
    on with the frame's best `tokens` tokens."""

    lm_weight: float
    word_score: float
    size: int
    margin: float = 12.0
    tokens: int = 12


@dataclass(frozen=True)
class Paths:
    """Partial paths, flat [H]: the segment, the lexicon node, the words before it (a history of
    the NgramModel), whether the last frame's token was the node's (else blank), the score; then
    the place of its predecessor a frame before, this frame's token, and the word that was
    complete before this frame began another, or NO_WORD."""

    row: Ints
    node: Ints
    history: Ints
    held: NDArray[np.bool_]
    score: Scores
    parent: Ints
    token: Ints
    word: Ints

    def __getitem__(self, chosen: Ints | NDArray[np.bool_]) -> Paths:
        return Paths(*(column[chosen] for column in vars(self).values()))

    @classmethod
    def joined(cls, parts: list[Paths]) -> Paths:
        columns = zip(*(vars(part).values() for part in parts), strict=True)
        return cls(*(np.concatenate(column) for column in columns))


@dataclass(frozen=True)
class BestPaths:
    """int64 [B, T] each: the token of every frame, blank past a row's length; and the word that
    begins in a frame, or NO_WORD."""

    tokens: Ints
    words: Ints


@dataclass(frozen=True)
class BeamSearch:
    """Finds the path with the best sum of log posteriors, weighted log P(words) and word
    scores. Only words of the lexicon come out."""

    model: NgramModel
    lexicon: Lexicon
    options: BeamOptions

    def best_paths(self, log_probs: NDArray[np.float32], lengths: Ints) -> BestPaths:
        """log_probs float32 [B, T, V], lengths [B] in frames."""
        count, frames = log_probs.shape[:2]
        kept = min(self.options.tokens, log_probs.shape[2])
        likely = np.argpartition(-log_probs, kept - 1, axis=-1)[..., :kept]
        likely.sort(axis=-1)
        paths = self._beginning(count)
        final = np.zeros(count, np.int64)
        last = np.full(count, NO_WORD)
        beams: list[Paths] = []
        for frame in range(frames + 1):
            over = lengths[paths.row] == frame
            if over.any():
                self._finish(paths, np.flatnonzero(over), final, last)
            alive = np.flatnonzero(~over)
            if len(alive) == 0:
                break
            paths = self._step(paths[alive], alive, log_probs[:, frame], likely[:, frame])
            beams.append(paths)
        return _traced(beams, final, last, lengths, (count, frames))

    def _beginning(self, count: int) -> Paths:
        row = np.arange(count)
        nothing = np.zeros(count, np.int64)
        return Paths(
            row,
            nothing + ROOT,
            nothing + BEGIN,
            nothing > 0,
            nothing.astype(float),
            nothing,
            nothing + BLANK,
            nothing + NO_WORD,
        )

    def _finish(self, paths: Paths, over: Ints, final: Ints, last: Ints) -> None:
        """Writes the place of each finished row's best path into `final`, and its last word
        into `last`. A separator that the sound did not reach is no loss."""
        within = replace(paths[over], parent=over, word=np.full(len(over), NO_WORD))
        ended = self._ended(within, self._before_separator(within.node))
        loose = np.where(within.node == ROOT, 0.0, _UNFINISHED)
        every = Paths.joined([ended, replace(within, score=within.score + loose)])
        order = np.lexsort((-every.score, every.row))
        rows, firsts = np.unique(every.row[order], return_index=True)
        final[rows] = every.parent[order[firsts]]
        last[rows] = every.word[order[firsts]]

    def _before_separator(self, node: Ints) -> Ints:
        """Where a word lacks only its separator, the node that has it."""
        if self.lexicon.separator == BLANK:
            return node
        after = self.lexicon.children[node, self.lexicon.separator]
        return np.where(after == NO_NODE, node, after)

    def _step(
        self, paths: Paths, places: Ints, log_probs: NDArray[np.float32], likely: Ints
    ) -> Paths:
        """All paths one frame on, the best of each row; `places` are theirs in the beam that
        the parents are counted in. log_probs [B, V], likely [B, K] of this frame."""
        paths = replace(paths, parent=places, word=np.full(len(places), NO_WORD))
        ended = self._ended(paths, paths.node)
        candidates = Paths.joined(
            [
                self._blank(paths, log_probs),
                self._again(paths, log_probs),
                self._onward(paths, paths.node, log_probs, likely),
                self._onward(ended, np.full(len(ended.row), ROOT), log_probs, likely),
            ]
        )
        best = np.full(len(log_probs), -np.inf)
        np.maximum.at(best, candidates.row, candidates.score)
        candidates = candidates[candidates.score > best[candidates.row] - self.options.margin]
        nodes, histories = len(self.lexicon.tokens), len(self.model.backoffs)
        state = (candidates.row * nodes + candidates.node) * histories + candidates.history
        state = state * 2 + candidates.held
        order = np.lexsort((-candidates.score, state))
        unlike = np.diff(state[order], prepend=-1) != 0
        candidates = candidates[order[unlike]]  # of paths with the same future, the best
        order = np.lexsort((-candidates.score, candidates.row))
        row = candidates.row[order]
        rank = np.arange(len(row)) - np.searchsorted(row, row)
        return candidates[order[rank < self.options.size]]

    def _ended(self, paths: Paths, node: Ints) -> Paths:
        """A path for each word that may be complete at `node`, [H] as the paths: where they
        are, or one separator on. What look-ahead charged gives way to the word's own score."""
        bounds = self.lexicon.bounds
        count = bounds[node + 1] - bounds[node]
        old = np.repeat(np.arange(len(node)), count)
        nth = np.arange(len(old)) - np.repeat(np.cumsum(count) - count, count)
        word = self.lexicon.words[bounds[node[old]] + nth].astype(np.int64)
        source = paths[old]
        score, after = self.model.score(source.history, word)
        # At a finish, the path itself was charged for the node before the separator.
        own = (score - self.lexicon.ahead[source.node]).astype(float)
        gained = self.options.lm_weight * own + self.options.word_score
        return replace(source, history=after, score=source.score + gained, word=word)

    def _blank(self, paths: Paths, log_probs: NDArray[np.float32]) -> Paths:
        return replace(
            paths,
            held=np.zeros(len(paths.row), bool),
            score=paths.score + log_probs[paths.row, BLANK],
            token=np.full(len(paths.row), BLANK),
        )

    def _again(self, paths: Paths, log_probs: NDArray[np.float32]) -> Paths:
        """The last token once more; between words, the separator after a blank too."""
        separator = self.lexicon.separator
        between = (self.lexicon.tokens[paths.node] == separator) & (separator != BLANK)
        same = paths[paths.held | between]
        token = self.lexicon.tokens[same.node].astype(np.int64)
        return replace(
            same,
            held=np.ones(len(token), bool),
            score=same.score + log_probs[same.row, token],
            token=token,
        )

    def _onward(
        self, paths: Paths, node: Ints, log_probs: NDArray[np.float32], likely: Ints
    ) -> Paths:
        """The next token, from `node`; the token of the last frame needs a blank between."""
        token = likely[paths.row]
        child = self.lexicon.children[node[:, None], token]
        repeats = paths.held[:, None] & (token == self.lexicon.tokens[paths.node][:, None])
        which, at = np.nonzero((child != NO_NODE) & ~repeats)
        old, token, after = paths[which], token[which, at], child[which, at].astype(np.int64)
        charged = self.lexicon.ahead[after].astype(float)
        inside = node[which] != ROOT  # at the root nothing has been charged yet
        charged[inside] -= self.lexicon.ahead[node[which[inside]]]
        score = old.score + log_probs[old.row, token] + self.options.lm_weight * charged
        return replace(old, node=after, held=np.ones(len(which), bool), score=score, token=token)


def _traced(
    beams: list[Paths], final: Ints, last: Ints, lengths: Ints, shape: tuple[int, int]
) -> BestPaths:
    """From the last frame back to the first; `final` and `last` are each row's end."""
    tokens, words = np.full(shape, BLANK), np.full(shape, NO_WORD)
    place, word = final.copy(), last.copy()
    for frame in reversed(range(len(beams))):
        rows = np.flatnonzero(lengths > frame)
        path = beams[frame][place[rows]]
        tokens[rows, frame] = path.token
        begins = path.word != NO_WORD
        words[rows[begins], frame] = word[rows[begins]]
        word[rows[begins]] = path.word[begins]
        place[rows] = path.parent
    spoken = np.flatnonzero((tokens != BLANK).any(axis=1))
    words[spoken, (tokens[spoken] != BLANK).argmax(axis=1)] = word[spoken]
    return BestPaths(tokens, words)
