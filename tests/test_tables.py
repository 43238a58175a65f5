"""What the columns of the result tables say."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from benchmarks.tables import simulated
from jobs import load_tables, tables_of
from jobs.tables.dates import recorded_at
from jobs.tables.schema import markdown
from pipeline.records import Sentence, SpeakerSegment, Transcript, Turn, Word
from pipeline.transcript import speakers_of
from tests.conftest import ROOT, hansard


def turn(speaker: str, start: int, end: int, text: str, mood: str = "neutral") -> Turn:
    """A turn of equally long words."""
    texts = text.split()
    edges = [start + (end - start) * i // len(texts) for i in range(len(texts) + 1)]
    words = tuple(Word(t, a, b, 0.5) for t, a, b in zip(texts, edges, edges[1:], strict=False))
    return Turn(speaker, (Sentence(words),), {mood: 0.75} if mood else {}, mood)


def meeting_of(*turns: Turn) -> Transcript:
    return replace(
        simulated("/m.wav", 1, 0),
        speakers=speakers_of(turns),
        turns=turns,
        timeline=tuple(SpeakerSegment(*each.span, each.speaker) for each in turns),
    )


def test_the_tables_of_a_real_recording_agree_with_its_transcript(
    finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    call = hansard("tables", out, "--json")
    assert call.code == 0, call.stderr
    record = json.loads(next((out / "transcripts").iterdir()).read_bytes())
    tables = load_tables(str(out))
    assert json.loads(call.stdout)["rows"] == {name: len(f) for name, f in tables.frames.items()}
    (recording,) = tables.recordings.to_dict("records")
    assert recording["recording"] == record["id"] and recording["uri"] == record["uri"]
    assert recording["duration_ms"] == record["duration"]
    assert recording["words"] == len(tables.words) == sum(len(t["words"]) for t in record["turns"])
    assert tables.turns.text.tolist() == [each["text"] for each in record["turns"]]
    assert tables.turns.start_ms.tolist() == [each["start"] for each in record["turns"]]
    assert tables.words.text.tolist() == [w["text"] for t in record["turns"] for w in t["words"]]
    spoken = dict(zip(tables.speakers.speaker, tables.speakers.speaking_ms, strict=True))
    assert spoken == {speaker["label"]: speaker["speaking"] for speaker in record["speakers"]}
    assert tables.speakers.share.sum() == pytest.approx(1)
    assert recording["speaking_ms"] == sum(spoken.values()) == tables.turns.speaking_ms.sum()
    moods = [column for column in tables.recordings if column.startswith("mood_")]
    assert tables.recordings[moods].sum(axis=1).tolist() == pytest.approx([1])
    assert 0 < recording["speech_ms"] <= recording["duration_ms"]


@pytest.mark.parametrize(
    ("second", "interrupted"),
    [
        (("S2", 4000, 8000), "S1"),  # both speak for a second, S2 goes on
        (("S2", 4900, 8000), None),  # a breath's overlap
        (("S2", 2000, 2500), None),  # a word in between, S1 goes on
        (("S2", 5100, 8000), None),  # after a finished sentence
        (("S1", 4000, 8000), None),  # oneself
    ],
)
def test_an_interruption_takes_the_floor_before_its_holder_has_ended(
    second: tuple[str, int, int], interrupted: str | None
) -> None:
    speaker, start, end = second
    made = tables_of(
        meeting_of(turn("S1", 0, 5000, "one two."), turn(speaker, start, end, "three."))
    )
    assert [who if isinstance(who, str) else None for who in made.turns.interrupts] == [
        None,
        interrupted,
    ]
    assert made.recordings.interruptions.sum() == (interrupted is not None)


@pytest.mark.parametrize(
    ("gap", "first", "second", "count"),
    [
        (100, "so we could", "No.", 1),
        (100, "so we could.", "No.", 0),
        (900, "so we could", "No.", 0),
        (100, "so we could", "no", 0),  # a profile without punctuation: no sentence is closed
    ],
)
def test_a_broken_off_sentence_is_an_interruption(
    gap: int, first: str, second: str, count: int
) -> None:
    turns = turn("S1", 0, 3000, first), turn("S2", 3000 + gap, 4000, second)
    made = tables_of(meeting_of(*turns))
    assert made.speakers.interruptions_suffered.tolist() == [count, 0]
    assert made.speakers.interruptions_made.tolist() == [0, count]


def test_shares_rates_and_overlap() -> None:
    made = tables_of(
        meeting_of(
            turn("S1", 0, 60_000, "word " * 120, "neutral"),
            turn("S2", 50_000, 70_000, "yes.", "amused"),
            turn("S1", 80_000, 90_000, "good.", "angry"),
        )
    )
    first = made.speakers.iloc[0]
    assert first.speaking_ms == 70_000 and first.share == pytest.approx(7 / 9)
    assert first.words_per_minute == pytest.approx(121 * 60 / 70)
    assert first.mood_angry == pytest.approx(1 / 7) and first.mood_neutral == pytest.approx(6 / 7)
    assert made.speakers.mood_other.tolist() == [0, 1]  # a class without a column
    assert made.turns.emotion_other.isna().tolist() == [True, False, True]
    recording = made.recordings.iloc[0]
    assert recording.speech_ms == 80_000 and recording.overlap_ms == 10_000


def test_without_speech_or_emotion_there_are_no_means() -> None:
    silent = tables_of(meeting_of())
    assert len(silent.recordings) == 1 and len(silent.words) == len(silent.turns) == 0
    assert silent.recordings[["confidence", "words_per_minute", "mood_sad"]].isna().all(axis=None)
    plain = tables_of(meeting_of(turn("S1", 0, 500, "Yes.", mood="")))
    assert plain.turns[["mood", "emotion_neutral"]].isna().all(axis=None)
    assert plain.speakers.mood_neutral.isna().all()


@pytest.mark.parametrize(
    ("uri", "when"),
    [
        ("/a/2024-03-17.wav", "2024-03-17"),
        ("/a/20240317T0930 council.wav", "2024-03-17 09:30"),
        ("s3://b/2023/12/31/2024_03_17-09-30-05.mp3", "2024-03-17 09:30:05"),
        ("/archive/2024/03/17/meeting-00001.wav", "2024-03-17"),
        ("/a/2024-02-30.wav", None),
        ("/a/2024-03/17-1.wav", None),
        ("/a/120240317.wav", None),
        ("/a/meeting.wav", None),
    ],
)
def test_the_date_is_read_from_the_name(uri: str, when: str | None) -> None:
    assert recorded_at(uri) == (when and datetime.fromisoformat(when))


def test_the_documentation_is_the_schema() -> None:
    assert (ROOT / "docs" / "tables.md").read_text() == markdown(), (
        "python -m jobs.tables.schema > docs/tables.md"
    )
