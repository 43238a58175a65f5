"""Subtitles: what is on the screen, for how long, and what players make of the files."""

from __future__ import annotations

import html
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise, zip_longest
from pathlib import Path

import av
import pytest
import webvtt

from jobs.exports.breaks import width
from jobs.exports.cues import Cue, cues
from jobs.exports.subtitles import to_ass, to_srt, to_vtt
from pipeline.records import Sentence, Transcript, Turn, Word
from pipeline.transcript import from_json
from tests.conftest import ROOT
from tests.test_exports import AWKWARD, of_turns, transcript

LINE = 42
SPEED = 17

LONG = (
    "this is a rather long sentence, which nobody could read at one glance, since it goes on and "
    "on until the last of its many words has been said by somebody who never draws a breath."
)
CHINESE = "各位早上好，我们今天有四件事情要讨论，希望在十一点之前结束。比我想象的要好，"


def said(speaker: str, texts: Sequence[str], start: int = 0, step: int = 300) -> Turn:
    spoken = (Word(t, start + i * step, start + (i + 1) * step, 0.9) for i, t in enumerate(texts))
    return Turn(speaker, (Sentence(tuple(spoken)),))


def meeting_as_said() -> Transcript:
    """The demo meeting's reference: every word when it is really said, people over each other."""
    lines = (ROOT / "demo" / "meeting.words.jsonl").read_text().splitlines()
    by_speaker: defaultdict[str, list[list[Word]]] = defaultdict(list)
    for row in map(json.loads, lines):
        stretches = by_speaker[row["speaker"]]
        if not stretches or row["start"] - stretches[-1][-1].end > 1500:
            stretches.append([])
        stretches[-1].append(Word(row["text"], row["start"], row["end"], 1.0))
    turns = [
        Turn(speaker, (Sentence(tuple(stretch)),))
        for speaker, stretches in by_speaker.items()
        for stretch in stretches
    ]
    return of_turns(*sorted(turns, key=lambda turn: turn.span))


def for_three_hours(meeting: Transcript) -> Transcript:
    return of_turns(
        *(
            Turn(t.speaker, (Sentence(tuple(shifted(word, n * 330_000) for word in t.words)),))
            for n in range(33)
            for t in meeting.turns
        )
    )


def shifted(word: Word, by: int) -> Word:
    return Word(word.text, word.start + by, word.end + by, word.confidence)


def quick_exchange() -> Transcript:
    """Turns of one word, 50 ms apart."""
    return of_turns(*(said(f"S{n % 2 + 1}", ["yes."], n * 250, step=200) for n in range(15)))


MEETINGS = {
    "as said": meeting_as_said(),
    "three hours": for_three_hours(meeting_as_said()),
    "twice as fast as anyone speaks": of_turns(said("S1", LONG.split() * 3, step=100)),
    "one word a turn": quick_exchange(),
    "two at once": of_turns(said("S1", LONG.split()), said("S2", LONG.split())),
    "three begin at once": of_turns(*(said(f"S{n}", LONG.split()[:9]) for n in range(3))),
    "interrupted": of_turns(
        said("S1", LONG.split() * 3), *(said("S2", ["yes."], 1234 + 3000 * n) for n in range(8))
    ),
    "words without a duration": of_turns(said("S1", LONG.split(), step=0)),
    "Chinese": of_turns(said("张伟", CHINESE * 3)),
    "Chinese in one word": of_turns(said("张伟", [CHINESE * 3], step=30_000)),
    "a very long word": of_turns(said("S1", ["a", "x" * 60, "b"])),
    "a very long name": of_turns(said("The Right Honourable Member for Ely " * 3, LONG.split())),
    "no space in a line for name and word": of_turns(said("n" * 24, ["w" * 40, "w" * 15])),
    "no speech": of_turns(),
}


@pytest.mark.parametrize("name", MEETINGS)
def test_cues_are_readable_whatever_is_said(name: str) -> None:
    check(MEETINGS[name])


def test_cues_of_a_real_transcript_are_readable(finished: Path) -> None:
    (record,) = (finished / "transcripts").glob("*.json")
    meeting = from_json(json.loads(record.read_bytes()))
    check(meeting)
    speeds = [speed(cue) for cue in cues(meeting)]
    assert sum(value > SPEED for value in speeds) < 0.15 * len(speeds)
    assert max(speeds) < 1.1 * SPEED


def check(meeting: Transcript) -> None:
    """What holds for every cue of every meeting."""
    made = cues(meeting)
    for cue, following in zip_longest(made, made[1:]):
        assert 1 <= len(cue.lines) <= 2
        assert cue.lines[0].named
        for line in cue.lines:
            assert width(line.shown) <= LINE or width(line.words[0].text) > LINE
        assert cue.start < cue.end
        if following is None or cue.end < following.start:
            assert cue.end - cue.start >= 1000
            assert speed(cue) <= SPEED
        else:
            assert cue.end == following.start
    assert_every_word_is_shown(meeting, made)


def assert_every_word_is_shown(meeting: Transcript, made: Sequence[Cue]) -> None:
    for speaker in {turn.speaker for turn in meeting.turns}:
        spoken = [
            word.text for turn in meeting.turns if turn.speaker == speaker for word in turn.words
        ]
        lines = [line for cue in made for line in cue.lines if line.speaker == speaker]
        assert "".join(word.text for line in lines for word in line.words) == "".join(spoken)


def speed(cue: Cue) -> float:
    """Columns a second, names included."""
    return sum(width(line.shown) for line in cue.lines) * 1000 / (cue.end - cue.start)


def shown(meeting: Transcript) -> list[list[str]]:
    return [[line.shown for line in cue.lines] for cue in cues(meeting)]


def test_a_long_sentence_is_broken_at_clause_ends() -> None:
    ends = [cue.lines[-1].text for cue in cues(transcript(("S1", LONG, 0)))]
    assert len(ends) == 3
    assert ends[0].endswith(",") and ends[2].endswith("breath.")


def test_most_breaks_are_after_a_mark_or_before_a_word_that_leads_on() -> None:
    """Measured on the demo meeting's true words: 37 of 42 within a speaker's speech."""
    made = cues(meeting_as_said())
    ends = [
        before.lines[-1].text
        for before, after in pairwise(made)
        if before.lines[-1].speaker == after.lines[0].speaker
    ]
    assert sum(end[-1] in ".,?!" for end in ends) > 0.8 * len(ends)


@pytest.mark.parametrize(
    ("text", "first_line"),
    [
        (
            "We waited for a very long time in the old station.",
            "S1: We waited for a very long time",
        ),
        ("Nobody told us, since you had gone home early.", "S1: Nobody told us,"),
        ("He is sure that everybody here has seen the numbers.", "S1: He is sure"),
    ],
)
def test_two_lines_are_broken_where_the_sense_allows(text: str, first_line: str) -> None:
    ((first, second),) = shown(transcript(("S1", text, 0)))
    assert first == first_line
    assert f"{first.removeprefix('S1: ')} {second}" == text


def test_what_fits_in_one_line_is_not_broken() -> None:
    assert shown(transcript(("S1", "Yes, that is easy enough.", 0))) == [
        ["S1: Yes, that is easy enough."]
    ]


def test_short_sentences_of_a_speaker_share_a_cue() -> None:
    assert shown(transcript(("S1", "Yes. No. Well. I see.", 0))) == [["S1: Yes. No. Well. I see."]]


def test_a_cue_ends_before_a_long_silence() -> None:
    late = Turn("S1", (Sentence((Word("Well", 0, 300, 1.0), Word("yes.", 4000, 4300, 1.0))),))
    assert [(cue.start, cue.end) for cue in cues(of_turns(late))] == [(0, 1000), (4000, 5000)]


def test_a_cue_stays_in_the_pause_that_follows_until_it_is_read() -> None:
    hurried = of_turns(said("S1", ["this", "was", "said", "in", "a", "great", "hurry"], step=80))
    (cue,) = cues(hurried)
    assert cue.end == pytest.approx(
        1000 * width("S1: this was said in a great hurry") / SPEED, abs=1
    )


def test_people_who_speak_at_once_share_the_screen_each_under_their_name() -> None:
    meeting = transcript(("S1", "one two three four.", 0), ("S2", "yes.", 500))
    assert shown(meeting) == [["S1: one two three four.", "S2: yes."]]


def test_a_quick_exchange_is_shown_two_at_a_time() -> None:
    made = cues(quick_exchange())
    assert [len(cue.lines) for cue in made] == [2] * 7 + [1]
    assert made[0].lines[0].speaker != made[0].lines[1].speaker


def test_one_who_interrupts_is_seen_at_once_and_the_rest_comes_after() -> None:
    made = cues(MEETINGS["interrupted"])
    begins = [turn.span.start for turn in MEETINGS["interrupted"].turns if turn.speaker == "S2"]
    seen = [c.start for c in made for line in c.lines if line.speaker == "S2"]
    assert all(start <= begin + 500 for start, begin in zip(seen, begins, strict=True))


def test_chinese_is_counted_by_width_and_broken_between_characters() -> None:
    for lines in shown(MEETINGS["Chinese in one word"]):
        assert all(len(line) <= 22 for line in lines)
        assert not any(line[0] in "，。" for line in lines)


def test_a_word_longer_than_a_line_is_kept_whole() -> None:
    word = "x" * 60
    assert word in to_srt(transcript(("S1", word, 0)))


def test_hours_in_times() -> None:
    assert "01:00:05,120 --> 01:00:06,120" in to_srt(transcript(("S1", "Late.", 3_605_120)))


AWKWARD_MEETING = of_turns(
    said(AWKWARD, ["<i>x</i>", "{\\b1}", "-->", "R&D", "\\N", *LONG.split()]),
    said("S2", ["Yes."], 60_000),
    said("S1", ["No."], 60_300),
)
LOOKALIKES = str.maketrans("<>{}\\", "‹›()＼")
"""What SRT and ASS hold for characters that players take for markup."""


@pytest.mark.parametrize("meeting", [AWKWARD_MEETING, MEETINGS["as said"], MEETINGS["Chinese"]])
@pytest.mark.parametrize("form", ["srt", "ass"])
def test_ffmpeg_shows_the_cues_and_takes_no_name_for_markup(
    form: str, meeting: Transcript, tmp_path: Path
) -> None:
    path = tmp_path / f"m.{form}"
    path.write_text(to_srt(meeting) if form == "srt" else to_ass(meeting))
    made = cues(meeting)
    read = read_by_ffmpeg(path)
    assert len(read) == len(made)
    for (start, end, text), cue in zip(read, made, strict=True):
        assert start == pytest.approx(cue.start, abs=10)
        assert end == pytest.approx(cue.end, abs=10)
        lines = re.sub(r"\{\\rspeaker-\d\}", "", text).split("\\N")
        assert lines == [line.shown.translate(LOOKALIKES) for line in cue.lines]
    assert all(a[1] <= b[0] for a, b in pairwise(read))


def read_by_ffmpeg(path: Path) -> list[tuple[int, int, str]]:
    """(start, end, text) of each cue, ms; the text with FFmpeg's own marks for markup."""
    read = []
    with av.open(str(path)) as container:
        stream = container.streams.subtitles[0]
        milliseconds = 1000 * stream.time_base
        for packet in container.demux(stream):
            if packet.pts is None or packet.duration is None:
                continue
            (subtitle,) = packet.decode()
            text = subtitle.ass.decode().split(",", 8)[8].rstrip()
            start = round(packet.pts * milliseconds)
            read.append((start, start + round(packet.duration * milliseconds), text))
    return read


@pytest.mark.parametrize("meeting", [AWKWARD_MEETING, MEETINGS["as said"], MEETINGS["Chinese"]])
def test_webvtt_is_read_back_with_voices(meeting: Transcript, tmp_path: Path) -> None:
    path = tmp_path / "m.vtt"
    path.write_text(to_vtt(meeting))
    read = webvtt.read(str(path)).captions
    made = cues(meeting)
    assert len(read) == len(made)
    for caption, cue in zip(read, made, strict=True):
        assert html.unescape(caption.text) == "\n".join(line.text for line in cue.lines)
        assert html.unescape(caption.voice) == " ".join(cue.lines[0].speaker.split())
        speakers = {line.speaker for line in cue.lines}
        assert caption.raw_text.count("<v ") == len(speakers)
        assert "-->" not in caption.raw_text


def test_ass_has_a_style_for_each_speaker() -> None:
    made = to_ass(AWKWARD_MEETING)
    styles = [line for line in made.splitlines() if line.startswith("Style: ")]
    assert len(styles) == 3
    assert "S2: Yes.\\N{\\rspeaker-3}S1: No." in made
