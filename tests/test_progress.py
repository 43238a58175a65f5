"""What is told of a run: while it goes on, and afterwards in OUT/runs."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import pytest
from rich.console import Console

from jobs.live import LiveView
from jobs.progress import Progress
from pipeline.load import StageLoad
from tests.conftest import Here, hansard


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def progress() -> Progress:
    """A quarter of an hour in: 60 recordings of an hour done, 2 failed, 38 skipped, of 200."""
    clock = Clock()
    progress = Progress(200, clock)
    for _ in range(60):
        progress.recording_done(3_600_000)
    for _ in range(2):
        progress.recording_failed()
    for _ in range(38):
        progress.recording_skipped()
    clock.now = 930.0
    return progress


def test_the_time_left_counts_recordings_that_take_work(progress: Progress) -> None:
    assert progress.left == pytest.approx(100 * 930 / 62)
    assert progress.rtfx == pytest.approx(60 * 3600 / 930)
    assert progress.line() == (
        "100 of 200 recordings, 2 failed, 60.0 hours of audio, RTFx 232, 0:25:00 left"
    )
    assert Progress(3).left is None


def drawn(view: LiveView) -> str:
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None)
    console.print(view.render())
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return " ".join(str(text).split())


def test_the_view_shows_queues_and_utilisation_of_each_stage(progress: Progress) -> None:
    view = LiveView(Console(file=io.StringIO()), progress)
    view.hook("board", "asr", 30_000, 60_000)
    assert "board: asr" in drawn(view)
    view.loads = lambda: {"vad": StageLoad(12, 1, 2), "asr": StageLoad(230, 4, 4)}
    text = drawn(view)
    assert "100 of 200 recordings 2 failed" in text
    assert "60.0 hours of audio, RTFx 232, 0:15:30 elapsed, 0:25:00 left" in text
    assert "vad 12 1 2 50%" in text and "asr 230 4 4 100%" in text
    view.loads = lambda: {"vad": StageLoad(0, 0, 2), "asr": StageLoad(0, 4, 4)}
    assert "vad 0 0 2 25%" in drawn(view)


def test_without_a_terminal_there_are_lines_where_they_are_asked_for(progress: Progress) -> None:
    stream = io.StringIO()
    with LiveView(Console(file=stream, soft_wrap=True), progress, seconds=0.05):
        time.sleep(0.3)
    assert stream.getvalue().count(f"progress {progress.line()}\n") >= 2
    silent = io.StringIO()
    with LiveView(Console(file=silent), progress):
        time.sleep(0.1)
    assert silent.getvalue() == ""


def summaries(out: Path) -> list[dict[str, object]]:
    return [json.loads(path.read_bytes()) for path in sorted(out.glob("runs/*.json"))]


def test_a_run_leaves_a_summary_unless_there_was_nothing_to_do(
    short: Path, tmp_path: Path, here: Here
) -> None:
    out = tmp_path / "out"
    missing = [tmp_path / "gone-1.wav", tmp_path / "gone-2.wav"]
    secret = "https://me:hidden@127.0.0.1:9/a.wav"
    assert here("transcribe", short, *missing, secret, "--out", out, "--speakers", "2").code == 1
    (told,) = summaries(out)
    assert told["complete"] is True and told["executor"] == "local"
    assert told["recordings"] == {
        "asked": 4, "done": 1, "same": 0, "failed": 3, "held": 0, "given_up": 0,
    }  # fmt: skip
    assert (told["audio_ms"], told["settings"]) == (8000, ["clustering.speakers=2"])
    assert told["rtfx"] == pytest.approx(8 / told["seconds"], rel=0.1)  # type: ignore[operator]
    stages = told["stages"]
    assert isinstance(stages, dict) and stages["asr"]["seconds"] > 0
    first = told["failures"][0]  # type: ignore[index]
    assert (first["stage"], first["error"], first["count"]) == ("audio", "no such file", 3)
    assert "hidden" not in json.dumps(told)
    assert here("transcribe", short, "--out", out, "--speakers", "2").code == 0
    assert len(summaries(out)) == 1


def test_a_failed_attempt_leaves_the_transcript_of_what_has_not_changed(
    short: Path, tmp_path: Path, here: Here
) -> None:
    """Out of time with other options, or moved away: the record stays. Overwritten: it goes."""
    recording, out = tmp_path / "a.wav", tmp_path / "out"
    recording.write_bytes(short.read_bytes())
    assert here("transcribe", recording, "--out", out).code == 0
    (transcript,) = out.glob("transcripts/*")
    before = transcript.read_bytes()
    late = here("transcribe", recording, "--out", out, "--speakers", "2", "--time-limit", "0.01")
    assert late.code == 1 and "time limit" in late.stderr
    aside = recording.rename(tmp_path / "b.wav")
    gone = here("transcribe", recording, "--out", out)
    assert gone.code == 1 and "no such file" in gone.stderr
    assert transcript.read_bytes() == before and not list(out.glob("failures/*"))
    aside.rename(recording).write_bytes(b"not audio")
    assert here("transcribe", recording, "--out", out).code == 1
    assert not transcript.exists() and len(list(out.glob("failures/*"))) == 1
    recording.write_bytes(short.read_bytes())
    assert hansard("transcribe", recording, "--out", out).code == 0
    assert transcript.exists() and not list(out.glob("failures/*"))
