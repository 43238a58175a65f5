"""RTTM, STM, CTM, SegLST and TextGrid: what scoring tools and Praat's users read of them."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import meeteval
import pytest
from praatio import textgrid

from jobs.exports.annotations import to_ctm, to_rttm, to_seglst, to_stm
from jobs.exports.textgrid import to_textgrid
from pipeline.records import Sentence, Transcript, Turn, Word
from pipeline.transcript import from_json
from tests.test_exports import AWKWARD, of_turns, transcript


@pytest.fixture(scope="module")
def real(finished: Path) -> Transcript:
    (record,) = (finished / "transcripts").glob("*.json")
    return from_json(json.loads(record.read_bytes()))


AWKWARD_MEETING = transcript(
    (AWKWARD, "Good morning, everyone.", 0),
    ("Ann Lee", "Hello.", 2000),
    ("Ann_Lee", 'Who is "Ann"?', 3000),
    ("Ann\tLee", "<unk> 你好", 5000),
)


@pytest.fixture(params=["real", "awkward", "no speech"])
def spoken(request: pytest.FixtureRequest) -> Transcript:
    if request.param == "real":
        made: Transcript = request.getfixturevalue("real")
        return made
    return AWKWARD_MEETING if request.param == "awkward" else transcript()


def test_rttm_has_the_timeline(spoken: Transcript) -> None:
    lines = meeteval.io.RTTM.parse(to_rttm(spoken)).lines
    assert [
        (line.filename, line.begin_time * 1000, (line.begin_time + line.duration) * 1000)
        for line in lines
    ] == [(spoken.id, segment.start, segment.end) for segment in spoken.timeline]
    assert_told_apart(lines, [segment.label for segment in spoken.timeline])


def test_stm_has_a_line_a_turn(spoken: Transcript) -> None:
    lines = meeteval.io.STM.parse(to_stm(spoken)).lines
    assert [(line.begin_time * 1000, line.end_time * 1000) for line in lines] == [
        turn.span for turn in spoken.turns
    ]
    assert [line.transcript.split() for line in lines] == [
        [word.text for word in turn.words] for turn in spoken.turns
    ]
    assert_told_apart(lines, [turn.speaker for turn in spoken.turns])


def assert_told_apart(lines: list[Any], speakers: list[str]) -> None:
    """Each speaker has a name, and no two have the same."""
    called = dict(zip(speakers, (line.speaker_id for line in lines), strict=True))
    assert [called[speaker] for speaker in speakers] == [line.speaker_id for line in lines]
    assert len(set(called.values())) == len(called)


def test_ctm_has_every_word_with_its_confidence_in_order(spoken: Transcript) -> None:
    lines = meeteval.io.CTM.parse(to_ctm(spoken)).lines
    words = [word for turn in spoken.turns for word in turn.words]
    assert sorted(line.word for line in lines) == sorted(word.text for word in words)
    assert all(a.begin_time <= b.begin_time for a, b in pairwise(lines))
    assert {str(line.channel) for line in lines} <= {"1"}
    assert sum(float(line.confidence) for line in lines) == pytest.approx(
        sum(word.confidence for word in words), abs=0.001 * len(words) + 1e-9
    )


def test_seglst_names_speakers_as_they_are_named(spoken: Transcript) -> None:
    segments = meeteval.io.SegLST.parse(to_seglst(spoken)).segments
    assert [segment["speaker"] for segment in segments] == [t.speaker for t in spoken.turns]
    assert [segment["start_time"] * 1000 for segment in segments] == [
        turn.span.start for turn in spoken.turns
    ]


def test_stm_and_seglst_of_a_meeting_score_as_the_same(real: Transcript) -> None:
    stm = meeteval.io.STM.parse(to_stm(real))
    seglst = meeteval.io.SegLST.parse(to_seglst(real))
    rate = meeteval.wer.cpwer(reference=stm, hypothesis=seglst)[real.id]
    assert (rate.errors, rate.length > 0) == (0, True)


def read(spoken: Transcript, tmp_path: Path) -> textgrid.Textgrid:
    path = tmp_path / "m.TextGrid"
    path.write_text(to_textgrid(spoken))
    return textgrid.openTextgrid(str(path), includeEmptyIntervals=True, reportingMode="error")


def test_textgrid_has_turns_and_words_of_each_speaker(spoken: Transcript, tmp_path: Path) -> None:
    grid = read(spoken, tmp_path)
    speakers = list(dict.fromkeys(turn.speaker for turn in spoken.turns))
    assert len(grid.tierNames) == (2 * len(speakers) or 1)
    for speaker, name in zip(speakers, grid.tierNames[::2], strict=False):
        turns = [turn for turn in spoken.turns if turn.speaker == speaker]
        spans = [(round(e.start * 1000), round(e.end * 1000)) for e in heard(grid, name)]
        assert spans == [turn.span for turn in turns]
        assert [entry.label for entry in heard(grid, f"{name} words")] == [
            word.text for turn in turns for word in turn.words
        ]


def heard(grid: textgrid.Textgrid, tier: str) -> list[Any]:
    return [entry for entry in grid.getTier(tier).entries if entry.label]


def test_textgrid_tiers_have_neither_gaps_nor_overlaps(spoken: Transcript, tmp_path: Path) -> None:
    assert_contiguous(read(spoken, tmp_path), spoken.duration)


def assert_contiguous(grid: textgrid.Textgrid, duration: int) -> None:
    for name in grid.tierNames:
        entries = grid.getTier(name).entries
        assert entries[0].start == 0
        assert entries[-1].end == grid.maxTimestamp >= duration / 1000
        assert all(a.start < a.end == b.start for a, b in pairwise(entries))


def test_textgrid_keeps_words_that_overlap_or_have_no_duration(tmp_path: Path) -> None:
    words = (
        *(Word("a", 0, 0, 1.0), Word("b", 0, 500, 1.0), Word("c", 400, 600, 1.0)),
        *(Word("d", 450, 500, 1.0), Word("e", 99_999, 100_400, 1.0)),
    )
    grid = read(of_turns(Turn("S1", (Sentence(words),))), tmp_path)
    assert [entry.label for entry in heard(grid, "S1 words")] == ["a", "b", "c", "d", "e"]
    assert_contiguous(grid, 100_400)
