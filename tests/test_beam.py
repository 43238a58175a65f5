"""Decoding with a lexicon and a language model: what the model decides, and what it must not."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import ModelError
from stages.asr.beam import BeamOptions, BeamSearch
from stages.asr.decoding import FrameWord, along, greedy, words
from stages.asr.lexicon import Lexicon
from stages.asr.ngram import BEGIN, END, NgramModel
from stages.asr.stage import CtcAsr, CtcParameters
from stages.models import locate

VOCABULARY = ("<blank>", " ", "'", *"abcdefghijklmnopqrstuvwxyz")


@pytest.fixture(scope="module")
def model() -> NgramModel:
    return NgramModel.read(locate("bundled/en-lm", "stages.asr"))


@pytest.fixture(scope="module")
def search(model: NgramModel) -> BeamSearch:
    options = BeamOptions(lm_weight=0.6, word_score=0.0, size=32)
    return BeamSearch(model, Lexicon.build(model, VOCABULARY), options)


def posterior(best: str, second: str = "", certain: float = 0.95) -> NDArray[np.float32]:
    """Log posteriors [T, V]. `best` has a character a frame, - blank; where `second` has
    another, that one is nearly as likely (0.4 to 0.5)."""
    probs = np.full((len(best), len(VOCABULARY)), 0.0001)
    for frame, (one, two) in enumerate(zip(best, second or best, strict=True)):
        ids = [0 if c == "-" else VOCABULARY.index(c) for c in (one, two)]
        probs[frame, ids[1]] = 0.4
        probs[frame, ids[0]] = certain if one == two else 0.5
    return np.log(probs / probs.sum(axis=1, keepdims=True)).astype(np.float32)


def heard(search: BeamSearch, *rows: NDArray[np.float32]) -> list[list[FrameWord]]:
    """The words of each row, decoded as one batch."""
    lengths = np.array([len(row) for row in rows])
    padded = np.full((len(rows), lengths.max(), len(VOCABULARY)), -3.0, np.float32)
    for place, row in zip(padded, rows, strict=True):
        place[: len(row)] = row
    paths = search.best_paths(padded, lengths)
    return [words(row, VOCABULARY, tail=2) for row in along(paths, padded, VOCABULARY)]


def said(found: list[FrameWord]) -> str:
    return " ".join(word.text for word in found)


def test_the_language_model_decides_between_what_sounds_alike(search: BeamSearch) -> None:
    row = posterior("over- th-ear-- ", "over- th-ere-- ")
    assert said(heard(search, row)[0]) == "over there"
    deaf = replace(search, options=replace(search.options, lm_weight=0.0))
    assert said(heard(deaf, row)[0]) == "over thear"


def test_words_before_decide_between_known_words(search: BeamSearch) -> None:
    court = posterior("may it please the cord- ", "may it please the court ")
    assert said(heard(search, court)[0]) == "may it please the court"
    rope = posterior("a spinal cord- ", "a spinal court ")
    assert said(heard(search, rope)[0]) == "a spinal cord"


def test_a_clear_name_that_no_list_holds_comes_through(search: BeamSearch) -> None:
    assert "quelbrandt" not in search.model.words
    row = posterior("my- n-ame is quelbrandt --", certain=0.999)
    assert said(heard(search, row)[0]) == "my name is quelbrandt"


@pytest.mark.parametrize("best", ["--that--'s- all- r-ight---", "too-- m-uch-", "a -- b-o-ok "])
def test_clear_speech_has_the_words_and_times_of_greedy_decoding(
    search: BeamSearch, best: str
) -> None:
    row = posterior(best, certain=0.999)
    best_path = greedy(row[None], np.array([len(row)]), VOCABULARY)[0]
    assert heard(search, row)[0] == words(best_path, VOCABULARY, tail=2)


def test_confidence_is_that_of_the_sound(search: BeamSearch) -> None:
    found = heard(search, posterior("over- th-ear-- ", "over- th-ere-- "))[0]
    assert found[0].confidence > 0.9
    assert 0.4 < found[1].confidence < 0.8


def test_segments_without_speech_or_frames_give_no_words(search: BeamSearch) -> None:
    silence = posterior("-----")
    assert heard(search, silence, posterior(" -  ", certain=0.99), silence[:0]) == [[], [], []]


def test_a_segment_alone_gives_what_it_gives_in_a_batch(search: BeamSearch) -> None:
    rng = np.random.default_rng(0)
    rows = [rng.normal(0, 3, (length, len(VOCABULARY))) for length in (1, 60, 40, 25)]
    rows = [row - np.log(np.exp(row).sum(1, keepdims=True)) for row in rows]
    single = [row.astype(np.float32) for row in rows]
    assert heard(search, *single) == [heard(search, row)[0] for row in single]


def test_probabilities_sum_to_one(model: NgramModel) -> None:
    everything = np.arange(len(model.words))
    history = np.array([BEGIN])
    for word in ("may", "it", "please", "dog", "of"):
        scores, _ = model.score(np.repeat(history, len(everything)), everything)
        assert np.isfinite(scores).all()
        assert np.exp(scores.astype(float)).sum() == pytest.approx(1, abs=0.01)
        _, history = model.score(history, np.array([model.words.index(word)]))


def test_usual_phrases_are_likelier_than_odd_ones(model: NgramModel) -> None:
    def score(text: str) -> float:
        history, total = np.array([BEGIN]), 0.0
        for word in (*(model.words.index(w) for w in text.split()), END):
            gained, history = model.score(history, np.array([word]))
            total += float(gained[0])
        return total

    assert score("i think we should start") > score("i sink we should start") + 3


def test_a_minute_of_posteriors_takes_little_time(search: BeamSearch) -> None:
    rng = np.random.default_rng(1)
    row = posterior(("so i would like to see-- the n-umbers first-- " * 40)[:1500])
    row = row + rng.normal(0, 1, row.shape).astype(np.float32)
    started = time.process_time()
    heard(search, row)
    assert time.process_time() - started < 60 * 0.03


def test_the_stage_takes_either_decoder_and_names_what_is_missing() -> None:
    both = [CtcAsr(CtcParameters(decoder=name)) for name in ("greedy", "beam")]
    assert both[0].weights_digest() != both[1].weights_digest()
    with pytest.raises(ModelError, match="not an NgramModel"):
        CtcAsr(CtcParameters(language_model="bundled/en-ctc")).load()
    CtcAsr(CtcParameters(decoder="greedy", language_model="bundled/absent")).load()
