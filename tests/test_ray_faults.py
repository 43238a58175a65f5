"""What may break on a cluster breaks here, for real: processes are killed, nodes vanish, a disk
fills, an owner sleeps through its lease. After each, every recording has exactly one record, equal
to that of an undisturbed run, and what was made before is not made again."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile

from jobs.claims import Claims
from pipeline.storage import Folder
from tests.conftest import Call, hansard
from tests.faulty import FAULTS, POISON, light_profile
from tests.ray_cluster import add_node, artifacts, ray_cluster, records, start

RATE = 16000
COUNT = 6
PATIENCE = 120.0


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder that tells processes to break; they learn of it from the environment."""
    folder = tmp_path_factory.mktemp("faults")
    os.environ[FAULTS] = str(folder)
    yield folder
    del os.environ[FAULTS]


@pytest.fixture(scope="module")
def cluster(faults: Path) -> Iterator[Any]:
    with ray_cluster(nodes=2) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of six simulated recordings."""
    return manifest(tmp_path_factory.mktemp("archive"), "012345")


def manifest(folder: Path, names: Iterable[str]) -> Path:
    path = folder / "all.jsonl"
    path.write_text("".join(f'{{"audio": "/archive/{name}.wav"}}\n' for name in names))
    return path


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Light stages; each unit of work takes 0.1 s."""
    path = tmp_path_factory.mktemp("profile") / "light.yaml"
    path.write_text(light_profile(work=0.1))
    return path


@pytest.fixture(scope="module")
def undisturbed(
    archive: Path, profile: Path, faults: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """The records of a run in one process."""
    out = tmp_path_factory.mktemp("undisturbed")
    assert hansard("transcribe", archive, "--out", out, "--profile", profile).code == 0
    found = records(out)
    assert len(found) == COUNT
    return found


@pytest.fixture
def arguments(cluster: Any, archive: Path, profile: Path, tmp_path: Path) -> list[str]:
    """Of the call that is disturbed."""
    return on_cluster(cluster, archive, tmp_path / "out", profile)


def on_cluster(cluster: Any, source: Path, out: Path, profile: Path) -> list[str]:
    call = ["transcribe", source, "--out", out, "--profile", profile]
    return [*map(str, call), "--executor", "ray", "--address", cluster.address]


def wait_for(what: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Until `what` holds or the process has ended."""
    deadline = time.monotonic() + PATIENCE
    while not what() and process.poll() is None:
        assert time.monotonic() < deadline, "nothing happens"
        time.sleep(0.02)


def end_of(process: subprocess.Popen[str]) -> Call:
    _, told = process.communicate(timeout=PATIENCE)
    return Call(process.returncode, "", told)


def test_a_worker_killed_in_each_stage_costs_no_more_than_its_batch(
    cluster: Any, faults: Path, meeting: Path, tmp_path: Path
) -> None:
    """The stages of the profile `default`; all are struck in one run."""
    from tests.faulty_default import STAGES, default_profile

    profile = tmp_path / "default.yaml"
    profile.write_text(default_profile())
    speech, _ = soundfile.read(meeting, frames=20 * RATE, dtype="int16")
    soundfile.write(tmp_path / "a.wav", speech, RATE)
    calm = hansard("transcribe", tmp_path / "a.wav", "--out", tmp_path / "1", "--profile", profile)
    assert calm.code == 0, calm.stderr
    for stage in STAGES:
        (faults / stage).touch()
    out = tmp_path / "2"
    struck = hansard(*on_cluster(cluster, tmp_path / "a.wav", out, profile))
    assert struck.code == 0, struck.stderr
    assert not list(faults.iterdir()), "a stage was not struck"
    assert records(out) == records(tmp_path / "1")


def test_a_node_that_vanishes_takes_nothing_with_it(
    cluster: Any, arguments: list[str], tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    node = add_node(cluster)
    process = start(*arguments)
    out = tmp_path / "out"
    wait_for(lambda: len(artifacts(out)) >= 2, process)
    kept = artifacts(out)
    cluster.remove_node(node, allow_graceful=False)
    call = end_of(process)
    assert call.code == 0, call.stderr
    assert records(out) == undisturbed
    assert kept.items() <= artifacts(out).items()


def test_a_driver_killed_ten_times_goes_on_where_it_was(
    arguments: list[str], tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    out = tmp_path / "out"
    chance = random.Random(7)
    kept: dict[str, int] = {}
    for _ in range(10):
        process = start(*arguments)
        wanted = len(kept) + chance.randrange(4)
        wait_for(lambda wanted=wanted: len(artifacts(out)) >= wanted, process)  # type: ignore[misc]
        time.sleep(chance.uniform(0, 0.3))
        process.kill()
        process.wait()
        now = artifacts(out)
        assert kept.items() <= now.items(), "made twice"
        kept = now
    call = hansard(*arguments)
    assert call.code == 0, call.stderr
    assert records(out) == undisturbed
    assert kept.items() <= artifacts(out).items(), "made twice"
    assert not list(out.glob("claims/*"))


def test_a_recording_that_kills_its_worker_every_time_fails_alone(
    cluster: Any, profile: Path, tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    out = tmp_path / "out"
    source = manifest(tmp_path, [POISON, *"012345"])
    call = hansard(*on_cluster(cluster, source, out, profile))
    assert call.code == 1, call.stderr
    found = records(out)
    (failed,) = (found.pop(name) for name in set(found) - set(undisturbed))
    assert found == undisturbed
    assert (failed["stage"], failed["attempt"]) == ("words", 1)
    assert "its conductor died 3 times, the last time in stage words" in failed["error"]


def test_a_disk_that_fills_costs_no_record(
    arguments: list[str], tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", out]).returncode:
        pytest.skip("mounting a small disk takes rights that are not there")
    try:
        ballast = out / "ballast"
        ballast.write_bytes(bytes(shutil.disk_usage(out).free - 80_000))
        full = hansard(*arguments)
        assert full.code == 1, full.stderr
        assert "no space left" in full.stderr
        before, kept = records(out), artifacts(out)
        assert len(before) < COUNT
        ballast.unlink()
        again = hansard(*arguments)
        assert again.code == 0, again.stderr
        assert records(out) == undisturbed
        assert kept.items() <= artifacts(out).items(), "made twice"
        assert not list(out.glob("failures/*"))
    finally:
        subprocess.run(["umount", "-l", out], check=True)


def test_an_owner_that_sleeps_through_its_lease_writes_nothing_over(
    cluster: Any, faults: Path, tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    """A run in one process takes over from a conductor that stands still, and finishes."""
    source, out = manifest(tmp_path, "0"), tmp_path / "out"
    (faults / "lease").write_text("3")
    slow = tmp_path / "light.yaml"
    slow.write_text(light_profile(work=1.0))
    try:
        process = start(*on_cluster(cluster, source, out, slow))
        wait_for(lambda: any(out.glob("artifacts/*/audio-*")), process)
        owners = Claims(Folder(str(out))).owners
        while not (claimed := owners()):  # a renewal may have replaced the file just listed
            pass
        (owner,) = (claim.pid for claim in claimed.values())
        os.kill(owner, signal.SIGSTOP)
        try:
            other = hansard("transcribe", source, "--out", out, "--profile", slow)
        finally:
            os.kill(owner, signal.SIGCONT)
    finally:
        (faults / "lease").unlink()
    assert other.code == 0, other.stderr
    (transcript,) = out.glob("transcripts/*")
    written = transcript.stat().st_mtime_ns
    call = end_of(process)
    assert call.code == 0, call.stderr
    assert transcript.stat().st_mtime_ns == written
    ((name, record),) = records(out).items()
    slower = {"provenance": {}}  # in which its parameters are
    assert record | slower == undisturbed[name] | slower
    assert not list(out.glob("claims/*"))
