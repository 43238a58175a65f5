"""`hansard sync` for cron, and several runs that work on the same folder at once."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile

from jobs.claims import Claims
from pipeline.storage import Folder
from tests.conftest import ROOT, Call, Here

NOW_OLD = time.time() - 3600


@pytest.fixture
def archive(meeting: Path, tmp_path: Path) -> Path:
    """A folder with three recordings of 8 seconds, an hour old."""
    folder = tmp_path / "in"
    folder.mkdir()
    speech, rate = soundfile.read(meeting, dtype="int16")
    for i in range(3):
        put(folder / f"{i}.wav", speech[i * 20 * rate :][: 8 * rate], rate)
    return folder


def put(path: Path, samples: object, rate: int, age: float = 3600) -> None:
    soundfile.write(path, samples, rate)
    os.utime(path, (time.time() - age,) * 2)


def files(out: Path, under: str) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in out.glob(f"{under}/**/*.*")}


def stderr_of(call: Call) -> list[str]:
    return call.stderr.splitlines()


def test_only_what_is_new_or_changed_is_done(archive: Path, tmp_path: Path, here: Here) -> None:
    out = tmp_path / "out"
    first = here("sync", archive, "--out", out)
    assert (first.code, stderr_of(first)[-1]) == (
        0, "sync: 3 new, 0 changed, 0 failed, 0 unchanged",
    )  # fmt: skip
    before = files(out, "transcripts")
    again = here("sync", archive, "--out", out)
    assert (again.code, again.stdout) == (0, "")
    assert stderr_of(again) == ["sync: 0 new, 0 changed, 0 failed, 3 unchanged"]
    speech, rate = soundfile.read(archive / "0.wav", dtype="int16")
    put(archive / "0.wav", speech[: 6 * rate], rate, age=1800)
    put(archive / "new.wav", speech, rate)
    put(archive / "still.wav", speech, rate, age=0)
    (archive / "upload.wav.part").write_bytes(b"half")
    changed = here("sync", archive, "--out", out)
    assert changed.code == 0
    assert stderr_of(changed)[-1] == (
        "sync: 1 new, 1 changed, 0 failed, 2 unchanged, 1 still uploading"
    )
    after = files(out, "transcripts")
    assert len(after) == 4
    assert sum(after.get(name) == written for name, written in before.items()) == 2
    assert stderr_of(here("sync", archive, "--out", out, "--settle", "0"))[-1] == (
        "sync: 1 new, 0 changed, 0 failed, 4 unchanged"
    )
    # One state of the input is kept for each, and nobody's claim.
    assert len(list(out.glob("sources/*"))) == 5 and not list(out.glob("claims/*"))


def test_a_wrong_profile_is_told_before_anything_is_done(
    archive: Path, tmp_path: Path, here: Here
) -> None:
    (tmp_path / "empty").mkdir()
    for wrong in (("--profile", "defualt"), ("--set", "clusterin.speakers=2")):
        assert here("sync", tmp_path / "empty", "--out", tmp_path / "out", *wrong).code == 2
    call = here("sync", archive, "--out", tmp_path / "out", "--set", "clustering.speekers=2")
    assert call.code == 2 and "speakers" in call.stderr
    assert not files(tmp_path / "out", "transcripts") and not files(tmp_path / "out", "failures")


def test_what_transcribe_did_is_known_and_a_touched_file_is_not_done_again(
    archive: Path, tmp_path: Path, here: Here
) -> None:
    out = tmp_path / "out"
    assert here("transcribe", archive, "--out", out).code == 0
    summary = ["sync: 0 new, 0 changed, 0 failed, 3 unchanged"]
    before = files(out, "transcripts")
    assert stderr_of(here("sync", archive, "--out", out)) == summary
    os.utime(archive / "0.wav", (NOW_OLD - 60,) * 2)
    assert stderr_of(here("sync", archive, "--out", out)) == summary
    assert stderr_of(here("sync", archive, "--out", out)) == summary
    assert files(out, "transcripts") == before
    assert len(list(out.glob("sources/*"))) == 3


def test_what_fails_is_tried_a_few_times_and_again_when_it_changes(
    archive: Path, tmp_path: Path, here: Here
) -> None:
    out = tmp_path / "out"
    speech, rate = soundfile.read(archive / "0.wav", dtype="int16")
    (archive / "0.wav").write_bytes(b"not audio")
    os.utime(archive / "0.wav", (NOW_OLD, NOW_OLD))
    ends = [here("sync", archive, "--out", out, "--max-attempts", "2") for _ in range(3)]
    assert [call.code for call in ends] == [1, 1, 0]
    assert [stderr_of(call)[-1] for call in ends] == [
        "sync: 2 new, 0 changed, 1 failed, 0 unchanged",
        "sync: 0 new, 0 changed, 1 failed, 2 unchanged",
        "sync: 0 new, 0 changed, 0 failed, 2 unchanged, 1 failed too often before",
    ]
    assert len(stderr_of(ends[2])) == 1
    (failure,) = (json.loads(path.read_bytes()) for path in out.glob("failures/*"))
    assert (failure["attempt"], failure["stage"]) == (2, "audio")
    assert "not audio" in failure["error"]
    assert failure["worker"] == f"{socket.gethostname()}:{os.getpid()}"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", failure["time"])
    left = here("transcribe", archive / "0.wav", "--out", out, "--max-attempts", "2", "--json")
    assert left.code == 1 and "not tried again: 2 attempts" in left.stderr
    assert json.loads(left.stdout)["attempt"] == 2
    put(archive / "0.wav", speech, rate, age=1800)
    assert stderr_of(here("sync", archive, "--out", out))[-1].startswith("sync: 1 new")
    assert not list(out.glob("failures/*"))


def test_a_row_of_a_manifest_that_changes_runs_no_more_than_it_must(
    archive: Path, tmp_path: Path, here: Here
) -> None:
    manifest, out = tmp_path / "list.csv", tmp_path / "out"
    manifest.write_text("audio,speakers,language\nin/0.wav,1,en\nin/1.wav,1,de\nin/2.wav,,\n")
    first = here("sync", manifest, "--out", out)
    assert first.code == 1
    assert stderr_of(first)[-1] == "sync: 2 new, 0 changed, 1 failed, 0 unchanged"
    (refused,) = (line for line in stderr_of(first) if line.startswith("FAILED"))
    assert "1.wav" in refused and "'de'" in refused and "'en'" in refused
    before = files(out, "artifacts")
    manifest.write_text("audio,speakers,language\nin/0.wav,2,en\nin/1.wav,1,en\n")
    second = here("sync", manifest, "--out", out)
    assert second.code == 0
    assert stderr_of(second)[-1] == "sync: 1 new, 1 changed, 0 failed, 0 unchanged"
    stages = [
        Path(name).name.split("-")[0]
        for name in set(files(out, "artifacts")) - set(before)
        if "/0-" in name
    ]
    assert sorted(stages) == ["attribution", "clustering", "emotion", "overlap"]
    texts = {path.name[0]: json.loads(path.read_bytes()) for path in out.glob("transcripts/*")}
    assert len({label for _, _, label in texts["0"]["timeline"]}) == 2
    assert len({label for _, _, label in texts["1"]["timeline"]}) == 1


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "jobs.cli", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def test_two_runs_at_once_do_each_recording_once(archive: Path, tmp_path: Path) -> None:
    (archive / "bad.wav").write_bytes(b"not audio")
    os.utime(archive / "bad.wav", (NOW_OLD, NOW_OLD))
    out = tmp_path / "out"
    runs = [start("sync", archive, "--out", out) for _ in range(2)]
    texts = [run.communicate(timeout=300)[1] for run in runs]
    summaries = [text.splitlines()[-1] for text in texts]
    counts = [re.findall(r"\d+ (?:new|failed)\b", summary) for summary in summaries]
    done = "\n".join(texts).count("done   ")
    assert done == 3 and sum(int(found[0].split()[0]) for found in counts) == 3, texts
    assert len(list(out.glob("transcripts/*"))) == 3
    (failure,) = (json.loads(path.read_bytes()) for path in out.glob("failures/*"))
    assert failure["attempt"] == 1
    assert not list(out.glob("claims/*"))


def test_a_second_transcribe_waits_for_what_the_first_one_does(
    archive: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    runs = [start("transcribe", archive, "--out", out) for _ in range(2)]
    texts = [run.communicate(timeout=300)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], texts
    for text in texts:  # each tells of each recording, whoever did it
        assert text.count("done   ") == 3
    written = [path.name.rsplit("-", 1)[0] for path in out.glob("artifacts/*/asr-*")]
    assert len(written) == 3 and not list(out.glob("claims/*"))


def test_a_recording_of_another_run_is_waited_for_or_left(
    archive: Path, tmp_path: Path, here: Here
) -> None:
    out = tmp_path / "out"
    (name,) = re.findall(r"^done .*0\.wav", here("sync", archive / "0.wav", "--out", out).stderr)
    assert name
    (transcript,) = out.glob("transcripts/*")
    transcript.unlink()
    claim = Claims(Folder(str(out))).acquire(transcript.stem)
    left = here("sync", archive / "0.wav", "--out", out)
    assert left.code == 0
    assert "left to it" in left.stderr and f":{os.getpid()} works on it" in left.stderr
    assert stderr_of(left)[-1].endswith("0 unchanged, 1 in another run")
    threading.Timer(3, claim.release).start()  # type: ignore[union-attr]
    waited = here("transcribe", archive / "0.wav", "--out", out)
    assert waited.code == 0
    assert "waiting for it" in waited.stderr and "done   " in waited.stderr


def test_a_run_that_is_told_to_end_gives_its_claim_back(meeting: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = start("transcribe", meeting, "--out", out)
    while not list(out.glob("claims/*")):
        assert run.poll() is None
        time.sleep(0.02)
    run.send_signal(signal.SIGTERM)
    stderr = run.communicate(timeout=60)[1]
    assert run.returncode == 130 and "Traceback" not in stderr
    assert not list(out.glob("claims/*"))


@pytest.fixture
def silent_server() -> Iterator[str]:
    """The address of a recording on a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/stuck.wav"


def test_a_recording_that_hangs_is_stopped_and_the_next_one_gets_its_turn(
    tmp_path: Path, silent_server: str, here: Here
) -> None:
    (tmp_path / "text.wav").write_text("not audio")
    sources = [silent_server, tmp_path / "text.wav"]
    call = here("transcribe", *sources, "--out", tmp_path / "out", "--time-limit", "4")
    assert call.code == 1
    stuck, text = stderr_of(call)
    assert "stuck.wav: stopped in stage audio" in stuck and "time limit of 4 s" in stuck
    assert "text.wav: not audio" in text
    failures = [json.loads(path.read_bytes()) for path in tmp_path.glob("out/failures/*")]
    assert [failure["stage"] for failure in failures] == ["audio", "audio"]
