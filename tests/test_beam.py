"""Decoding with a lexicon and a language model: what the model decides, and what it must not."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import ModelError
from stages.asr.beam import BeamOptions, BeamSearch
from stages.asr.ctc_network import CtcNetwork, NetworkOptions
from stages.asr.decoders import LetterDecoder, LexiconDecoder
from stages.asr.decoding import FrameWord, greedy
from stages.asr.lexicon import Lexicon, read_pronunciations
from stages.asr.ngram import BEGIN, END, NgramModel
from stages.asr.stage import CtcAsr, CtcParameters
from stages.audio.features import FbankOptions
from stages.models import locate, save_model

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
    return LexiconDecoder(search, VOCABULARY, tail=2)(padded, lengths)


def said(found: list[FrameWord]) -> str:
    return " ".join(word.text for word in found)


def test_the_language_model_decides_between_what_sounds_alike(search: BeamSearch) -> None:
    row = posterior("come- h-ear-- ", "come- h-ere-- ")
    assert said(heard(search, row)[0]) == "come here"
    deaf = replace(search, options=replace(search.options, lm_weight=0.0))
    assert said(heard(deaf, row)[0]) == "come hear"


def test_words_before_decide_between_known_words(search: BeamSearch) -> None:
    court = posterior("may it please the cord- ", "may it please the court ")
    assert said(heard(search, court)[0]) == "may it please the court"
    rope = posterior("a spinal cord- ", "a spinal court ")
    assert said(heard(search, rope)[0]) == "a spinal cord"


@pytest.mark.parametrize("best", ["--that--'s- all- r-ight---", "too-- m-uch-", "a -- b-o-ok "])
def test_clear_speech_has_the_words_and_times_of_greedy_decoding(
    search: BeamSearch, best: str
) -> None:
    row = posterior(best, certain=0.999)
    as_spelled = LetterDecoder(greedy, VOCABULARY, tail=2)
    assert heard(search, row) == as_spelled(row[None], np.array([len(row)]))


def test_confidence_is_that_of_the_sound(search: BeamSearch) -> None:
    found = heard(search, posterior("come- h-ear-- ", "come- h-ere-- "))[0]
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


def spoken(lexicon: Path, model: NgramModel, phones: str) -> list[FrameWord]:
    """What a clear sequence of phones, one or more frames each, means."""
    pronunciations = read_pronunciations(lexicon)
    tokens = sorted({t for ways in pronunciations.values() for way in ways for t in way})
    vocabulary = ("<blank>", *tokens)
    frames = [0 if phone == "-" else vocabulary.index(phone) for phone in phones.split()]
    probs = np.full((1, len(frames), len(vocabulary)), 0.0001)
    probs[0, np.arange(len(frames)), frames] = 0.99
    log_probs = np.log(probs).astype(np.float32)
    known = Lexicon.build(model, vocabulary, pronunciations)
    search = BeamSearch(model, known, BeamOptions(0.6, 0.0, 64))
    return LexiconDecoder(search, vocabulary, tail=2)(log_probs, np.array([len(frames)]))[0]


@pytest.fixture
def homophones(tmp_path: Path) -> Path:
    path = tmp_path / "lexicon.txt"
    path.write_text(
        "over OW V ER\nthere DH EH R\ntheir DH EH R\nidea AY D IY AH\n"
        "is IH Z\nno N OW\nknow N OW\noh OW\ni AY\n"
    )
    return path


@pytest.mark.parametrize(
    ("phones", "text"),
    [
        ("OW V ER - DH EH R - -", "over there"),
        ("DH EH EH R AY D - IY AH", "their idea"),
        ("AY AY - N OW - DH EH R IH Z", "i know there is"),
        ("- N OW - OW -", "no oh"),  # the same phone twice, a blank between
    ],
)
def test_words_of_one_sound_are_told_apart_by_the_words_around(
    homophones: Path, model: NgramModel, phones: str, text: str
) -> None:
    assert said(spoken(homophones, model, phones)) == text


def test_words_of_phones_keep_their_frames(homophones: Path, model: NgramModel) -> None:
    found = spoken(homophones, model, "- OW V ER ER DH - EH R - - - - AY")
    assert [(w.text, w.start, w.end) for w in found] == [
        ("over", 1, 5),
        ("there", 5, 11),
        ("i", 13, 16),
    ]


def test_a_lexicon_without_phones_is_named(tmp_path: Path) -> None:
    (tmp_path / "lexicon.txt").write_text("over OW V ER\nthere\n")
    with pytest.raises(ModelError, match=r"lexicon.txt:2: no pronunciation .* 'there'"):
        read_pronunciations(tmp_path / "lexicon.txt")


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


def test_the_stage_names_the_decoder_that_phones_need_and_a_wrong_language_model() -> None:
    with pytest.raises(ModelError, match=r"set asr\.decoder=beam"):
        CtcAsr(CtcParameters(decoder="greedy")).load()
    with pytest.raises(ModelError, match="not an NgramModel"):
        CtcAsr(CtcParameters(language_model="bundled/en-ctc")).load()


def test_an_acoustic_model_of_letters_takes_every_decoder(tmp_path: Path) -> None:
    network = CtcNetwork(NetworkOptions(len(VOCABULARY), width=16, blocks=1))
    config = {"network": asdict(network.options), "frontend": asdict(FbankOptions())}
    save_model(tmp_path, network.state_dict(), config | {"onset_ms": 0, "tail": 2})
    (tmp_path / "tokens.json").write_text(json.dumps(VOCABULARY))
    digests = set()
    for decoder in ("greedy", "prefix", "beam"):
        stage = CtcAsr(CtcParameters(model=str(tmp_path), decoder=decoder))
        stage.load()
        digests.add(stage.weights_digest())
    assert len(digests) == 2  # the language model matters to the beam alone
    CtcAsr(
        CtcParameters(model=str(tmp_path), decoder="greedy", language_model="bundled/absent")
    ).load()
