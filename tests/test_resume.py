"""Nothing is done twice, and a run killed at any moment goes on where it stopped."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, hansard


def record(out: Path) -> dict[str, Any]:
    """The one transcript in `out`, without the seconds that differ from run to run."""
    (path,) = (out / "transcripts").glob("*.json")
    transcript: dict[str, Any] = json.loads(path.read_bytes())
    for run in transcript["provenance"]["stages"]:
        run["seconds"] = 0
    return transcript


def artifacts(out: Path) -> dict[str, int]:
    """Artifact names by stage and when each was written."""
    return {path.name: path.stat().st_mtime_ns for path in out.glob("artifacts/*/*")}


def stages_of(names: set[str]) -> set[str]:
    return {name.split("-")[0] for name in names}


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "out"))


def test_a_second_run_does_nothing(out: Path, meeting: Path) -> None:
    (transcript,) = (out / "transcripts").glob("*.json")
    before = (artifacts(out), transcript.stat().st_mtime_ns, record(out))
    call = hansard("transcribe", meeting, "--out", out)
    assert call.code == 0
    assert (artifacts(out), transcript.stat().st_mtime_ns, record(out)) == before


def test_the_number_of_speakers_is_corrected_without_transcribing_again(
    out: Path, meeting: Path
) -> None:
    before = artifacts(out)
    call = hansard("transcribe", meeting, "--out", out, "--speakers", "3")
    assert call.code == 0, call.stderr
    after = artifacts(out)
    assert stages_of(set(after) - set(before)) == {
        "clustering",
        "overlap",
        "attribution",
        "emotion",
    }
    assert all(after[name] == written for name, written in before.items())
    assert len({label for _, _, label in record(out)["timeline"]}) == 3


def test_a_changed_recording_is_done_anew(out: Path, meeting: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.wav"
    shutil.copy(meeting, copy)
    fresh = tmp_path / "fresh"
    assert hansard("transcribe", copy, "--out", fresh).code == 0
    data = copy.read_bytes()
    copy.write_bytes(data[: len(data) // 2])
    assert hansard("transcribe", copy, "--out", fresh).code == 0
    transcript = record(fresh)
    assert transcript["duration"] == pytest.approx(37_500, abs=100)
    assert transcript["turns"] == record(fresh)["turns"]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_killed_at_a_random_moment_it_goes_on_and_ends_the_same(
    seed: int, finished: Path, meeting: Path, tmp_path: Path
) -> None:
    """SIGKILL after each of three random delays, then one run to the end."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "jobs.cli", "transcribe", str(meeting), "--out", str(out)]
    delays = random.Random(seed)
    kept: dict[str, int] = {}
    for _ in range(3):
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        time.sleep(delays.uniform(0.5, 6.0))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        now = artifacts(out)
        assert {name: now[name] for name in kept} == kept
        kept = {name: written for name, written in now.items() if not name.endswith(".tmp")}
    assert hansard("transcribe", meeting, "--out", out).code == 0
    assert record(out) == record(finished)
    assert {name: written for name, written in artifacts(out).items() if name in kept} == kept
