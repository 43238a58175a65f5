"""The words that a beam search thought possible in each place: a graph over the frames of a
segment, in which any word may follow any other that ends where it begins.

Source: Ney and Aubert, A word graph algorithm for large vocabulary continuous speech recognition
(1994); a boundary does not depend on the words before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.asr.beam_search import (
    NO_WORD,
    Limits,
    Scores,
    Searched,
    Tree,
    nodes_and_histories,
)
from stages.asr.decoding import BLANK
from stages.asr.lexicon import ROOT
from stages.asr.ngram import Floats, Ints, NgramModel

NEVER = -1


class Path(NamedTuple):
    """The token of every frame [T], and the word that begins in a frame [T], or NO_WORD."""

    tokens: Ints
    words: Ints


@dataclass(frozen=True)
class WordGraph:
    """A words in frames [start, end) of a segment, ordered by `starts`; the first ones begin with
    frame 0, whatever silence comes before them, the last ones end after the last frame. `sounds`
    are their frames' log posteriors. `firsts` and `lasts`: the word's first token, and that of its
    last frame. `paths`: where, among those that were `found`, the path of the last frame lies."""

    words: Ints
    starts: Ints
    ends: Ints
    sounds: Scores
    firsts: Ints
    lasts: Ints
    paths: Ints
    found: Searched

    def path(self, arcs: Sequence[int]) -> Path:
        """Through words that follow each other from the first frame to the last."""
        tokens = np.full(len(self.found.tokens), BLANK)
        words = np.full(len(tokens), NO_WORD)
        for arc in arcs:
            start, end, at = int(self.starts[arc]), int(self.ends[arc]), int(self.paths[arc])
            for frame in range(end - 1, start - 1, -1):
                tokens[frame] = self.found.paths.token[at]
                at = int(self.found.paths.parent[at])
            words[start + (tokens[start:end] != BLANK).argmax()] = self.words[arc]
        return Path(tokens, words)


@dataclass(frozen=True)
class _Begun:
    """Of every path in the beam, the word that is under way: the frame in which it began, its
    frames' log posteriors, its first token or NEVER, and the path's score before it."""

    frame: Ints
    sound: Scores
    first: Ints
    before: Scores


def word_graph(
    log_probs: Floats,
    found: Searched,
    tree: Tree,
    model: NgramModel,
    limits: Limits,
    margin: float,
) -> WordGraph | None:
    """Of a search over log_probs [T, V]: the words on paths that score at most `margin` less than
    the best. None where no path has come to the end of a word."""
    if not (found.words != NO_WORD).any():
        return None
    begun, ended = _begun(log_probs, found, tree, limits)
    paths, words, ends, gains = (
        np.concatenate(pair)
        for pair in zip(ended, _last(found, tree, model, limits, begun), strict=True)
    )
    if not (ends == len(log_probs)).any():
        return None
    starts, lasts = begun.frame[paths], found.paths.token[paths].astype(np.int64)
    scores = _through(starts, ends, gains, len(log_probs))
    near = np.flatnonzero(scores >= scores.max() - margin)
    # Of those that differ in pronunciation or alignment alone, the best.
    order = near[np.argsort(-gains[near], kind="stable")]
    same = np.stack([starts, ends, words, lasts], axis=1)[order]
    chosen = order[np.unique(same, axis=0, return_index=True)[1]]
    paths = paths[chosen]
    return WordGraph(
        words[chosen],
        starts[chosen],
        ends[chosen],
        begun.sound[paths],
        begun.first[paths],
        lasts[chosen],
        paths,
        found,
    )


Ended = tuple[Ints, Ints, Ints, Scores]


def _begun(log_probs: Floats, found: Searched, tree: Tree, limits: Limits) -> tuple[_Begun, Ended]:
    """Frame after frame; and of the words that ended as others began: the path of the last frame,
    the word, the frame after it, and what it gained by sound and trigram."""
    paths, bounds = found.paths, found.bounds
    count = int(bounds[-1])
    node, _ = nodes_and_histories(paths.state[:count])
    charged = np.where(node == ROOT, 0.0, limits.lm_weight * tree.ahead[node])
    begun = _Begun(
        np.zeros(count, np.int64), np.zeros(count), np.full(count, NEVER), np.zeros(count)
    )
    ended: list[Ended] = []
    for frame, row in enumerate(log_probs):
        part = slice(bounds[frame], bounds[frame + 1])
        parent, token = paths.parent[part].astype(np.int64), paths.token[part]
        sound, other = row[token], paths.word[part] != NO_WORD
        before = paths.score[part] - sound - charged[part]
        first = (begun.first[parent] == NEVER) & (token != BLANK)
        begun.frame[part] = np.where(other, frame, begun.frame[parent])
        begun.sound[part] = np.where(other, 0.0, begun.sound[parent]) + sound
        begun.first[part] = np.where(other | first, token, begun.first[parent])
        begun.before[part] = np.where(other, before, begun.before[parent])
        at = np.flatnonzero(other)
        word, last = paths.word[part][at].astype(np.int64), parent[at]
        ends = np.full(len(at), frame)
        ended.append((last, word, ends, before[at] - begun.before[last]))
    last, words, ends, gains = (np.concatenate(parts) for parts in zip(*ended, strict=True))
    return begun, (last, words, ends, gains)


def _last(found: Searched, tree: Tree, model: NgramModel, limits: Limits, begun: _Begun) -> Ended:
    """The words that end with the last frame, as in `_begun`."""
    paths = np.arange(found.bounds[-2], found.bounds[-1])
    node, history = nodes_and_histories(found.paths.state[paths])
    ending = node
    if tree.separator != BLANK:  # the path need not have reached it
        after = tree.children[node, tree.separator]
        ending = np.where(after >= 0, after, node)
    counts = tree.bounds[ending + 1] - tree.bounds[ending]
    which = np.repeat(np.arange(len(paths)), counts)
    offset = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
    words = tree.words[tree.bounds[ending][which] + offset].astype(np.int64)
    scores = model.score(history[which], words)[0] - tree.ahead[node[which]]
    gains = found.paths.score[paths[which]] - begun.before[paths[which]]
    gains = gains + limits.lm_weight * scores + limits.word_score
    return paths[which], words, np.full(len(which), len(found.tokens)), gains


def _through(starts: Ints, ends: Ints, gains: Scores, frames: int) -> Scores:
    """The score of the best way through the graph that passes through each word, [A]."""
    until, onward = np.full((2, frames + 1), -np.inf)
    until[0] = onward[frames] = 0.0
    for frame, arcs in _by(ends, frames):
        until[frame] = max(until[frame], (until[starts[arcs]] + gains[arcs]).max())
    for frame, arcs in reversed(_by(starts, frames)):
        onward[frame] = max(onward[frame], (onward[ends[arcs]] + gains[arcs]).max())
    through: Scores = until[starts] + gains + onward[ends]
    return through


def _by(frames_of: Ints, frames: int) -> list[tuple[int, NDArray[np.int64]]]:
    """The frames that occur, ascending, each with the places where it does."""
    order = np.argsort(frames_of, kind="stable")
    bounds = np.searchsorted(frames_of[order], np.arange(frames + 2))
    return [
        (frame, order[bounds[frame] : bounds[frame + 1]])
        for frame in range(frames + 1)
        if bounds[frame] < bounds[frame + 1]
    ]
