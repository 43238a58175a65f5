"""The language model's recipe: mixing models of several texts, and leaving n-grams out."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from stages.asr.ngram import BEGIN, NgramModel
from stages.models import ModelFolder
from training.books import sentences
from training.language_model import SPECIAL, encode, estimate, save, unseen_words
from training.language_model_mix import Estimate, mix, mixing_weights, perplexity, prune
from training.language_model_published import published

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


# a published model ------------------------------------------------------------------------


def trie(path: Path) -> None:
    """CMU Sphinx's layout: `a b` and `b c`, `a b c` and `d b c`, of scores log(0.5), log(0.4),
    log(0.8) and log(0.7), stored under their last word."""
    words = ["a", "b", "c", "d", "</s>", "<s>"]
    scores = [math.log(p) / math.log(1.0001) for p in (0.5, 0.4, 0.8, 0.7)]
    tables = np.zeros((3, 1 << 16), np.float32)
    tables[0, 7:9] = scores[:2]
    tables[2, 5:7] = scores[2:]
    entry = np.dtype([("score", "<f4"), ("backoff", "<f4"), ("next", "<u4")])
    unigrams = np.zeros(7, entry)
    unigrams["score"] = math.log(0.1) / math.log(1.0001)
    unigrams["next"] = [0, 0, 1, 2, 2, 2, 2]  # one pair ends in b, one in c
    # 3 bits a word, 16 a back-off, 16 a score, 2 where the triples begin
    pairs = [(0, 0, 7, 0), (1, 0, 8, 0)]
    inner = packed((3, 16, 16, 2), pairs)
    outer = packed((3, 16), [(0, 5), (3, 6)])
    head = b"Trie Language Model\x03" + struct.pack("<4I", 6, 2, 2, 1)
    names = "\0".join(words).encode() + b"\0"
    body = tables.tobytes() + unigrams.tobytes() + inner + outer
    path.write_bytes(head + body + struct.pack("<I", len(names)) + names)


def packed(sizes: Sequence[int], records: Sequence[Sequence[int]]) -> bytes:
    """Records of fields of so many bits one after the other, the lowest bit first, with room for
    one record more and eight bytes."""
    number, at = 0, 0
    for record in records:
        for size, value in zip(sizes, record, strict=True):
            number |= value << at
            at += size
    return number.to_bytes((at + sum(sizes) + 7) // 8 + 8, "little")


def test_a_published_model_gives_its_own_chances_to_our_words(tmp_path: Path) -> None:
    trie(tmp_path / "en.lm.bin")
    words = (*SPECIAL, "a", "b", "c", "e")  # ours has no d, and theirs no e
    unseen = np.full(len(words), 1 / len(words))
    model = published(tmp_path / "en.lm.bin", words, unseen).model
    a, b = words.index("a"), words.index("b")
    ids = np.arange(len(words))

    def chances(*history: int) -> dict[str, float]:
        after = np.array([history[0]])
        for word in history[1:]:
            _, after = model.score(after, np.array([word]))
        found = np.exp(model.score(np.repeat(after, len(ids)), ids)[0].astype(float))
        assert found.sum() == pytest.approx(1, abs=1e-5)
        return dict(zip(words, found.tolist(), strict=True))

    assert chances(a)["b"] == pytest.approx(0.5, abs=1e-4)
    assert chances(b)["c"] == pytest.approx(0.4, abs=1e-4)
    assert chances(a, b)["c"] == pytest.approx(0.8, abs=1e-4)
    assert 0 < chances(a)["e"] < chances(a)["a"]
    assert len(model.trigrams) == 1  # of d b c nothing is left


def test_a_file_of_another_kind_is_named(tmp_path: Path) -> None:
    (tmp_path / "en.arpa").write_text("\\data\\\n")
    with pytest.raises(ValueError, match=r"en\.arpa: not a trigram model of CMU Sphinx"):
        published(tmp_path / "en.arpa", SPECIAL, np.full(3, 1 / 3))
