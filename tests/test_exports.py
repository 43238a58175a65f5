"""Subtitles and texts from records, where timing and length are awkward."""

from __future__ import annotations

from itertools import pairwise

import pytest

from jobs.exports.subtitles import LINE, cues, to_srt
from jobs.exports.text import to_txt
from pipeline.records import Provenance, Sentence, Speaker, SpeakerSegment, Transcript, Turn, Word
from pipeline.transcript import from_json, join_words, to_json


def words(text: str, start: int, step: int = 300) -> tuple[Word, ...]:
    return tuple(
        Word(word, start + i * step, start + (i + 1) * step, 0.9)
        for i, word in enumerate(text.split())
    )


def transcript(*turns: tuple[str, str, int]) -> Transcript:
    """Turns as (speaker, text, start)."""
    made = tuple(
        Turn(speaker, (Sentence(words(text, start)),), {"neutral": 1.0}, "neutral")
        for speaker, text, start in turns
    )
    return Transcript(
        id="m-1",
        uri="/m.wav",
        fingerprint="f",
        duration=100_000,
        language="en",
        speakers=tuple(Speaker(turn.speaker, turn.span.duration, 1) for turn in made),
        turns=made,
        timeline=tuple(SpeakerSegment(*turn.span, turn.speaker) for turn in made),
        provenance=Provenance("default", "0", "k"),
    )


LONG = (
    "this is a rather long sentence, which nobody could read at one glance, since it goes on and "
    "on until the last of its many words has been said by somebody who never draws a breath."
)


def test_a_long_sentence_is_broken_at_clause_ends() -> None:
    made = cues(transcript(("S1", LONG, 0)))
    assert " ".join(cue.text for cue in made) == LONG
    assert len(made) >= 3
    assert made[0].text.endswith(",")
    for block in to_srt(transcript(("S1", LONG, 0))).strip().split("\n\n"):
        lines = block.split("\n")[2:]
        assert 1 <= len(lines) <= 2
        assert all(len(line) <= LINE for line in lines)


def test_cues_of_people_who_speak_at_once_do_not_overlap() -> None:
    made = cues(transcript(("S1", "one two three four.", 0), ("S2", "yes.", 500)))
    assert [cue.speaker for cue in made] == ["S1", "S2"]
    assert all(a.end <= b.start for a, b in pairwise(made))
    assert all(cue.start < cue.end for cue in made)


def test_a_short_cue_stays_for_a_second_where_there_is_room() -> None:
    first, second = cues(transcript(("S1", "Yes.", 0), ("S2", "No.", 5000)))
    assert first.end - first.start == 1000
    assert second.end - second.start == 1000


def test_a_word_longer_than_a_line_is_kept_whole() -> None:
    word = "x" * 60
    assert word in to_srt(transcript(("S1", word, 0)))


def test_hours_in_times() -> None:
    late = transcript(("S1", "Late.", 3_605_120))
    assert "01:00:05,120 --> 01:00:06,120" in to_srt(late)
    assert to_txt(late) == "[1:00:05] S1: Late.\n"


def test_no_speech_gives_empty_exports() -> None:
    assert to_srt(transcript()) == ""
    assert to_txt(transcript()) == ""


def test_the_json_is_read_back_as_it_was() -> None:
    before = transcript(("S1", "Good morning, everyone. How are you?", 0), ("S2", "Fine", 4000))
    after = from_json(to_json(before))
    assert [turn.words for turn in after.turns] == [turn.words for turn in before.turns]
    assert [len(turn.sentences) for turn in after.turns] == [2, 1]
    assert to_json(after) == to_json(before)


@pytest.mark.parametrize(
    ("texts", "joined"),
    [
        (["Good", "morning."], "Good morning."),
        (["你", "好，", "世", "界。"], "你好，世界。"),
        (["用", "Python", "写"], "用 Python 写"),
    ],
)
def test_words_are_joined_as_their_script_is_written(texts: list[str], joined: str) -> None:
    assert join_words([Word(text, 0, 1, 1.0) for text in texts]) == joined
