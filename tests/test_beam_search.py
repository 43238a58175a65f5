"""The compiled search, held against enumeration and against the same search in plain Python."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from itertools import groupby, product

import numpy as np
import pytest
from numpy.typing import NDArray

from stages.asr.beam import BeamOptions, BeamSearch
from stages.asr.lexicon import NO_NODE, ROOT, Lexicon
from stages.asr.ngram import BEGIN, NgramModel

PHONES = ("<blank>", "a", "b", "c")
LETTERS = ("<blank>", " ", "a", "b")
WORDS = ("a", "b", "ab", "ba", "aa", "bab")  # what they are called; letters spell them so

SearchState = tuple[int, int, int]
Partial = tuple[float, list[int], list[int]]


def drawn_model(rng: np.random.Generator, words: int, order: int) -> NgramModel:
    """Random scores for all words, and for about half of the bigrams and trigrams."""
    size = 3 + words
    pairs = np.flatnonzero(rng.random(size * size) < (0.5 if order > 1 else 0))
    triples = np.flatnonzero(rng.random(len(pairs) * size) < (0.5 if order > 2 else 0))
    scores = [rng.uniform(-6, -0.5, n).astype(np.float32) for n in (size, len(pairs), len(triples))]
    backoffs = rng.uniform(-2, 0, size + len(pairs)).astype(np.float32)
    names = ("<unk>", "<s>", "</s>", *(WORDS if words == len(WORDS) else map(str, range(words))))
    return NgramModel(names, scores[0], pairs, scores[1], triples, scores[2], backoffs)


def drawn_posteriors(rng: np.random.Generator, frames: int, size: int) -> NDArray[np.float32]:
    logits = rng.normal(0, 2, (frames, size))
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


def found_by(search: BeamSearch, row: NDArray[np.float32]) -> tuple[list[int], list[int]]:
    """Tokens by frame, and the words."""
    best = search.best_paths(row[None], np.array([len(row)]))
    return best.tokens[0].tolist(), [int(word) for word in best.words[0] if word >= 0]


def parses(
    sequence: tuple[int, ...], spelled: list[tuple[tuple[int, ...], int]]
) -> Iterator[list[int]]:
    """All ways to read a sequence of tokens as words."""
    if not sequence:
        yield []
    for tokens, word in spelled:
        if sequence[: len(tokens)] == tokens:
            yield from ([word, *rest] for rest in parses(sequence[len(tokens) :], spelled))


def said(model: NgramModel, options: BeamOptions, words: list[int]) -> float:
    """What a sentence gains, by the definition of backing off."""
    size, pairs, triples = len(model.words), model.bigrams.tolist(), model.trigrams.tolist()
    history, total = BEGIN, 0.0
    for word in words:
        longer = history >= size
        last = pairs[history - size] % size if longer else history
        second, third = last * size + word, (history - size) * size + word
        if longer and third in triples:
            gained = float(model.trigram_scores[triples.index(third)])
        else:
            gained = float(model.backoffs[history]) if longer else 0.0
            if second in pairs:
                gained += float(model.bigram_scores[pairs.index(second)])
            else:
                gained += float(model.backoffs[last] + model.unigram_scores[word])
        history = size + pairs.index(second) if second in pairs else word
        total += options.lm_weight * gained + options.word_score
    return total


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("vocabulary", [PHONES, LETTERS])
@pytest.mark.parametrize("seed", range(4))
def test_without_pruning_the_best_of_all_paths_is_found(
    vocabulary: tuple[str, ...], order: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    model = drawn_model(rng, len(WORDS), order)
    ways = {word: [list(word)] for word in WORDS}
    ways["bab"] = [["a", "b"], ["c"]]  # sounds like "ab", or otherwise
    lexicon = Lexicon.build(model, vocabulary, None if " " in vocabulary else ways)
    options = BeamOptions(0.7, 0.5, size=10_000, margin=math.inf, tokens=len(vocabulary))
    row = drawn_posteriors(rng, 6, len(vocabulary))
    best = defaultdict[tuple[int, ...], tuple[float, tuple[int, ...]]](lambda: (-math.inf, ()))
    for path in product(range(len(vocabulary)), repeat=len(row)):
        sequence = tuple(token for token, _ in groupby(path) if token)
        best[sequence] = max(best[sequence], (float(row[range(len(row)), path].sum()), path))
    if " " in vocabulary:
        spelled = [(word, model.words.index(word)) for word in WORDS]
        readings = {
            sequence: list(
                parses_of_letters("".join(vocabulary[token] for token in sequence), spelled)
            )
            for sequence in best
        }
    else:
        written = [
            (tuple(map(vocabulary.index, way)), model.words.index(word))
            for word, several in ways.items()
            for way in several
        ]
        readings = {sequence: list(parses(sequence, written)) for sequence in best}
    _, path, words = max(
        (sound + said(model, options, words), path, words)
        for sequence, (sound, path) in best.items()
        for words in readings[sequence]
    )
    assert found_by(BeamSearch(model, lexicon, options), row) == (list(path), words)


def parses_of_letters(text: str, spelled: list[tuple[str, int]]) -> Iterator[list[int]]:
    numbers = dict(spelled)
    if all(word in numbers for word in text.split()):
        yield [numbers[word] for word in text.split()]


def plainly(search: BeamSearch, row: NDArray[np.float32]) -> tuple[list[int], list[int]]:
    """`found_by` in plain Python, without a separator. A partial path is its score, its tokens
    and its words."""
    lexicon, options = search.lexicon, search.options
    weight, ahead = options.lm_weight, lexicon.ahead.astype(float)

    @cache
    def scored(history: int, word: int) -> tuple[float, int]:
        gained, after = search.model.score(np.array([history]), np.array([word]))
        return float(gained[0]), int(after[0])

    def ended(state: SearchState, score: float) -> Iterator[tuple[int, int, float]]:
        node, history, _ = state
        for word in lexicon.words[lexicon.bounds[node] : lexicon.bounds[node + 1]].tolist():
            gained, after = scored(history, word)
            yield word, after, score + weight * (gained - ahead[node]) + options.word_score

    beam: dict[SearchState, Partial] = {(ROOT, BEGIN, 0): (0.0, [], [])}
    for frame in row.astype(float):
        likely = np.argsort(-frame)[: options.tokens].tolist()
        offers: list[tuple[float, SearchState, list[int], list[int]]] = []
        for state, (score, tokens, words) in beam.items():
            node, history, held = state
            offers.append((score + frame[0], (node, history, 0), [*tokens, 0], words))
            same = int(lexicon.tokens[node])
            if held:
                offers.append((score + frame[same], (node, history, 1), [*tokens, same], words))
            for token in (token for token in likely if not (held and token == same)):
                child = int(lexicon.children[node, token])
                if child != NO_NODE:
                    gained = weight * (ahead[child] - (ahead[node] if node != ROOT else 0))
                    onward = score + frame[token] + gained
                    offers.append((onward, (child, history, 1), [*tokens, token], words))
                child = int(lexicon.children[ROOT, token])
                if child != NO_NODE:
                    for word, after, total in ended(state, score):
                        onward = total + frame[token] + weight * ahead[child]
                        offers.append((onward, (child, after, 1), [*tokens, token], [*words, word]))
        least = max(offers)[0] - options.margin
        beam = {}
        for score, state, tokens, words in sorted(offers, reverse=True):
            if score > least and state not in beam and len(beam) < options.size:
                beam[state] = score, tokens, words
    ends = [
        (total, tokens, [*words, word])
        for state, (score, tokens, words) in beam.items()
        for word, _, total in ended(state, score)
    ]
    ends += [paths for state, paths in beam.items() if state[0] == ROOT]
    _, tokens, words = max(ends)
    return tokens, words


@pytest.mark.parametrize("seed", range(8))
def test_with_pruning_the_result_is_that_of_the_search_in_plain_python(seed: int) -> None:
    rng = np.random.default_rng(seed)
    vocabulary = ("<blank>", *"abcdefgh")
    model = drawn_model(rng, 80, 3)
    ways = {
        word: [list(rng.choice(list("abcdefgh"), rng.integers(1, 4)))] for word in model.words[3:]
    }
    lexicon = Lexicon.build(model, vocabulary, ways)
    size, margin, tokens = [(4, 50.0, 9), (400, 3.0, 9), (400, 8.0, 3), (20, 6.0, 5)][seed % 4]
    search = BeamSearch(model, lexicon, BeamOptions(0.8, -0.3, size, margin, tokens))
    row = drawn_posteriors(rng, 25, len(vocabulary))
    assert found_by(search, row) == plainly(search, row)


def test_equal_scores_have_one_result() -> None:
    """Every token as likely as every other, every word as every other."""
    size = 3 + len(WORDS)
    level = np.full(size, -2, np.float32)
    nothing = np.zeros(0)
    model = NgramModel(
        ("<unk>", "<s>", "</s>", *WORDS),
        level,
        nothing.astype(np.int64),
        nothing.astype(np.float32),
        nothing.astype(np.int64),
        nothing.astype(np.float32),
        level,
    )
    lexicon = Lexicon.build(model, PHONES, {word: [list(word)] for word in WORDS})
    search = BeamSearch(model, lexicon, BeamOptions(0.0, 0.0, 10))
    rows = np.full((3, 9, len(PHONES)), math.log(0.25), np.float32)
    together = search.best_paths(rows, np.array([9, 5, 9]))
    alone = search.best_paths(rows[:1, :5], np.array([5]))
    assert (together.tokens[0] == together.tokens[2]).all()
    assert (together.tokens[1, :5] == alone.tokens[0]).all()
    assert (together.words[1, :5] == alone.words[0]).all()


def test_posteriors_that_are_no_numbers_give_no_words() -> None:
    rng = np.random.default_rng(0)
    model = drawn_model(rng, len(WORDS), 2)
    lexicon = Lexicon.build(model, PHONES, {word: [list(word)] for word in WORDS})
    search = BeamSearch(model, lexicon, BeamOptions(1.0, 0.0, 10))
    row = np.full((7, len(PHONES)), np.nan, np.float32)
    assert found_by(search, row) == ([0] * 7, [])


def ran(code: str, **variables: str) -> str:
    """What Python prints, in a process of its own."""
    environment = os.environ | variables
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_numba_is_loaded_only_with_the_decoder() -> None:
    code = "import sys, stages.asr.stage; print('numba' in sys.modules)"
    assert ran(code) == "False"


def test_it_runs_where_no_cache_can_be_written() -> None:
    code = "from stages.asr.beam_search import search; print(len(search.signatures))"
    nowhere = {
        "NUMBA_CACHE_DIR": "/dev/null/cache",
        "NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator",
    }
    assert ran(code, **nowhere) == "1"
