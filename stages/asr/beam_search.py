"""The beam search of one segment, compiled by numba; what it finds is said in `beam.py`.

Compiled once on a machine, then read from numba's cache as this module is imported: import it
only where it is needed. Other threads run beside it. No index is checked in here. numba notices
changes of this file alone: after a change of another file's constants, empty the `__pycache__`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numba
import numpy as np
from numba import float32, float64, int32, int64
from numpy.typing import NDArray

from stages.asr.decoding import BLANK
from stages.asr.lexicon import NO_NODE, ROOT, Nodes
from stages.asr.ngram import BEGIN, Floats, Ints

NO_WORD = -1

Scores = NDArray[np.float64]
Bools = NDArray[np.bool_]

_UNFINISHED = -1e6  # a path that ends inside a word is taken only if all do
_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # Knuth's multiplicative hashing: 2 ** 64 / golden ratio

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


class Tree(NamedTuple):
    """A `Lexicon`'s arrays."""

    children: Nodes
    tokens: Nodes
    ahead: Floats
    words: Nodes
    bounds: Nodes
    separator: int


class Ngrams(NamedTuple):
    """An `NgramModel`'s arrays. The bigrams after word v are bigrams[bigram_bounds[v] :
    bigram_bounds[v + 1]], the trigrams after bigram b lie likewise."""

    unigram_scores: Floats
    bigrams: Ints
    bigram_bounds: Ints
    bigram_scores: Floats
    trigrams: Ints
    trigram_bounds: Ints
    trigram_scores: Floats
    backoffs: Floats


class Limits(NamedTuple):
    """`BeamOptions`."""

    lm_weight: float
    word_score: float
    size: int
    margin: float
    tokens: int


class Paths(NamedTuple):
    """Partial paths [N]: all that their future depends on (`_state`), and the score; then the
    place of each one's predecessor, this frame's token, and the word that was complete before
    this frame began another, or NO_WORD."""

    state: Ints
    score: Scores
    parent: Nodes
    token: Nodes
    word: Nodes


class Searched(NamedTuple):
    """The token of every frame on the best path [T]; the word that begins in a frame [T], or
    NO_WORD; the paths that survived, frame after frame: those of frame t are at bounds[t] :
    bounds[t + 1], before them is the one with which the search begins. Bounds [T + 1]; they end
    early where a frame has no finite posterior."""

    tokens: Ints
    words: Ints
    paths: Paths
    bounds: Ints


class Found(NamedTuple):
    """The paths of a frame, each state once. `slots` is a hash table of their places, in which
    numbers below `first` are left from frames before; `first`, `number` (of paths) and `best`
    (score) are [1]. `heap` is what `_keep` works in."""

    paths: Paths
    slots: Ints
    first: Ints
    number: Ints
    best: Scores
    heap: Ints


def _compiled(*signature: Any) -> Callable[[FunctionT], FunctionT]:
    """With a signature, compiled or read from the cache now; else as a part of others."""

    def compiled(function: FunctionT) -> FunctionT:
        done: FunctionT
        try:
            cached = bool(signature)
            done = numba.njit(
                *signature, nogil=True, error_model="numpy", cache=cached, forceinline=not signature
            )(function)
        except (RuntimeError, OSError):  # nowhere to keep a cache, or no room for it
            done = numba.njit(*signature, nogil=True, error_model="numpy")(function)
        return done

    return compiled


@_compiled()
def _state(node: int, history: int, held: int) -> int:
    """The lexicon node, the words before it (a history of the NgramModel), and whether the last
    frame's token was the node's (else blank), as one number that sorts by them in turn."""
    return (node << 33) | (history << 1) | held


@_compiled()
def _parts(state: int) -> tuple[int, int, int]:
    return state >> 33, (state >> 1) & 0xFFFFFFFF, state & 1


def nodes_and_histories(states: Ints) -> tuple[Ints, Ints]:
    """As `_parts`, for arrays [N]."""
    return states >> 33, (states >> 1) & 0xFFFFFFFF


@_compiled()
def _some_paths(count: int) -> Paths:
    return Paths(
        np.empty(count, np.int64),
        np.empty(count, np.float64),
        np.empty(count, np.int32),
        np.empty(count, np.int32),
        np.empty(count, np.int32),
    )


@_compiled()
def _put(
    paths: Paths, at: int, state: int, score: float, parent: int, token: int, word: int
) -> None:
    paths.state[at] = state
    paths.score[at] = score
    paths.parent[at] = parent
    paths.token[at] = token
    paths.word[at] = word


@_compiled()
def _likely(row: Floats, chosen: Ints, taken: Bools) -> None:
    """The likeliest tokens of a frame into `chosen`, ascending; of equal ones the lower."""
    taken[:] = False
    for _ in range(len(chosen)):
        best = -1
        for token in range(len(row)):
            if not taken[token] and (best < 0 or row[token] > row[best]):
                best = token
        taken[best] = True
    count = 0
    for token in range(len(row)):
        if taken[token]:
            chosen[count] = token
            count += 1


@_compiled()
def _place(keys: Ints, first: int, after: int, key: int) -> int:
    """Where `key` is among keys[first:after], which are sorted, or -1."""
    end = after
    while first < after:
        middle = (first + after) >> 1
        if keys[middle] < key:
            first = middle + 1
        else:
            after = middle
    return first if first < end and keys[first] == key else -1


@_compiled()
def _word_score(ngrams: Ngrams, history: int, word: int) -> tuple[float, int]:
    """As NgramModel.score, for one word."""
    size = len(ngrams.unigram_scores)
    pair = history - size  # the bigram of a longer history
    last = history if pair < 0 else ngrams.bigrams[pair] % size
    bounds = ngrams.bigram_bounds
    second = _place(ngrams.bigrams, bounds[last], bounds[last + 1], last * size + word)
    following = word if second < 0 else size + second
    if pair >= 0:
        bounds = ngrams.trigram_bounds
        third = _place(ngrams.trigrams, bounds[pair], bounds[pair + 1], pair * size + word)
        if third >= 0:
            return ngrams.trigram_scores[third], following
    if second >= 0:
        score = ngrams.bigram_scores[second]
    else:
        score = ngrams.backoffs[last] + ngrams.unigram_scores[word]
    return (score if pair < 0 else score + ngrams.backoffs[history]), following


@_compiled()
def _ended(
    score: float, node: int, history: int, word: int, tree: Tree, ngrams: Ngrams, limits: Limits
) -> tuple[float, int]:
    """A path's score and history when the word ends. What look-ahead charged at the node gives
    way to the word's own score."""
    gained, following = _word_score(ngrams, history, word)
    own = float64(gained - tree.ahead[node])
    return score + (limits.lm_weight * own + limits.word_score), following


@_compiled()
def _offer(
    found: Found, margin: float, state: int, score: float, parent: int, token: int, word: int
) -> float:
    """Adds a path to those found, unless one of its state is as good; the score at which others
    are too far behind from now on."""
    found.best[0] = max(found.best[0], score)
    least = float(found.best[0] - margin)
    slots, first = found.slots, found.first[0]
    mask = len(slots) - 1
    slot = int64((np.uint64(state) * _SPREAD) >> np.uint64(32)) & mask
    while slots[slot] >= first and found.paths.state[slots[slot] - first] != state:
        slot = (slot + 1) & mask
    at = slots[slot] - first
    if at < 0:
        at = found.number[0]
        found.number[0] += 1
        slots[slot] = first + at
    elif score <= found.paths.score[at]:
        return least
    _put(found.paths, at, state, score, parent, token, word)
    return least


@_compiled()
def _extend(
    row: Floats,
    likely: Ints,
    beam: Paths,
    places: tuple[int, int],
    tree: Tree,
    ngrams: Ngrams,
    limits: Limits,
    found: Found,
) -> None:
    """Offers what the beam's paths at `places` [first, after) become by a frame's log posteriors:
    blank; the last token once more (between words, the separator after a blank too); the next
    token (the last frame's token needs a blank between); the next word's first token."""
    margin, weight = limits.margin, limits.lm_weight
    least = -np.inf
    for path in range(*places):
        node, history, _ = _parts(beam.state[path])
        score = beam.score[path] + row[BLANK]
        if score > least:
            least = _offer(found, margin, _state(node, history, 0), score, path, BLANK, NO_WORD)
    for path in range(*places):
        node, history, held = _parts(beam.state[path])
        token = int64(tree.tokens[node])
        if held or (token == tree.separator and token != BLANK):
            score = beam.score[path] + row[token]
            if score > least:
                least = _offer(found, margin, _state(node, history, 1), score, path, token, NO_WORD)
    for path in range(*places):
        node, history, held = _parts(beam.state[path])
        charged = float64(tree.ahead[node]) if node != ROOT else 0.0  # the root charges nothing
        for token in likely:
            child = int64(tree.children[node, token])
            if child != NO_NODE and not (held and token == tree.tokens[node]):
                gained = weight * (float64(tree.ahead[child]) - charged)
                score = beam.score[path] + row[token] + gained
                if score > least:
                    least = _offer(
                        found, margin, _state(child, history, 1), score, path, token, NO_WORD
                    )
    for path in range(*places):
        node, history, held = _parts(beam.state[path])
        for at in range(tree.bounds[node], tree.bounds[node + 1]):
            word = int64(tree.words[at])
            ended, after = _ended(beam.score[path], node, history, word, tree, ngrams, limits)
            for token in likely:
                child = int64(tree.children[ROOT, token])
                if child != NO_NODE and not (held and token == tree.tokens[node]):
                    score = ended + row[token] + weight * float64(tree.ahead[child])
                    if score > least:
                        least = _offer(
                            found, margin, _state(child, after, 1), score, path, token, word
                        )


@_compiled()
def _worse(paths: Paths, one: int, other: int) -> bool:
    """By score, of equal ones by the higher state."""
    if paths.score[one] != paths.score[other]:
        return bool(paths.score[one] < paths.score[other])
    return bool(paths.state[one] > paths.state[other])


@_compiled()
def _sink(paths: Paths, heap: Ints, at: int, count: int) -> None:
    """Restores heap[:count], the worst first, where a better path was put `at` a place."""
    one = heap[at]
    while 2 * at + 1 < count:
        below = 2 * at + 1
        if below + 1 < count and _worse(paths, heap[below + 1], heap[below]):
            below += 1
        if not _worse(paths, heap[below], one):
            break
        heap[at] = heap[below]
        at = below
    heap[at] = one


@_compiled()
def _keep(found: Found, least: float, size: int, beam: Paths, after: int) -> int:
    """Puts the best `size` of those found that score more than `least` into the beam, best first,
    from place `after` on; the place after them."""
    paths, heap = found.paths, found.heap
    near = 0
    for at in range(found.number[0]):
        if paths.score[at] > least:
            heap[near] = at
            near += 1
    count = min(near, size)
    for at in range(count // 2, -1, -1):
        _sink(paths, heap, at, count)
    for at in heap[count:near]:
        if _worse(paths, heap[0], at):
            heap[0] = at
            _sink(paths, heap, 0, count)
    for rank in range(count - 1, -1, -1):
        at = heap[0]
        state, score, parent = paths.state[at], paths.score[at], paths.parent[at]
        _put(beam, after + rank, state, score, parent, paths.token[at], paths.word[at])
        heap[0] = heap[rank]
        _sink(paths, heap, 0, rank)
    return after + count


@_compiled()
def _end(
    beam: Paths, places: tuple[int, int], tree: Tree, ngrams: Ngrams, limits: Limits
) -> tuple[int, int]:
    """The place of the best path through the last frame, and its last word. A separator that the
    sound did not reach is no loss."""
    best, place, last = -np.inf, places[0], NO_WORD
    for path in range(*places):
        node, history, _ = _parts(beam.state[path])
        ending = node
        if tree.separator != BLANK and tree.children[node, tree.separator] != NO_NODE:
            ending = int64(tree.children[node, tree.separator])
        for at in range(tree.bounds[ending], tree.bounds[ending + 1]):
            word = int64(tree.words[at])
            # The path was charged for its own node, before the separator.
            score, _ = _ended(beam.score[path], node, history, word, tree, ngrams, limits)
            if score > best:
                best, place, last = score, path, word
    for path in range(*places):
        score = beam.score[path] + (0.0 if _parts(beam.state[path])[0] == ROOT else _UNFINISHED)
        if score > best:
            best, place, last = score, path, NO_WORD
    return place, last


@_compiled()
def _trace(beam: Paths, path: int, word: int, tokens: Ints, words: Ints) -> None:
    """From the last frame back to the first; `word` is the last one."""
    for frame in range(len(tokens) - 1, -1, -1):
        tokens[frame] = beam.token[path]
        if beam.word[path] != NO_WORD:
            words[frame] = word
            word = int64(beam.word[path])
        path = int64(beam.parent[path])
    for frame in range(len(tokens)):
        if tokens[frame] != BLANK:
            words[frame] = word
            break


@_compiled()
def _room(tree: Tree, limits: Limits, tokens: int) -> Found:
    """For all paths that a frame can have."""
    most = 0
    for node in range(len(tree.tokens)):
        most = max(most, tree.bounds[node + 1] - tree.bounds[node])
    count = limits.size * (2 + tokens * (1 + most))
    slots = 1
    while slots < 2 * count:
        slots *= 2
    nothing = np.zeros(1, np.int64)
    return Found(
        _some_paths(count),
        np.full(slots, -1),
        nothing,
        nothing.copy(),
        np.zeros(1),
        np.empty(count, np.int64),
    )


_TREE = (int32[:, ::1], int32[::1], float32[::1], int32[::1], int32[::1], int64)
_NGRAMS = (
    *(float32[::1], int64[::1], int64[::1], float32[::1]),
    *(int64[::1], int64[::1], float32[::1], float32[::1]),
)


_PATHS = (int64[::1], float64[::1], int32[::1], int32[::1], int32[::1])
_SEARCHED = (int64[::1], int64[::1], numba.types.NamedTuple(_PATHS, Paths), int64[::1])


@_compiled(
    numba.types.NamedTuple(_SEARCHED, Searched)(
        float32[:, ::1],
        numba.types.NamedTuple(_TREE, Tree),
        numba.types.NamedTuple(_NGRAMS, Ngrams),
        numba.types.NamedTuple((float64, float64, int64, float64, int64), Limits),
    )
)
def search(log_probs: Floats, tree: Tree, ngrams: Ngrams, limits: Limits) -> Searched:
    """The best path through log_probs [T, V], and all others that were followed. No words in
    frames without a finite posterior."""
    frames, vocabulary = log_probs.shape
    tokens, words = np.full(frames, BLANK), np.full(frames, NO_WORD)
    likely = np.empty(min(limits.tokens, vocabulary), np.int64)
    taken = np.empty(vocabulary, np.bool_)
    found = _room(tree, limits, len(likely))
    beam = _some_paths(1 + frames * limits.size)
    bounds = np.ones(frames + 1, np.int64)
    result = Searched(tokens, words, beam, bounds)
    _put(beam, 0, _state(ROOT, BEGIN, 0), 0.0, 0, BLANK, NO_WORD)
    first, after = 0, 1
    for frame in range(frames):
        found.first[0] += found.number[0]
        found.number[0] = 0
        found.best[0] = -np.inf
        _likely(log_probs[frame], likely, taken)
        _extend(log_probs[frame], likely, beam, (first, after), tree, ngrams, limits, found)
        first, after = after, _keep(found, found.best[0] - limits.margin, limits.size, beam, after)
        bounds[frame + 1 :] = after
        if first == after:
            return result
    path, word = _end(beam, (first, after), tree, ngrams, limits)
    _trace(beam, path, word, tokens, words)
    return result
