"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

import pipeline  # noqa: F401 (before any test loads torch)
from tests.s3_server import Bucket, environment, fresh_bucket, s3_server

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The open speech beside the checkout (or where HANSARD_SHARED_DATA points)."""
    beside = ROOT.parent / "shared" / "data"
    data = Path(os.environ.get("HANSARD_SHARED_DATA", beside))
    if not data.is_dir():
        pytest.skip(f"no open speech at {data}: set HANSARD_SHARED_DATA to run this test")
    return data


@dataclass(frozen=True)
class Call:
    """A finished call of the command."""

    code: int
    stdout: str
    stderr: str


def hansard(*arguments: str | Path, timeout: float = 300) -> Call:
    """Runs the command as a user does, in a process of its own."""
    command = [sys.executable, "-m", "jobs.cli", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout)
    return Call(done.returncode, done.stdout, done.stderr)


Here = Callable[..., Call]


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Here:
    """Runs the command in this process, which is quicker: `here("status", out)`."""
    from jobs import cli

    def call(*arguments: str | Path) -> Call:
        monkeypatch.setattr(sys, "argv", ["hansard", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        return Call(int(end.value.code or 0), *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def meeting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 75 seconds of the demo meeting, as WAV: three turns and more, two speakers."""
    from stages.audio.decode import AudioSource

    path = tmp_path_factory.mktemp("meeting") / "meeting.wav"
    source = AudioSource(str(ROOT / "demo" / "meeting.opus"), AudioSource.parameters_type())
    samples = np.concatenate([block.samples for block in source.blocks()])[: 75 * 16000]
    soundfile.write(path, samples, 16000, subtype="PCM_16")
    return path


@pytest.fixture(scope="session")
def short(meeting: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 8 seconds of `meeting`."""
    path = tmp_path_factory.mktemp("short") / "short.wav"
    samples, rate = soundfile.read(meeting, frames=8 * 16000, dtype="int16")
    soundfile.write(path, samples, rate)
    return path


@pytest.fixture(scope="session")
def finished(meeting: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder in which `meeting` is done. Tests copy it before they change it."""
    out = tmp_path_factory.mktemp("finished") / "out"
    call = hansard("transcribe", meeting, "--out", out, "--format", "rttm", "--format", "srt")
    assert call.code == 0, call.stderr
    return out


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The address of a real S3 server on loopback, one for all tests."""
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def s3(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A fresh bucket, which this process and those that it starts reach as `s3.uri`."""
    for name, value in environment(s3_endpoint).items():
        monkeypatch.setenv(name, value)
    return fresh_bucket(s3_endpoint)
