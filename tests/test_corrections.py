"""Corrections: names and moved turns, and what becomes of them when the transcript changes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.corrections import Corrections, Move, apply, clean_name, encode_corrections, parse
from jobs.ledger import Ledger
from pipeline.errors import InputError
from pipeline.records import SpeakerSegment, Transcript
from pipeline.storage import Folder
from pipeline.transcript import to_json
from tests.conftest import hansard
from tests.test_exports import transcript


def three_turns() -> Transcript:
    """S1 0 to 1.2 s, S2 2 to 3.2 s, S1 4 to 5.2 s."""
    return transcript(
        ("S1", "one two three four.", 0),
        ("S2", "five six seven eight.", 2000),
        ("S1", "nine ten eleven twelve.", 4000),
    )


def corrections(
    names: dict[str, str] | None = None, moves: tuple[Move, ...] = (), key: str = "k"
) -> Corrections:
    heard = {"S1": ((0, 1200), (4000, 5200)), "S2": ((2000, 3200),)}
    return Corrections(id="m-1", key=key, names=names or {}, moves=moves, heard=heard)


def test_names_and_moves_change_turns_talk_times_and_timeline() -> None:
    made = three_turns()
    moved = apply(made, corrections({"S1": "Anna Lee"}, (Move(start=4000, speaker="S1", to="S2"),)))
    assert [turn.speaker for turn in moved.turns] == ["Anna Lee", "S2", "S2"]
    assert [turn.words for turn in moved.turns] == [turn.words for turn in made.turns]
    assert [(s.label, s.speaking, s.turns) for s in moved.speakers] == [
        ("Anna Lee", 1200, 1),
        ("S2", 2400, 2),
    ]
    assert moved.timeline == (
        SpeakerSegment(0, 1200, "Anna Lee"),
        SpeakerSegment(2000, 3200, "S2"),
        SpeakerSegment(4000, 5200, "S2"),
    )
    assert moved.provenance.notes == ("corrections: 1 of 1 names, 1 of 1 moved turns",)


def test_a_turn_can_go_to_somebody_new() -> None:
    new = Move(start=2000, speaker="S2", to="S3")
    moved = apply(three_turns(), corrections({"S3": "Guest"}, (new,)))
    assert [speaker.label for speaker in moved.speakers] == ["S1", "Guest"]


def test_two_speakers_with_one_name_become_one() -> None:
    made = replace(
        three_turns(), timeline=(SpeakerSegment(0, 2500, "S1"), SpeakerSegment(2000, 3200, "S2"))
    )
    merged = apply(made, corrections({"S1": "Anna", "S2": "Anna"}))
    assert [(s.label, s.speaking, s.turns) for s in merged.speakers] == [("Anna", 3600, 3)]
    assert merged.timeline == (SpeakerSegment(0, 3200, "Anna"),)


def test_both_timelines_have_the_names_and_the_moves() -> None:
    made = replace(
        three_turns(),
        timeline=(SpeakerSegment(0, 2500, "S1"), SpeakerSegment(2000, 3200, "S2")),
        exclusive=(SpeakerSegment(0, 2000, "S1"), SpeakerSegment(2000, 3200, "S2")),
    )
    named = apply(made, corrections({"S2": "Ben"}))
    assert [part.label for part in named.timeline] == ["S1", "Ben"]
    assert [part.label for part in named.exclusive] == ["S1", "Ben"]
    moved = apply(made, corrections(moves=(Move(start=2000, speaker="S2", to="S1"),)))
    assert moved.timeline == (SpeakerSegment(0, 3200, "S1"),)
    assert {part.label for part in moved.exclusive} == {"S1"}


def test_a_stretch_of_speech_is_cut_halfway_between_a_moved_turn_and_its_neighbours() -> None:
    made = replace(
        three_turns(), timeline=(SpeakerSegment(0, 5500, "S1"), SpeakerSegment(1900, 3300, "S2"))
    )
    moved = apply(made, corrections(moves=(Move(start=4000, speaker="S1", to="S2"),)))
    assert moved.timeline == (
        SpeakerSegment(0, 2600, "S1"),
        SpeakerSegment(1900, 5500, "S2"),
    )


def test_moves_of_overlapping_turns_do_not_touch_each_other() -> None:
    made = transcript(("S1", "one two three four.", 0), ("S2", "five six seven.", 100))
    swap = (Move(start=0, speaker="S1", to="S2"), Move(start=100, speaker="S2", to="S1"))
    moved = apply(made, corrections(moves=swap))
    assert moved.timeline == (SpeakerSegment(0, 1200, "S2"), SpeakerSegment(100, 1000, "S1"))


def test_on_a_newer_transcript_no_turn_is_moved_and_names_go_to_who_speaks_there() -> None:
    # The same audio, clustered anew: S1 and S2 have changed places, and there is an S3.
    newer = transcript(
        ("S1", "five six seven eight.", 2000),
        ("S2", "nine ten eleven twelve.", 4000),
        ("S3", "thirteen.", 8000),
    )
    move = Move(start=4000, speaker="S2", to="S1")
    named = {"S1": "Anna", "S2": "Ben", "S3": "Nobody"}
    result = apply(newer, corrections(named, (move,), key="older"))
    assert [turn.speaker for turn in result.turns] == ["Ben", "S2", "S3"]
    (note,) = result.provenance.notes
    assert "1 of 3 names, 0 of 1 moved turns" in note
    assert "earlier transcript" in note


def test_a_move_that_fits_no_turn_is_told() -> None:
    result = apply(three_turns(), corrections(moves=(Move(start=77, speaker="S1", to="S2"),)))
    assert result.turns == three_turns().turns
    assert "0 of 1 moved turns" in result.provenance.notes[0]


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("  Anna\t Lee\n", "Anna Lee"),
        ("evil\u202etxt", "eviltxt"),
        ("نیم\u200cفاصله", "نیم\u200cفاصله"),
        ("王小明", "王小明"),
    ],
)
def test_names_are_one_line_and_turn_no_text_about(typed: str, kept: str) -> None:
    assert clean_name(typed) == kept


@pytest.mark.parametrize("typed", ["", " \n", "x" * 101, "\u202e"])
def test_a_name_that_is_none_is_refused(typed: str) -> None:
    with pytest.raises(ValueError, match="1 to 100"):
        clean_name(typed)


def test_the_file_is_read_back_as_it_was() -> None:
    before = corrections({"S1": "Anna"}, (Move(start=0, speaker="S1", to="S2"),))
    assert parse(encode_corrections(before), "m-1.json") == before


def test_a_broken_file_is_named_with_its_key() -> None:
    record = json.loads(encode_corrections(corrections())) | {"moves": [{"start": -1}]}
    with pytest.raises(InputError, match=r"m-1\.json: moves\.0\.start"):
        parse(json.dumps(record).encode(), "m-1.json")


def test_exports_honour_corrections_and_the_record_stays_as_it_was(
    finished: Path, meeting: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    ledger = Ledger(Folder(str(out)))
    (raw,) = [path.read_bytes() for path in (out / "transcripts").iterdir()]
    record = json.loads(raw)
    ledger.keep_corrections(
        Corrections(id=record["id"], key=record["provenance"]["key"], names={"S1": "Anna Lee"})
    )
    call = hansard("export", out, "--format", "srt", "--format", "rttm")
    assert call.code == 0
    assert f"{record['id']}: corrections: 1 of 1 names, 0 of 0 moved turns" in call.stderr
    (srt,) = (out / "exports").glob("*.srt")
    assert "\nAnna Lee: " in srt.read_text()
    assert "\nS1: " not in srt.read_text()
    (rttm,) = (out / "exports").glob("*.rttm")
    assert {line.split()[7] for line in rttm.read_text().splitlines()} >= {"Anna_Lee"}
    assert {len(line.split()) for line in rttm.read_text().splitlines()} == {10}
    # The same from `transcribe`, which finds the recording done.
    srt.unlink()
    assert hansard("transcribe", meeting, "--out", out, "--format", "srt").code == 0
    assert "\nAnna Lee: " in srt.read_text()
    assert [path.read_bytes() for path in (out / "transcripts").iterdir()] == [raw]
    assert ledger.transcript(record["id"]) != ledger.corrected(record["id"])


def test_a_broken_correction_file_stops_nothing_and_is_told(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    ledger = Ledger(Folder(str(out)))
    (name,) = [path.name for path in (out / "transcripts").iterdir()]
    (out / "corrections").mkdir()
    (out / "corrections" / name).write_text("{")
    (told,) = ledger.transcripts()
    assert f"corrections/{name}" in told.provenance.notes[-1]
    raw = ledger.transcript(told.id)
    assert raw is not None
    assert to_json(told)["turns"] == to_json(raw)["turns"]
