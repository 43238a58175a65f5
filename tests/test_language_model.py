"""The language model's recipe: mixing models of several texts, and leaving n-grams out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stages.asr.ngram import BEGIN, NgramModel
from stages.models import ModelFolder
from training.books import sentences
from training.language_model import SPECIAL, encode, estimate, save, unseen_words
from training.language_model_mix import Estimate, mix, mixing_weights, perplexity, prune

SEA = ["the ship went to sea", "the old ship went to sea again", "the sea was calm", "a calm sea"]
LAW = ["the court will hear the case", "the court was right", "counsel may hear the court"]
WORDS = (*SPECIAL, *sorted({word for line in SEA + LAW for word in line.split()}))


def text_model(lines: list[str]) -> Estimate:
    unseen = unseen_words(WORDS, dict.fromkeys(WORDS[len(SPECIAL) :], 1))
    return estimate(encode([line.split() for line in lines], WORDS), WORDS, unseen)


@pytest.fixture
def mixture() -> Estimate:
    return mix([text_model(SEA), text_model(LAW)], np.array([0.7, 0.3]))


def after(model: NgramModel, said: str) -> np.ndarray:
    """P(word | said) of every word."""
    history = np.array([BEGIN])
    for word in said.split():
        _, history = model.score(history, np.array([WORDS.index(word)]))
    words = np.arange(len(WORDS))
    return np.exp(model.score(np.repeat(history, len(WORDS)), words)[0])


@pytest.mark.parametrize("said", ["", "the", "the ship", "counsel may", "calm court"])
def test_probabilities_after_a_history_add_up(mixture: Estimate, said: str) -> None:
    assert after(mixture.model, said).sum() == pytest.approx(1, abs=1e-4)
    assert after(prune(mixture, 1e-3), said).sum() == pytest.approx(1, abs=1e-4)


def test_weights_follow_the_development_text() -> None:
    models = [text_model(SEA).model, text_model(LAW).model]
    sea, law = mixing_weights(models, [encode([["the", "old", "ship", "was", "calm"]], WORDS)])
    assert sea > 0.9
    assert sea + law == pytest.approx(1)


def test_a_mixture_foretells_both_texts(mixture: Estimate) -> None:
    for lines, other in ((SEA, LAW), (LAW, SEA)):
        row = encode([line.split() for line in lines], WORDS)
        assert perplexity(mixture.model, row) < perplexity(text_model(other).model, row)


def test_pruning_keeps_what_matters_most(mixture: Estimate) -> None:
    row = encode([line.split() for line in SEA + LAW], WORDS)
    pruned = prune(mixture, 1e-3)
    assert 0 < len(pruned.trigrams) < len(mixture.model.trigrams)
    before = perplexity(mixture.model, row)
    assert before < perplexity(pruned, row) < 1.5 * before


def test_a_saved_model_scores_alike(mixture: Estimate, tmp_path: Path) -> None:
    save(mixture.model, tmp_path)
    read = NgramModel.read(ModelFolder(tmp_path))
    np.testing.assert_allclose(after(read, "the ship"), after(mixture.model, "the ship"), rtol=0.01)


def test_sentences_of_books_are_as_they_would_be_said() -> None:
    text = "Mr. Smith's na\u00efve. He was 14 -- in 1776!"
    assert list(sentences(iter([text]))) == [
        "mister smith's naive",
        "he was fourteen in seventeen seventy six",
    ]
