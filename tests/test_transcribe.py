"""The command end to end: the contract of the transcript, exports, several recordings at once."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import meeteval
import pytest

import pipeline
from pipeline.errors import InputError
from tests.conftest import hansard


@pytest.fixture(scope="module")
def transcript(finished: Path) -> dict[str, Any]:
    (path,) = (finished / "transcripts").glob("*.json")
    record: dict[str, Any] = json.loads(path.read_bytes())
    return record


def test_the_transcript_keeps_the_contract(transcript: dict[str, Any], meeting: Path) -> None:
    assert transcript["schema"] == 1
    assert transcript["status"] == "done"
    assert transcript["uri"] == str(meeting)
    assert transcript["language"] == "en"
    assert transcript["duration"] == 75_000
    labels = [speaker["label"] for speaker in transcript["speakers"]]
    assert labels == [f"S{i}" for i in range(1, len(labels) + 1)]
    assert list(dict.fromkeys(turn["speaker"] for turn in transcript["turns"])) == labels
    stages = [run["stage"] for run in transcript["provenance"]["stages"]]
    assert stages[0] == "vad"
    assert set(stages) == {
        "vad", "asr", "punctuation", "embedding", "clustering", "segmentation", "overlap",
        "attribution", "emotion",
    }  # fmt: skip
    for run in transcript["provenance"]["stages"]:
        if run["model"]:
            assert run["weights"].startswith("sha256:")


def test_every_word_has_a_time_within_its_turn(transcript: dict[str, Any]) -> None:
    assert len(transcript["turns"]) >= 3
    for turn in transcript["turns"]:
        words = turn["words"]
        assert turn["text"] == " ".join(word["text"] for word in words)
        assert turn["start"] == words[0]["start"] and turn["end"] == words[-1]["end"]
        starts = [word["start"] for word in words]
        assert starts == sorted(starts)
        for word in words:
            assert 0 <= word["start"] < word["end"] <= transcript["duration"]
            assert 0 <= word["confidence"] <= 1
        # A turn too short to be heard for its mood has no scores.
        if turn["emotion"]:
            assert sum(turn["emotion"].values()) == pytest.approx(1, abs=1e-3)
    assert any(turn["emotion"] for turn in transcript["turns"])


def test_speaking_times_and_turn_counts_add_up(transcript: dict[str, Any]) -> None:
    for speaker in transcript["speakers"]:
        turns = [t for t in transcript["turns"] if t["speaker"] == speaker["label"]]
        assert speaker["turns"] == len(turns)
        assert 0 < speaker["speaking"] <= sum(turn["end"] - turn["start"] for turn in turns)


def test_rttm_is_read_by_meeteval(finished: Path, transcript: dict[str, Any]) -> None:
    (path,) = (finished / "exports").glob("*.rttm")
    lines = meeteval.io.RTTM.load(path).lines
    assert [line.speaker_id for line in lines] == [label for _, _, label in transcript["timeline"]]


def test_srt_cues_are_short_ordered_and_hold_every_word(
    finished: Path, transcript: dict[str, Any]
) -> None:
    (path,) = (finished / "exports").glob("*.srt")
    text = path.read_text()
    end_before = ""
    spoken = []
    for i, cue in enumerate(text.strip().split("\n\n"), start=1):
        number, times, *lines = cue.split("\n")
        start, end = times.split(" --> ")
        assert int(number) == i
        assert end_before <= start < end
        assert len(lines) <= 2 and all(len(line) <= 42 for line in lines)
        spoken += re.sub(r"^S\d: ", "", "\n".join(lines), flags=re.MULTILINE).split()
        end_before = end
    assert sorted(spoken) == sorted(w["text"] for t in transcript["turns"] for w in t["words"])


def test_json_lines_on_stdout_and_everything_else_on_stderr(
    finished: Path, meeting: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(finished, tmp_path / "out")
    call = hansard("transcribe", meeting, "/nowhere/x.wav", "--out", out, "--json")
    assert call.code == 1
    first, second = map(json.loads, call.stdout.splitlines())
    assert first["status"] == "done" and second["status"] == "failed"
    assert second["stage"] == "audio" and "/nowhere/x.wav" in second["error"]


def test_export_writes_formats_later_without_a_model(finished: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "out"))
    shutil.rmtree(out / "exports")
    shutil.rmtree(out / "artifacts")
    assert hansard("export", out, "--format", "txt", "--format", "srt").code == 0
    (again,) = (out / "exports").glob("*.srt")
    (before,) = (finished / "exports").glob("*.srt")
    assert again.read_text() == before.read_text()
    assert len(list((out / "exports").glob("*.txt"))) == 1


def test_an_unknown_format_is_refused_before_anything_runs(tmp_path: Path) -> None:
    call = hansard("transcribe", "x.wav", "--out", tmp_path / "out", "--format", "doc")
    assert call.code == 2
    assert "doc" in call.stderr and "srt" in call.stderr
    assert not (tmp_path / "out").exists()


def test_from_python(meeting: Path, transcript: dict[str, Any], finished: Path) -> None:
    result = pipeline.transcribe(str(meeting), out=str(finished))
    assert [turn.speaker for turn in result.turns] == [t["speaker"] for t in transcript["turns"]]
    with pytest.raises(InputError, match=r"/nowhere/x\.wav"):
        pipeline.transcribe("/nowhere/x.wav")


def test_help_has_examples_and_version_is_one_line() -> None:
    call = hansard("transcribe", "--help")
    assert call.code == 0
    assert "hansard transcribe meeting.mp3 --out results" in call.stdout
    version = hansard("--version")
    assert version.code == 0
    assert version.stdout.count("\n") == 1
