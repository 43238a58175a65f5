"""Punctuation and case: readable sentences, words that keep their times, peers and scores."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from benchmarks.punctuation import NoAudio, condition, punctuate, score, with_errors
from pipeline.errors import ModelError
from pipeline.records import Sentence, Word
from pipeline.stage import Inputs
from stages.models import save_model
from stages.punctuation.casing import written
from stages.punctuation.ct_transformer import CtTransformer, CtTransformerConfig
from stages.punctuation.marks import MarkSet, decide
from stages.punctuation.pauses import usual_ms
from stages.punctuation.stage import CtTransformerPunctuation, PunctuationParameters
from stages.punctuation.windows import by_depth, deepest, window_starts
from training.ami_words import Token
from training.punctuation_text import documents, label, part
from training.punctuation_timed import heard, timed_meetings, without_times

CHINESE_MARKS = ("<unk>", "_", "\uff0c", "\u3002", "\uff1f", "\u3001")


def loaded(**parameters: object) -> CtTransformerPunctuation:
    stage = CtTransformerPunctuation(PunctuationParameters.model_validate(parameters))
    stage.load()
    return stage


@pytest.fixture(scope="module")
def stage() -> CtTransformerPunctuation:
    return loaded()


def spoken(text: str, word_ms: int = 300) -> tuple[Word, ...]:
    return tuple(
        Word(word, word_ms * index, word_ms * (index + 1), 0.5 + 0.01 * (index % 50))
        for index, word in enumerate(text.split())
    )


def paced(text: str) -> tuple[Word, ...]:
    """Words one right after the other as they are usually said, but 800 ms later after a *."""
    words: list[Word] = []
    at = 0
    for word in text.split():
        if word == "*":
            at += 800
        else:
            lasts = int(usual_ms([word])[0])
            words.append(Word(word, at, at + lasts, 0.9))
            at += lasts
    return tuple(words)


def run(stage: CtTransformerPunctuation, words: tuple[Word, ...]) -> tuple[Sentence, ...]:
    return stage.run(Inputs(audio=NoAudio(), artifacts={"asr": words}))


def read(stage: CtTransformerPunctuation, text: str) -> str:
    return " ".join(word.text for sentence in run(stage, spoken(text)) for word in sentence.words)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("how are you i'm fine thank you", "How are you? I'm fine. Thank you."),
        (
            "well mister smith what is your answer to that",
            "Well, Mister Smith, what is your answer to that?",
        ),
        (
            "yes your honor i think that is correct",
            "Yes, Your Honor, I think that is correct.",
        ),
        (
            "i don't agree with that we should ask john before we decide",
            "I don't agree with that. We should ask John before we decide.",
        ),
        ("do you have any questions no i don't", "Do you have any questions? No, I don't."),
    ],
)
def test_known_sentences_read_well(
    stage: CtTransformerPunctuation, said: str, expected: str
) -> None:
    assert read(stage, said) == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            "i think so too * much time is lost on this",
            "I think so too. Much time is lost on this.",
        ),
        (
            "we could ask the board on monday * we will know more",
            "We could ask the board on Monday. We will know more.",
        ),
        (
            "i think so too much time is lost on this",
            "I think so too much time is lost on this.",
        ),
    ],
)
def test_pauses_tell_where_a_sentence_ends(
    stage: CtTransformerPunctuation, said: str, expected: str
) -> None:
    sentences = run(stage, paced(said))
    assert " ".join(word.text for sentence in sentences for word in sentence.words) == expected


def test_where_a_word_ends_does_not_matter(stage: CtTransformerPunctuation) -> None:
    """Aligners differ in that; what counts is when the next one begins."""
    words = paced("well i think so too * much time is lost on this * don't you think so")
    short = tuple(Word(w.text, w.start, w.start + 40, w.confidence) for w in words)
    texts = [[w.text for s in run(stage, given) for w in s.words] for given in (words, short)]
    assert texts[0] == texts[1]


def test_words_keep_number_order_times_and_letters(stage: CtTransformerPunctuation) -> None:
    words = spoken("so um yeah i said to john let's go on with the budget " * 60, word_ms=270)
    result = [word for sentence in run(stage, words) for word in sentence.words]
    assert [(w.start, w.end, w.confidence) for w in result] == [
        (w.start, w.end, w.confidence) for w in words
    ]
    assert [w.text.lower().rstrip(",.?") for w in result] == [w.text for w in words]


def test_every_sentence_begins_with_a_capital_and_ends_with_a_mark(
    stage: CtTransformerPunctuation,
) -> None:
    sentences = run(stage, spoken("okay so what do we do now i don't know let's see " * 20))
    assert len(sentences) > 10
    for sentence in sentences:
        assert sentence.words[0].text[0].isupper()
        assert sentence.words[-1].text[-1] in ".?"
        assert all(word.text[-1] not in ".?" for word in sentence.words[:-1])


def test_no_words_no_sentences(stage: CtTransformerPunctuation) -> None:
    assert run(stage, ()) == ()


def test_a_single_word_is_a_sentence(stage: CtTransformerPunctuation) -> None:
    (sentence,) = run(stage, (Word("yes", 500, 900, 0.9),))
    assert [(word.text, word.start, word.end) for word in sentence.words] == [("Yes.", 500, 900)]


def test_a_long_pause_ends_a_sentence(stage: CtTransformerPunctuation) -> None:
    words = spoken("we went to the")
    late = tuple(Word(w.text, w.start + 9000, w.end + 9000, 1.0) for w in spoken("house again"))
    ends = [sentence.words[-1].start for sentence in run(stage, words + late)]
    assert words[-1].start in ends
    together = run(loaded(sentence_pause=20000), words + late)
    assert words[-1].start not in [sentence.words[-1].start for sentence in together]


def test_sentences_without_any_mark_are_cut_at_the_limit(stage: CtTransformerPunctuation) -> None:
    words = spoken("the of " * 400)
    lengths = [len(sentence.words) for sentence in run(loaded(max_words=40), words)]
    assert sum(lengths) == 800
    assert max(lengths) <= 40


def test_a_cut_falls_where_a_mark_is_likeliest() -> None:
    scores = np.full((30, 4), -8.0, np.float32)
    scores[:, 0] = -0.01
    scores[17] = np.log([0.6, 0.3, 0.05, 0.05])
    chosen = decide(scores, np.zeros(30, bool), 20, MarkSet("_,.?"))
    assert np.flatnonzero(chosen).tolist() == [17, 29]


@pytest.mark.parametrize("count", [1, 2, 7, 127, 128, 129, 300, 1000])
def test_the_deepest_window_gives_each_word_once_and_in_context(count: int) -> None:
    length = min(128, count)
    starts = window_starts(count, length)
    shares = deepest(starts, length, count)
    words = starts[:, None] + np.arange(length)
    assert sorted(words[shares > 0].tolist()) == list(range(count))
    assert not shares[1:, : min(16, length // 4)].any()
    assert not shares[:-1, length - min(16, length // 4) :].any()


@pytest.mark.parametrize("count", [1, 2, 7, 127, 128, 129, 300, 1000])
def test_all_readings_of_a_word_count_together_as_one(count: int) -> None:
    length = min(128, count)
    starts = window_starts(count, length, readings=4)
    shares = by_depth(starts, length, count)
    words = starts[:, None] + np.arange(length)
    assert np.bincount(words.ravel(), shares.ravel()) == pytest.approx(np.ones(count))
    inner = np.bincount(words.ravel())[length : count - length]
    assert (inner >= 4).all()
    assert (shares[1:, 0] <= shares[1:, length // 2]).all()


def test_batch_size_changes_nothing(stage: CtTransformerPunctuation) -> None:
    words = spoken("well i think so but what about the other court of appeals case " * 100)
    assert run(stage, words) == run(loaded(batch_size=1), words)
    assert run(stage, words) == run(loaded(batch_size=3), words)


def test_far_words_do_not_matter(stage: CtTransformerPunctuation) -> None:
    begin = "is that right yes it is so the judge of the district court said no to them " * 24
    short, long = read(stage, begin), read(stage, begin + "what happened next i do not know " * 300)
    assert long.split()[:250] == short.split()[:250]


def test_written_forms() -> None:
    lexicon = {"mcdonald": "McDonald"}
    assert written("mcdonald", "Capitalised", lexicon) == "McDonald"
    assert written("mcdonald's", "Capitalised", lexicon) == "McDonald's"
    assert written("i'll", "lower", lexicon) == "I'll"
    assert written("fbi's", "UPPER", lexicon) == "FBI's"
    assert written("Kept", "", lexicon) == "Kept"


def test_transcripts_become_what_a_recogniser_hears() -> None:
    turn = (
        "Mr. O'Brien paid $1,500 in 1956 -- didn't he? (Laughter) The U.S. Court's 14th, no; I --"
    )
    text = label([[turn]])
    assert " ".join(text.words) == (
        "mr o'brien paid one thousand five hundred dollars in nineteen fifty six didn't he "
        "the u s court's fourteenth no i"
    )
    marked = {w: m for w, m in zip(text.words, text.marks, strict=True) if m}
    # A dash is a comma; "U.S." may or may not end a sentence; nobody knows how "I --" went on.
    assert marked == {"six": 1, "he": 3, "s": -1, "fourteenth": 1, "no": 2, "i": -1}
    raised = {w for w, c in zip(text.words, text.cases, strict=True) if c}
    assert raised == {"mr", "o'brien", "the", "u", "s", "court's", "i"}
    assert text.written == {"O'Brien": 1}


def test_scores_on_unseen_meetings(stage: CtTransformerPunctuation, shared_data: Path) -> None:
    text = without_times(label(part(documents(shared_data, "meetings"), "held-out")))
    result = score(stage, *condition(text))
    assert result.marks[","] > 0.33
    assert result.marks["."] > 0.60
    assert result.marks["?"] > 0.35
    assert result.case > 0.89
    noisy = score(stage, *condition(with_errors(text, seed=1)))
    assert noisy.marks["."] > 0.53
    assert noisy.case > 0.88


def test_scores_on_unseen_people_with_times(
    stage: CtTransformerPunctuation, shared_data: Path
) -> None:
    timed = timed_meetings(shared_data, "held-out")
    result = score(stage, *condition(timed))
    assert result.marks[","] > 0.44
    assert result.marks["."] > 0.66
    assert result.marks["?"] > 0.52
    untold = score(stage, *condition(without_times(timed.text)))
    assert result.marks["."] > untold.marks["."] + 0.03


def test_of_two_at_once_the_longer_one_is_heard() -> None:
    people = {
        "A": [Token(0, 400, "We"), Token(400, 900, "should"), Token(900, 2000, "go"),
              Token(2000, 2000, "."), Token(4000, 4300, "Right"), Token(4300, 4300, ".")],
        "B": [Token(1000, 1300, "Yeah"), Token(1300, 1300, "."), Token(2100, 2500, "When"),
              Token(2500, 2500, "?"), Token(4050, 5000, "Tomorrow"), Token(5000, 5000, ".")],
    }  # fmt: skip
    said = [" ".join(token.text for token in stretch.tokens) for stretch in heard(people)]
    assert said == ["We should go .", "When ?", "Tomorrow ."]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch's threads wait for each other, which on a busy machine measures the others."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_fifty_thousand_words_in_reasonable_time(stage: CtTransformerPunctuation) -> None:
    words = spoken("and then we asked the board what it thinks about the new plan " * 4000)
    began = time.process_time()
    assert len(punctuate(stage, words[:50000])) == 50000
    assert time.process_time() - began < 20


def test_published_layout_loads_without_conversion(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tokens = ["<blank>", "<unk>", "\u6211", "\u4eec", "\u597d", "hello"]
    config = CtTransformerConfig(len(tokens), CHINESE_MARKS, (), 32, 32, 4, 64, 2)
    network = CtTransformer(config)
    save_model(tmp_path, {}, config.to_yaml())
    (tmp_path / "model.safetensors").unlink()
    torch.save(network.state_dict(), tmp_path / "model.pt")
    (tmp_path / "tokens.json").write_text(str(tokens).replace("'", '"'))
    words = spoken("\u6211 \u4eec hello unheard \u597d")
    result = [
        word for sentence in run(loaded(model=str(tmp_path)), words) for word in sentence.words
    ]
    assert [word.start for word in result] == [word.start for word in words]
    assert result[-1].text in ("\u597d\u3002", "\u597d\uff1f")


def test_a_model_of_other_pauses_is_refused(tmp_path: Path) -> None:
    config = CtTransformerConfig(3, ("_", "."), pause_classes=7).to_yaml()
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "tokens.json").write_text('["<unk>", "a", "b"]')
    with pytest.raises(ModelError, match="pause_classes is 7"):
        loaded(model=str(tmp_path))


def test_a_folder_without_tokens_is_named(tmp_path: Path) -> None:
    config = CtTransformerConfig(3, ("_", ".")).to_yaml()
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(ModelError, match=r"no tokens\.json"):
        loaded(model=str(tmp_path))
