"""Exports for people and tables, and the command that writes them, where names are awkward."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from markdown_it import MarkdownIt

from jobs import cli
from jobs.exports import EXPORTS
from jobs.exports.spreadsheet import to_csv
from jobs.exports.text import to_markdown, to_txt
from pipeline.records import Provenance, Sentence, Speaker, SpeakerSegment, Transcript, Turn, Word
from pipeline.transcript import from_json, join_words, to_json
from tests.conftest import hansard

AWKWARD = 'Ann <b>*O\'Neil*\n --> {\\an8} & | "Co", [x](y)'
"""A name that means something to every format."""


def words(text: str, start: int, step: int = 300) -> tuple[Word, ...]:
    return tuple(
        Word(word, start + i * step, start + (i + 1) * step, 0.9)
        for i, word in enumerate(text.split())
    )


def transcript(*turns: tuple[str, str, int]) -> Transcript:
    """Turns as (speaker, text, start)."""
    return of_turns(
        *(
            Turn(speaker, (Sentence(words(text, start)),), {"neutral": 1.0}, "neutral")
            for speaker, text, start in turns
        )
    )


def of_turns(*turns: Turn) -> Transcript:
    return Transcript(
        id="m-1",
        uri="/m.wav",
        fingerprint="f",
        duration=100_000,
        language="en",
        speakers=tuple(Speaker(turn.speaker, turn.span.duration, 1) for turn in turns),
        turns=turns,
        timeline=tuple(SpeakerSegment(*turn.span, turn.speaker) for turn in turns),
        provenance=Provenance("default", "0", "k"),
    )


def test_txt_is_a_line_a_turn_whatever_the_name() -> None:
    made = to_txt(transcript((AWKWARD, "Late.", 3_605_120), ("S2", "Yes.", 3_606_000)))
    first, second = made.splitlines()
    assert first.startswith("[1:00:05] Ann <b>*O'Neil* --> ") and first.endswith(": Late.")
    assert second == "[1:00:06] S2: Yes."


def test_minutes_have_title_duration_talk_shares_and_every_turn() -> None:
    made = to_markdown(transcript(("S1", "a b c", 0), ("S2", "Well, 5*3 is *fifteen*.", 65_000)))
    tokens = MarkdownIt("commonmark").enable("table").parse(made)
    assert [token.tag for token in tokens if token.nesting == 1 and token.level == 0] == [
        *("h1", "p", "table"),
        *("p", "p"),
    ]
    assert shown(made) == [
        *("m.wav", "Duration: 00:01:40"),
        *("Speaker", "Talk time", "Share", "Turns"),
        *("S1", "00:00:00", "43%", "1"),
        *("S2", "00:00:01", "57%", "1"),
        "[00:00:00] S1: a b c",
        "[00:01:05] S2: Well, 5*3 is *fifteen*.",
    ]


def shown(markdown: str) -> list[str]:
    """The text of each block as a reader of CommonMark with tables shows it."""
    parser = MarkdownIt("commonmark").enable("table")
    blocks = [token for token in parser.parse(markdown) if token.type == "inline"]
    children = [block.children or [] for block in blocks]
    assert not any(child.type.startswith(("html", "link", "em")) for c in children for child in c)
    return ["".join(child.content for child in block) for block in children]


def test_a_name_is_text_in_minutes_and_never_markup() -> None:
    made = to_markdown(transcript((AWKWARD, "Yes.", 0)))
    name = " ".join(AWKWARD.split())
    assert shown(made)[6] == name
    assert shown(made)[-1] == f"[00:00:00] {name}: Yes."


def test_the_mood_is_in_minutes_where_it_is_not_neutral() -> None:
    turn = Turn("S1", (Sentence(words("No!", 0)),), {"negative": 0.9}, "negative")
    assert "**S1** *(negative)*: No!" in to_markdown(of_turns(turn))


def test_the_key_in_an_address_is_not_in_minutes() -> None:
    record = to_json(transcript(("S1", "Yes.", 0)))
    record["uri"] = "https://host/talks/board.mp3?signature=secret"
    made = to_markdown(from_json(record))
    assert made.startswith("# board.mp3\n") and "secret" not in made


def test_csv_is_a_table_for_pandas() -> None:
    made = to_csv(transcript(('Ann "A", Lee', "Good, morning.", 1240), ("S2", "Yes.", 5000)))
    table = pd.read_csv(io.StringIO(made))
    assert table.to_dict("records") == [
        {
            "recording": "m-1",
            "speaker": 'Ann "A", Lee',
            "start": 1.24,
            "end": 1.84,
            "text": "Good, morning.",
            "mood": "neutral",
            "confidence": 0.9,
        },
        {
            "recording": "m-1",
            "speaker": "S2",
            "start": 5.0,
            "end": 5.3,
            "text": "Yes.",
            "mood": "neutral",
            "confidence": 0.9,
        },
    ]


def test_a_spreadsheet_runs_nothing_that_csv_holds() -> None:
    table = pd.read_csv(io.StringIO(to_csv(transcript(("=1+1", "@SUM(A1) -2", 0)))))
    assert table.loc[0, "speaker"] == "'=1+1"
    assert table.loc[0, "text"] == "'@SUM(A1) -2"


def test_no_speech_gives_exports_that_say_so() -> None:
    silent = transcript()
    assert EXPORTS["srt"].write(silent) == EXPORTS["txt"].write(silent) == ""
    assert "No speech" in to_markdown(silent)
    assert len(pd.read_csv(io.StringIO(to_csv(silent)))) == 0


def test_the_json_is_read_back_as_it_was() -> None:
    before = transcript(("S1", "Good morning, everyone. How are you?", 0), ("S2", "Fine", 4000))
    after = from_json(to_json(before))
    assert [turn.words for turn in after.turns] == [turn.words for turn in before.turns]
    assert [len(turn.sentences) for turn in after.turns] == [2, 1]
    assert to_json(after) == to_json(before)


def test_records_of_before_overlaps_were_found_are_read() -> None:
    before = transcript(("S1", "Good morning.", 0), ("S2", "Fine", 4000))
    both = replace(before, exclusive=before.timeline[:1])
    assert from_json(to_json(both)).exclusive == before.timeline[:1]
    old = to_json(both)
    del old["exclusive"]
    assert from_json(old).exclusive == ()
    assert from_json(old).timeline == before.timeline


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


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    """A folder with one finished recording and no exports."""
    out = Path(shutil.copytree(finished, tmp_path / "out"))
    shutil.rmtree(out / "exports")
    return out


def test_export_writes_every_format_under_the_names_that_tools_go_by(out: Path) -> None:
    (record,) = (out / "transcripts").iterdir()
    call = hansard("export", out, *(part for name in EXPORTS for part in ("--format", name)))
    assert call.code == 0, call.stderr
    suffixes = ".json .srt .vtt .ass .txt .md .csv .rttm .stm .ctm .seglst.json .TextGrid .html"
    assert {path.name for path in (out / "exports").iterdir()} == {
        record.stem + suffix for suffix in suffixes.split()
    }
    assert (out / "exports" / record.name).read_bytes() == record.read_bytes()


def test_transcribe_writes_json_once(out: Path, meeting: Path) -> None:
    assert hansard("transcribe", meeting, "--out", out).code == 0
    assert {path.suffix for path in (out / "exports").iterdir()} == {".srt", ".txt"}


def test_export_of_one_recording_leaves_the_others_alone(out: Path) -> None:
    (record,) = (out / "transcripts").iterdir()
    other = json.loads(record.read_bytes()) | {"id": "other-1"}
    record.with_name("other-1.json").write_text(json.dumps(other))
    assert hansard("export", out, "--format", "txt", "--id", "other-1").code == 0
    assert [path.name for path in (out / "exports").iterdir()] == ["other-1.txt"]
    call = hansard("export", out, "--format", "txt", "--id", record.stem, "--id", "nobody")
    assert call.code == 2 and "nobody" in call.stderr
    assert not (out / "exports" / f"{record.stem}.txt").exists()


def test_a_broken_record_is_named_and_the_others_are_exported(out: Path) -> None:
    (out / "transcripts" / "broken-1.json").write_text('{"id": "broken-1"}')
    (out / "transcripts" / "cut-2.json").write_text('{"id": ')
    call = hansard("export", out, "--format", "txt")
    assert call.code == 1
    assert "broken-1.json" in call.stderr and "cut-2.json" in call.stderr
    assert "Traceback" not in call.stderr
    assert len(list((out / "exports").iterdir())) == 1


def test_a_wrong_call_of_export_says_what_would_be_right(out: Path, tmp_path: Path) -> None:
    call = hansard("export", out, "--format", "doc")
    assert call.code == 2 and "doc" in call.stderr
    assert all(name in call.stderr for name in EXPORTS)
    call = hansard("export", tmp_path / "nothing", "--format", "srt")
    assert call.code == 2 and "hansard transcribe" in call.stderr


def test_the_help_names_every_format() -> None:
    assert cli.FORMATS.split(", ") == list(EXPORTS)
