"""CTC beam search with a lexicon and a word n-gram: the best path of tokens through every
frame, so that words keep the frames in which they were heard.

Source: Hannun et al., First-pass large vocabulary continuous speech recognition (2014); Viterbi
over paths as in flashlight's LexiconDecoder. All segments of a batch advance together, frame by
frame, in flat arrays; no number of one segment meets another's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.asr.decoding import BLANK
from stages.asr.lexicon import NO_NODE, NO_WORD, ROOT, Lexicon
from stages.asr.ngram import BEGIN, Ints, NgramModel

Scores = NDArray[np.float64]

_UNFINISHED = -1e6  # a path that ends inside no known word is taken only if all do


@dataclass(frozen=True)
class BeamOptions:
    """`lm_weight` multiplies log P(word), `word_score` is added per word (natural logs).
    `size` paths a segment survive a frame, none more than `margin` behind the best; each goes
    on with the frame's best `tokens` tokens."""

    lm_weight: float
    word_score: float
    size: int
    margin: float = 12.0
    tokens: int = 8


@dataclass(frozen=True)
class Paths:
    """Partial paths, flat [H]: the segment, the lexicon node, the words before it (a history of
    the NgramModel), whether the last frame's token was the node's letter (else blank), the
    score; then the place of its predecessor a frame before, and this frame's token."""

    row: Ints
    node: Ints
    history: Ints
    held: NDArray[np.bool_]
    score: Scores
    parent: Ints
    token: Ints

    def __getitem__(self, chosen: Ints | NDArray[np.bool_]) -> Paths:
        return Paths(*(column[chosen] for column in vars(self).values()))

    @classmethod
    def joined(cls, parts: list[Paths]) -> Paths:
        columns = zip(*(vars(part).values() for part in parts), strict=True)
        return cls(*(np.concatenate(column) for column in columns))


@dataclass(frozen=True)
class BeamSearch:
    """Finds the path with the best sum of log posteriors, weighted log P(words) and word
    scores. Every word of the lexicon can come out, and any other spelling as unknown word."""

    model: NgramModel
    lexicon: Lexicon
    options: BeamOptions

    def best_paths(self, log_probs: NDArray[np.float32], lengths: Ints) -> Ints:
        """log_probs float32 [B, T, V], lengths [B] in frames, to the token of every frame
        int64 [B, T], blank past a row's length."""
        count, frames = log_probs.shape[:2]
        likely = np.argsort(-log_probs, axis=-1, kind="stable")[..., : self.options.tokens]
        paths = self._beginning(count)
        final = np.zeros(count, np.int64)
        beams: list[Paths] = []
        for frame in range(frames + 1):
            over = lengths[paths.row] == frame
            if over.any():
                self._finish(paths, np.flatnonzero(over), final)
            alive = np.flatnonzero(~over)
            if len(alive) == 0:
                break
            paths = self._step(paths[alive], alive, log_probs[:, frame], likely[:, frame])
            beams.append(paths)
        tokens = np.full((count, frames), BLANK, np.int64)
        for frame in reversed(range(len(beams))):
            rows = np.flatnonzero(lengths > frame)
            tokens[rows, frame] = beams[frame].token[final[rows]]
            final[rows] = beams[frame].parent[final[rows]]
        return tokens

    def _beginning(self, count: int) -> Paths:
        row = np.repeat(np.arange(count), 2)
        node = np.tile([ROOT, self.lexicon.spelling], count)
        nothing = np.zeros(2 * count, np.int64)
        held = nothing.astype(bool)
        return Paths(row, node, nothing + BEGIN, held, nothing.astype(float), nothing, nothing)

    def _finish(self, paths: Paths, over: Ints, final: Ints) -> None:
        """Writes the place of each finished row's best path into `final`."""
        row, node, score = paths.row[over], paths.node[over], paths.score[over].copy()
        inside = np.flatnonzero(~self._at_root(node))
        score[inside] += _UNFINISHED
        ending = inside[self.lexicon.words[node[inside]] != NO_WORD]
        gained, _ = self._close(node[ending], paths.history[over][ending])
        score[ending] += gained - _UNFINISHED
        order = np.lexsort((-score, row))
        rows, firsts = np.unique(row[order], return_index=True)
        final[rows] = over[order[firsts]]

    def _step(
        self, paths: Paths, places: Ints, log_probs: NDArray[np.float32], likely: Ints
    ) -> Paths:
        """All paths one frame on, the best of each row; `places` are theirs in the beam that
        the parents are counted in. log_probs [B, V], likely [B, K] of this frame."""
        candidates = Paths.joined(
            [
                self._stay(paths, places, log_probs),
                self._spell(paths, places, log_probs, likely),
                self._end_word(paths, places, log_probs),
            ]
        )
        best = np.full(len(log_probs), -np.inf)
        np.maximum.at(best, candidates.row, candidates.score)
        candidates = candidates[candidates.score > best[candidates.row] - self.options.margin]
        nodes, histories = len(self.lexicon.words), len(self.model.backoffs)
        state = (candidates.row * nodes + candidates.node) * histories + candidates.history
        state = state * 2 + candidates.held
        order = np.lexsort((-candidates.score, state))
        unlike = np.diff(state[order], prepend=-1) != 0
        candidates = candidates[order[unlike]]  # of paths with the same future, the best
        order = np.lexsort((-candidates.score, candidates.row))
        row = candidates.row[order]
        rank = np.arange(len(row)) - np.searchsorted(row, row)
        return candidates[order[rank < self.options.size]]

    def _stay(self, paths: Paths, places: Ints, log_probs: NDArray[np.float32]) -> Paths:
        """Blank, or the last token once more; between words a space changes nothing."""
        blank = paths.score + log_probs[paths.row, BLANK]
        nothing = np.zeros(len(places), np.int64)
        silent = Paths(
            paths.row, paths.node, paths.history, nothing > 0, blank, places, nothing + BLANK
        )
        again = np.flatnonzero(paths.held | self._at_root(paths.node))
        same = paths[again]
        letter = self.lexicon.letters[same.node]
        score = same.score + log_probs[same.row, letter]
        held = np.ones(len(again), bool)
        repeated = Paths(same.row, same.node, same.history, held, score, places[again], letter)
        return Paths.joined([silent, repeated])

    def _spell(
        self, paths: Paths, places: Ints, log_probs: NDArray[np.float32], likely: Ints
    ) -> Paths:
        """The next letter; the same letter again needs a blank between."""
        token = likely[paths.row]
        child = self.lexicon.children[paths.node[:, None], token]
        repeats = paths.held[:, None] & (token == self.lexicon.letters[paths.node][:, None])
        which, at = np.nonzero((child != NO_NODE) & ~repeats)
        old, token = paths[which], token[which, at]
        arc = self.lexicon.arcs[old.node, token]
        score = old.score + log_probs[old.row, token] + self.options.lm_weight * arc
        held = np.ones(len(which), bool)
        return Paths(old.row, child[which, at], old.history, held, score, places[which], token)

    def _end_word(self, paths: Paths, places: Ints, log_probs: NDArray[np.float32]) -> Paths:
        """A space after a word; the next may be known or not."""
        ending = np.flatnonzero(self.lexicon.words[paths.node] != NO_WORD)
        old = paths[ending]
        gained, history = self._close(old.node, old.history)
        score = old.score + log_probs[old.row, self.lexicon.space] + gained
        token = np.full(len(ending), self.lexicon.space)
        held = np.ones(len(ending), bool)
        return Paths.joined(
            [
                Paths(
                    old.row, np.full(len(ending), root), history, held, score, places[ending], token
                )
                for root in (ROOT, self.lexicon.spelling)
            ]
        )

    def _close(self, node: Ints, history: Ints) -> tuple[Scores, Ints]:
        """What the words that end in these nodes add to the score; the histories after them."""
        score, after = self.model.score(history, self.lexicon.words[node])
        gained = self.options.lm_weight * (score + self.lexicon.closing[node]).astype(float)
        return gained + self.options.word_score, after

    def _at_root(self, node: Ints) -> NDArray[np.bool_]:
        at_root: NDArray[np.bool_] = (node == ROOT) | (node == self.lexicon.spelling)
        return at_root
