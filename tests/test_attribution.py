"""Word attribution: who said which word, and how words become turns."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from pydantic import ValidationError

from pipeline.records import Sentence, SpeakerSegment, Turn, Word
from pipeline.stage import Block, Inputs
from stages.attribution.stage import AttributionParameters, WordAttribution

A, B, C = "S1", "S2", "S3"


class Silence:
    """Attribution never listens."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def blocks(self) -> Iterator[Block]:
        return iter(())


def sentence(start: int, text: str, each: int = 300) -> Sentence:
    """Words of equal length without pauses."""
    return Sentence(
        tuple(
            Word(word, start + at * each, start + (at + 1) * each, 0.9)
            for at, word in enumerate(text.split())
        )
    )


def attribute(
    sentences: list[Sentence], segments: list[tuple[int, int, str]], **parameters: int
) -> tuple[list[tuple[str, str]], list[str]]:
    """(speaker, text) of each turn, and the notes."""
    timeline = tuple(SpeakerSegment(*segment) for segment in segments)
    given = Inputs(Silence(), {"punctuation": tuple(sentences), "clustering": timeline})
    turns = WordAttribution(AttributionParameters(**parameters)).run(given)
    return [(turn.speaker, text(turn)) for turn in turns], given.notes


def text(turn: Turn) -> str:
    return " ".join(word.text for word in turn.words)


def test_no_words_give_no_turns() -> None:
    assert attribute([], [(0, 1000, A)]) == ([], [])
    assert attribute([], []) == ([], [])


def test_consecutive_sentences_of_a_speaker_are_one_turn() -> None:
    turns, notes = attribute(
        [sentence(0, "Good morning."), sentence(700, "Shall we start?"), sentence(2000, "Yes.")],
        [(0, 1700, A), (1900, 2400, B)],
    )
    assert turns == [(A, "Good morning. Shall we start?"), (B, "Yes.")]
    assert notes == []


def test_a_long_pause_starts_a_new_turn() -> None:
    said = [sentence(0, "First."), sentence(4000, "Second.")]
    assert len(attribute(said, [(0, 5000, A)], turn_pause_ms=5000)[0]) == 1
    assert len(attribute(said, [(0, 5000, A)], turn_pause_ms=2000)[0]) == 2


def test_a_word_goes_to_the_largest_overlap() -> None:
    turns, _ = attribute([sentence(0, "one two three four", 1000)], [(0, 2400, A), (2400, 4000, B)])
    assert turns == [(A, "one two"), (B, "three four")]


def test_overlaps_with_the_same_speaker_add_up() -> None:
    turns, _ = attribute(
        [sentence(0, "word", 1000)], [(0, 300, A), (300, 700, B), (700, 1000, A)], flip_words=0
    )
    assert turns == [(A, "word")]


def test_overlapping_segments_of_different_speakers() -> None:
    turns, _ = attribute([sentence(0, "a b", 1000)], [(0, 2000, A), (900, 2100, B)])
    assert turns == [(A, "a b")]


def test_a_sentence_is_cut_where_the_speaker_changes() -> None:
    turns, _ = attribute(
        [sentence(0, "so what do you think I think that it is fine.")],
        [(0, 1500, A), (1500, 3300, B)],
    )
    assert turns == [(A, "so what do you think."), (B, "I think that it is fine.")]


@pytest.mark.parametrize(
    ("said", "cut"),
    [
        ("So what, then we agree?", ["So what.", "Then we agree?"]),
        ("so what then we agree", ["so what", "then we agree"]),
        ("So what then we agree", ["So what", "Then we agree"]),
        (
            "\u597d\uff0c \u6211 \u4eec \u8d70 \u5427\u3002",
            ["\u597d\uff0c \u6211\u3002", "\u4eec \u8d70 \u5427\u3002"],
        ),
    ],
)
def test_both_parts_of_a_cut_sentence_are_written_as_sentences(said: str, cut: list[str]) -> None:
    turns, _ = attribute([sentence(0, said)], [(0, 600, A), (600, 1500, B)])
    assert [text for _, text in turns] == cut


def test_a_change_moves_to_the_sentence_end_nearby() -> None:
    said = [sentence(0, "Is it done?"), sentence(900, "It is not done.")]
    late = [(0, 1250, A), (1250, 2100, B)]
    early = [(0, 600, A), (600, 2100, B)]
    expected = [(A, "Is it done?"), (B, "It is not done.")]
    assert attribute(said, late)[0] == expected
    assert attribute(said, early)[0] == expected
    assert attribute(said, late, snap_ms=0)[0] == [(A, "Is it done? It."), (B, "Is not done.")]


def test_a_moved_change_leaves_a_short_answer_its_words() -> None:
    said = [sentence(0, "Ready?"), sentence(300, "Yes."), sentence(600, "Then we go.")]
    turns, _ = attribute(said, [(0, 300, A), (300, 600, B), (600, 1500, A)])
    assert turns == [(A, "Ready?"), (B, "Yes."), (A, "Then we go.")]


def test_a_short_flip_inside_a_sentence_is_smoothed() -> None:
    said = [sentence(0, "we will have to look at that again next week", 250)]
    segments = [(0, 1000, A), (1000, 1250, B), (1250, 2500, A)]
    assert attribute(said, segments)[0] == [(A, "we will have to look at that again next week")]
    assert len(attribute(said, segments, flip_words=0)[0]) == 3


def test_an_answer_between_two_sentences_is_no_flip() -> None:
    said = [sentence(0, "Agreed?", 250), sentence(250, "Yes.", 250), sentence(500, "Good.", 250)]
    turns, _ = attribute(said, [(0, 250, A), (250, 500, B), (500, 750, A)])
    assert [speaker for speaker, _ in turns] == [A, B, A]


def test_a_word_outside_every_segment_goes_to_the_nearest_and_is_noted() -> None:
    turns, notes = attribute(
        [
            sentence(0, "before.", 100),
            sentence(5000, "middle.", 100),
            sentence(9000, "after.", 100),
        ],
        [(400, 2000, A), (5600, 8000, B)],
    )
    assert turns == [(A, "before."), (B, "middle. after.")]
    assert len(notes) == 1
    assert "3 of 3 words" in notes[0]
    assert "1000 ms" in notes[0]


def test_without_speaker_segments_all_is_s1_and_noted() -> None:
    turns, notes = attribute([sentence(0, "hello there.")], [])
    assert turns == [("S1", "hello there.")]
    assert "no speaker segments" in notes[0]


def test_speakers_are_numbered_by_their_first_word() -> None:
    turns, _ = attribute(
        [sentence(1000, "Hello."), sentence(2000, "Hi."), sentence(3000, "Hey.")],
        [(0, 400, A), (900, 1500, C), (1900, 2500, B), (2900, 3500, A)],
    )
    assert turns == [("S1", "Hello."), ("S2", "Hi."), ("S3", "Hey.")]


def test_a_word_without_length_is_attributed() -> None:
    said = [Sentence((Word("a", 500, 500, 1.0), Word("b.", 1500, 1500, 1.0)))]
    turns, notes = attribute(said, [(0, 1000, A), (1000, 2000, B)], snap_ms=0)
    assert turns == [(A, "a."), (B, "b.")]
    assert notes == []


def test_every_word_is_kept_once_and_in_order() -> None:
    random = np.random.default_rng(0)
    said, at = [], 0
    for count in random.integers(1, 12, size=300):
        said.append(sentence(at, " ".join(f"w{at + i * 300}" for i in range(count))))
        at = said[-1].span.end + int(random.integers(0, 900))
    edges = np.unique(random.integers(0, at, size=400)).tolist()
    segments = [(one, two, f"S{random.integers(1, 5)}") for one, two in pairwise(edges)]
    turns, _ = attribute(said, segments)
    spoken = " ".join(words for _, words in turns)
    assert spoken == " ".join(word.text for one in said for word in one.words)


def test_a_day_of_words_takes_seconds() -> None:
    count, pieces = 260_000, 50_000
    said = [sentence(at * 320, "a b c d e f g h i j.", 300) for at in range(0, count, 10)]
    width = count * 320 // pieces
    segments = [(at * width, (at + 1) * width, f"S{at * 7 % 13 + 1}") for at in range(pieces)]
    started = time.process_time()
    turns, _ = attribute(said, segments)
    assert time.process_time() - started < 15
    assert sum(len(words.split()) for _, words in turns) == count


def test_wrong_parameters_are_named() -> None:
    with pytest.raises(ValidationError, match="snap"):
        AttributionParameters.model_validate({"snap": 3})
    with pytest.raises(ValidationError, match="flip_ms"):
        AttributionParameters(flip_ms=-1)
