"""`hansard submit` and `hansard job` against a real Ray cluster with its dashboard."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request as HttpRequest
from urllib.request import urlopen

import pytest

from benchmarks.simulation import PROFILE
from jobs.recorder import Conduct
from jobs.submit.submission import prepare
from jobs.transcribe import Request, make_options
from pipeline.errors import UsageError
from tests.conftest import ROOT, Here
from tests.ports import free_port

TOKEN = "a-token-that-only-this-test-knows-0123456789"
PATIENCE = 120


@pytest.fixture(scope="module")
def dashboard() -> Iterator[str]:
    """The address of a head that wants its token. Its processes find Hansard, and the simulated
    stages, where this one does."""
    port = free_port()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {
        "PATH": path, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN,
        "RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0",
    }  # fmt: skip
    # Of its own: in the usual one the cluster of another test would be taken for this one.
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # whose sockets need a short path
    call = [
        "ray", "start", f"--temp-dir={folder}", "--head", "--block", "--num-cpus=2", "--port=0",
        f"--dashboard-port={port}", f"--ray-client-server-port={free_port()}",
        f"--dashboard-agent-listen-port={free_port()}", "--object-store-memory=100000000",
    ]  # fmt: skip
    head = subprocess.Popen(
        [str(Path(sys.executable).with_name(call[0])), *call[1:]],
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + PATIENCE
        while not listens(port):
            assert head.poll() is None and time.monotonic() < deadline, "no dashboard"
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        head.send_signal(signal.SIGTERM)
        head.wait(PATIENCE)
        shutil.rmtree(folder, ignore_errors=True)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def address(dashboard: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    return dashboard


def metrics(address: str, name: str) -> list[str]:
    """What Prometheus would find of Hansard's metric, asking as it does."""
    lines: list[str] = []
    authorization = {"Authorization": f"Bearer {TOKEN}"}
    with urlopen(HttpRequest(f"{address}/api/prometheus/sd", headers=authorization)) as found:
        targets = [target for group in json.load(found) for target in group["targets"]]
    for target in targets:
        # Not every target that is named listens yet.
        with suppress(URLError), urlopen(f"http://{target}/metrics") as page:
            lines += [line for line in page.read().decode().splitlines() if line[0] != "#"]
    return [line for line in lines if line.startswith(f"ray_hansard_{name}")]


def test_a_job_is_followed_to_its_end_and_told_of_afterwards(
    address: str, short: Path, tmp_path: Path, here: Here
) -> None:
    out = tmp_path / "out of the cluster"
    odd = tmp_path / 'it\'s; $(touch pwned) "&".wav'
    odd.write_text("not audio")
    at = ["--address", address]
    call = here("submit", short, odd, "--out", out, "--format", "rttm", "--follow", *at)
    assert call.code == 1, call.stderr
    job = call.stdout.strip()
    assert f"done   {short}" in call.stderr and "not audio in any format" in call.stderr
    assert len(list(out.glob("transcripts/short-*"))) == 1
    assert len(list(out.glob("exports/short-*.rttm"))) == 1
    assert len(list(out.glob("failures/it-s*"))) == 1
    state = json.loads(here("job", "status", job, "--json", *at).stdout)
    assert (state["status"], state["code"], state["out"]) == ("FAILED", 1, str(out))
    assert job in here("job", "status", *at).stdout
    log = here("job", "logs", job, *at)
    assert log.code == 0 and f"done   {short}" in log.stdout
    assert here("job", "logs", job, "--follow", *at).code == 1


def test_what_travels_is_there_what_it_does_is_measured_and_it_can_be_stopped(
    address: str, tmp_path: Path, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "slow.yaml").write_text(PROFILE.replace(":Loudness", ":Loudness\n  work: 60"))
    (lists / "all.jsonl").write_text('{"audio": "/archive/a.wav"}\n')
    monkeypatch.chdir(tmp_path)
    call = here(
        "submit", "lists/all.jsonl", "--out", "out", "--profile", "lists/slow.yaml",
        "--working-dir", "lists", "--json", "--address", address,
    )  # fmt: skip
    assert call.code == 0, call.stderr
    assert str(tmp_path / "out") in call.stderr and "lists" not in call.stderr
    job = json.loads(call.stdout)["id"]
    at = ["--address", address]
    deadline = time.monotonic() + PATIENCE
    # Beside its own there is, for some time, what the job before has left.
    while not (
        list(tmp_path.glob("out/claims/*"))
        and "1.0" in (line.split()[-1] for line in metrics(address, "recordings_left"))
        and any('stage="words"' in line for line in metrics(address, "stage_workers"))
    ):
        assert time.monotonic() < deadline, here("job", "logs", job, *at).stdout
        time.sleep(0.5)
    assert here("job", "stop", job, *at).code == 0
    assert here("job", "logs", job, "--follow", *at).code == 1
    assert json.loads(here("job", "status", job, "--json", *at).stdout)["status"] == "STOPPED"


def test_what_cannot_be_reached_is_one_line(
    address: str, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = ["submit", "/archive", "--out", "/results", "--address"]
    nobody = f"http://127.0.0.1:{free_port()}"
    for call, reason in (
        ([*submit, nobody], "nothing answers there"),
        ([*submit, "ray://127.0.0.1:10001"], "jobs go to the cluster's dashboard"),
        (["job", "status", "no-such-job", "--address", address], "no-such-job does not exist"),
        (["job", "logs", "no-such-job", "--address", address], "no-such-job does not exist"),
    ):
        told = here(*call)
        assert told.code == 2 and reason in told.stderr and told.stderr.count("\n") == 1, told
    monkeypatch.setenv("RAY_AUTH_TOKEN", "the-wrong-token-of-another-cluster-0123456789")
    told = here(*submit, address)
    assert told.code == 2 and "the cluster wants its token" in told.stderr


def request(*sources: str, out: str = "s3://results") -> Request:
    return Request(sources, out, make_options("default", (), None), Conduct())


def test_nothing_secret_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray shows and logs the command and the variables of a job."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store")
    signed = "https://archive.example/a.wav?X-Amz-Signature=hidden"
    for sources, names in ((("https://me:hidden@host/a.wav",), ()), ((signed,), ()),
                           (("s3://a/",), ("AWS_SECRET_ACCESS_KEY",)),
                           (("s3://a/",), ("NOT_SET_HERE",))):  # fmt: skip
        with pytest.raises(UsageError) as error:
            prepare(request(*sources), None, names)
        assert "hidden" not in str(error.value)
    sent = prepare(request("s3://a/"), None, ["AWS_ENDPOINT_URL"])
    assert sent.variables == {"AWS_ENDPOINT_URL": "http://store"}
    assert sent.paths == ()


def test_recordings_and_results_do_not_travel(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    (tmp_path / "calls.csv").write_text("audio\na.wav\n")
    inside = str(tmp_path / "calls.csv")
    for wrong in (request(str(tmp_path / "a.wav")), request(inside),
                  request("s3://a/", out=str(tmp_path / "out"))):  # fmt: skip
        with pytest.raises(UsageError):
            prepare(wrong, tmp_path, ())
    (tmp_path / "calls.csv").write_text("audio\n/archive/a.wav\n")
    sent = prepare(request(inside), tmp_path, ())
    assert sent.command.endswith("-- calls.csv") and sent.folder == str(tmp_path)
