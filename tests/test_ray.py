"""`--executor ray` on a real cluster of two nodes: what one process gives, it gives, spread over
the nodes, within bounds. What breaks and is mended is in test_ray_faults.py."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pipeline.cluster.nodes import Node, emptiest
from pipeline.cluster.plan import check_fit, plans
from pipeline.errors import ProfileError, UsageError
from pipeline.profile import load_profile
from pipeline.resources import Resources
from tests.conftest import Call, Here, hansard
from tests.ports import free_port
from tests.ray_cluster import ray_cluster, records, start
from tests.ray_stages import PROFILE


class Place(NamedTuple):
    """Addresses of one cluster, from within and from without."""

    inside: str
    outside: str


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """Two nodes of one CPU each."""
    port = free_port()
    with ray_cluster(nodes=2, ray_client_server_port=port) as cluster:
        yield Place(cluster.address, f"ray://127.0.0.1:{port}")


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    path = tmp_path / "light.yaml"
    path.write_text(PROFILE)
    return path


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    path = tmp_path / "traces"
    path.mkdir()
    return path


def told(call: Call) -> dict[str, Any]:
    """The records on standard output, by id, without what differs from run to run."""
    lines = [json.loads(line) for line in call.stdout.splitlines()]
    found = {line["id"]: line for line in lines}
    assert len(found) == len(lines)
    return {name: comparable(record) for name, record in found.items()}


def comparable(record: dict[str, Any]) -> dict[str, Any]:
    for run in record.get("provenance", {}).get("stages", ()):
        run["seconds"] = 0
    return {key: value for key, value in record.items() if key not in ("worker", "time")}


def without_speed(text: str) -> list[str]:
    """The lines, in any order, up to the first comma: behind that some say how fast it went. Not
    what Ray's core tells now and then, past Python, with a time in brackets."""
    lines = (line for line in text.splitlines() if not line.startswith("[20"))
    return sorted(line.partition(",")[0] for line in lines)


def kept(out: Path) -> dict[str, Any]:
    return {name: comparable(record) for name, record in records(out).items()}


def test_one_long_recording_is_spread_over_workers_and_nodes_within_bounds(
    place: Place, profile: Path, traces: Path, here: Here, tmp_path: Path
) -> None:
    """The first of the cluster's tests: the workers of a run that has ended keep their nodes' CPUs
    for a moment, and a worker then goes to another node."""
    out, seconds = tmp_path / "out", 400
    call = here(
        "transcribe", "/simulated/long.wav", "--out", out, "--profile", profile,
        *("--executor", "ray", "--address", place.inside, "--set", f"audio.seconds={seconds}"),
        *("--set", f"words.traces={traces}", "--set", "words.work=0.1"),
    )  # fmt: skip
    assert call.code == 0, call.stderr
    processes = [path.name.partition("@") for path in traces.glob("*@*")]
    assert len({pid for pid, _, _ in processes}) == 2
    assert len({node for _, _, node in processes}) == 2
    assert len(list(traces.glob("done.*"))) == seconds
    cut, done = (
        sorted(path.stat().st_mtime_ns for path in traces.glob(f"{what}.*"))
        for what in ("cut", "done")
    )
    # Ends in the same tick of the file system's clock count as before.
    under_way = [at + 1 - sum(end <= began for end in done) for at, began in enumerate(cut)]
    assert max(under_way) <= 2 * 20 + 1, "two units of two seconds, and the batch computed here"


def test_a_stage_may_have_workers_of_its_own(
    place: Place, profile: Path, traces: Path, here: Here, tmp_path: Path
) -> None:
    sources = [f"/simulated/{n}.wav" for n in range(3)]
    arguments = [
        *sources, "--profile", profile, "--executor", "ray", "--address", place.inside,
        *("--set", f"words.traces={traces}"),
    ]  # fmt: skip
    plain = here("transcribe", *arguments, "--out", tmp_path / "1")
    assert plain.code == 0, plain.stderr
    for path in traces.glob("*@*"):
        path.unlink()
    call = here(
        "transcribe", *arguments, "--out", tmp_path / "2",
        *("--set", "resources.words.workers=2", "--set", "words.processes=2"),
        *("--set", "resources.clustering.cpus=0.3"),
    )  # fmt: skip
    assert call.code == 0, call.stderr
    assert len(list(traces.glob("*@*"))) == 2
    theirs, ours = kept(tmp_path / "2"), kept(tmp_path / "1")
    assert len(theirs) == 3
    for name, record in theirs.items():
        assert (record["turns"], record["timeline"]) == (
            ours[name]["turns"],
            ours[name]["timeline"],
        )


def test_records_are_those_of_one_process(
    place: Place, meeting: Path, short: Path, tmp_path: Path
) -> None:
    """The stages of the profile `default`."""
    (tmp_path / "broken.wav").write_bytes(b"RIFF, and nothing else")
    both = [meeting, short, tmp_path / "broken.wav", "--json", "--out"]
    here = hansard("transcribe", *both, tmp_path / "here")
    there = hansard(
        "transcribe", *both, tmp_path / "there", "--executor", "ray", "--address", place.inside
    )
    assert (here.code, there.code) == (1, 1), there.stderr
    assert told(there) == told(here)
    assert kept(tmp_path / "there") == kept(tmp_path / "here")
    (failure,) = (tmp_path / "there").glob("failures/*")
    assert json.loads(failure.read_bytes())["worker"].partition(":")[2].isdecimal()
    assert without_speed(there.stderr) == without_speed(here.stderr)
    assert not list((tmp_path / "there").glob(".run-*"))


def test_recordings_keep_their_own_settings(
    place: Place, profile: Path, here: Here, tmp_path: Path
) -> None:
    manifest = tmp_path / "calls.jsonl"
    wanted = {f"/simulated/{n}.wav": 1 + n % 3 for n in range(9)}
    rows = [{"audio": audio, "speakers": count} for audio, count in wanted.items()]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    call = here(
        "transcribe", manifest, "--out", tmp_path / "out", "--profile", profile,
        *("--executor", "ray", "--address", place.inside),
    )  # fmt: skip
    assert call.code == 0, call.stderr
    found = records(tmp_path / "out").values()
    assert {record["uri"]: len(record["timeline"]) for record in found} == wanted


def test_from_outside_of_the_cluster(
    place: Place, profile: Path, here: Here, tmp_path: Path
) -> None:
    sources = [f"/simulated/{n}.wav" for n in range(3)]
    call = here(
        "transcribe", *sources, "--out", tmp_path / "out", "--profile", profile, "--json",
        *("--executor", "ray", "--address", place.outside),
    )  # fmt: skip
    assert call.code == 0, call.stderr
    assert {record["uri"] for record in told(call).values()} == set(sources)


@pytest.mark.parametrize(("deaths", "code"), [(2, 0), (3, 1)])
def test_a_conductor_that_dies_is_replaced_twice(
    deaths: int, code: int, place: Place, profile: Path, traces: Path, here: Here, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    call = here(
        "transcribe", "/simulated/a.wav", "--out", out, "--profile", profile,
        *("--executor", "ray", "--address", place.inside),
        *("--set", f"words.traces={traces}", "--set", f"words.conductor_deaths={deaths}"),
    )  # fmt: skip
    assert call.code == code, call.stderr
    assert len(list(traces.glob("death.*"))) == deaths
    (record,) = records(out).values()
    assert record["status"] == ("failed" if code else "done")
    if code:
        assert record["error"].endswith("(out of memory, or a crash)")
        assert "its conductor died 3 times" in call.stderr
        assert int(record["worker"].rpartition(":")[2]) != os.getpid()
    assert not list(out.glob("claims/*"))


def test_a_run_that_is_told_to_end_gives_its_claims_back(
    place: Place, profile: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = start(
        "transcribe", "/simulated/a.wav", "--out", out, "--profile", profile,
        *("--executor", "ray", "--address", place.inside),
        *("--set", "audio.seconds=1000", "--set", "words.work=1"),
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(out.glob("claims/*")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert said.endswith("hansard: interrupted; the same command goes on from here\n")
    assert not list(out.glob("claims/*"))
    assert not records(out)


def test_a_recording_that_takes_too_long_fails_alone(
    place: Place, profile: Path, here: Here, tmp_path: Path
) -> None:
    manifest = tmp_path / "calls.jsonl"
    manifest.write_text('{"audio": "/simulated/slow.wav"}\n{"audio": "/simulated/next.wav"}\n')
    call = here(
        "transcribe", "/simulated/slow.wav", "--out", tmp_path / "out", "--profile", profile,
        *("--executor", "ray", "--address", place.inside, "--time-limit", "2"),
        *("--set", "audio.seconds=1000", "--set", "words.work=0.5"),
    )  # fmt: skip
    assert call.code == 1, call.stderr
    (record,) = records(tmp_path / "out").values()
    assert record["stage"] == "words"
    assert "longer than the time limit of 2 s" in record["error"]


def test_addresses_that_lead_to_no_cluster(
    here: Here, profile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.cluster.session._REACH", 3.0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        for address, reason in {
            f"127.0.0.1:{port}": "does not answer as Ray does",
            "ray://127.0.0.1:9": "refused",
            "head": "HOST:PORT is missing",
        }.items():
            began = time.monotonic()
            call = here(
                "transcribe", "/a.wav", "--out", tmp_path / "out", "--profile", profile,
                *("--executor", "ray", "--address", address),
            )  # fmt: skip
            assert (call.code, call.stdout) == (2, "")
            assert call.stderr.count("\n") == 1
            assert call.stderr.startswith(f"hansard: --address {address}: ")
            assert reason in call.stderr
            assert time.monotonic() - began < 60


def test_an_address_without_the_executor(here: Here, tmp_path: Path) -> None:
    call = here("transcribe", "/a.wav", "--out", tmp_path, "--address", "auto")
    assert (call.code, call.stderr) == (2, "hansard: --address is of --executor ray\n")


@pytest.mark.parametrize(
    ("section", "reason"),
    [
        ("asr: {worker: 2}", "resources.asr.worker: unknown parameter (did you mean 'workers'?)"),
        ("arc: {workers: 2}", "resources.arc: no such stage (did you mean 'asr'?)"),
        ("asr: {workers: 0}", "resources.asr.workers: 0: Input should be greater than"),
        ("asr: {cpus: many}", "resources.asr.cpus: 'many': Input should be a valid number"),
        ("asr: 4", "resources.asr: not a mapping"),
    ],
)
def test_resources_that_do_not_fit_the_profile(section: str, reason: str, tmp_path: Path) -> None:
    from configs import __file__ as configs

    path = tmp_path / "mine.yaml"
    default = Path(configs).with_name("default.yaml").read_text()
    path.write_text(f"{default}\nresources:\n  {section}\n")
    with pytest.raises(ProfileError) as error:
        load_profile(str(path))
    assert str(error.value).startswith(f"{path}: {reason}")


def test_resources_change_no_result() -> None:
    plain = load_profile("default")
    graph = load_profile("default", ["resources.asr.gpus=0.25", "resources.asr.workers=3"])
    assert graph.resources["asr"] == Resources(gpus=0.25, workers=3)
    assert graph.keys("same") == plain.keys("same")


@pytest.mark.parametrize("cpus", [0, 1, 2, 7, 64, 1000])
def test_a_worker_of_each_stage_fits_on_any_cluster(cpus: int) -> None:
    resources = load_profile("default", ["resources.asr.workers=3"]).resources
    planned = plans(resources, cpus, 0)
    check_fit(planned, cpus, 0)
    everyone = [planned.conductors, planned.helpers, *planned.own.values()]
    assert sum(plan.cpus * plan.most for plan in everyone) <= max(1, cpus)
    assert (planned.helpers.most, planned.own["asr"].most) == (max(1, cpus), 3)


def test_a_conductor_for_each_cpu_and_more_where_they_wait_for_others() -> None:
    most = [
        plans(load_profile("default", overrides).resources, 8, 4).conductors.most
        for overrides in (
            [],
            ["resources.asr.gpus=1"],
            ["resources.audio.workers=2"],
            ["resources.audio.cpus=4"],
            ["resources.audio.gpus=0.25"],
        )
    ]
    assert most == [8, 13, 2, 2, 16]


def test_workers_are_spread_by_what_the_nodes_have() -> None:
    nodes = [Node("head", 0, 0), Node("small", 1, 0), Node("large", 3, 1)]
    placed: dict[str, list[str]] = {"asr": [], "vad": []}
    for _ in range(8):
        for own in placed.values():
            own.append(emptiest(nodes, 0.2, 0, own, [*placed["asr"], *placed["vad"]]))
    assert [Counter(own) for own in placed.values()] == [{"small": 2, "large": 6}] * 2
    first_four = Counter(placed["asr"][:4])
    assert first_four == {"small": 1, "large": 3}
    assert emptiest(nodes, 0.2, 0.5, ["large"] * 9, []) == "large"
    assert emptiest(nodes, 4, 0, [], []) == ""


def test_shares_of_gpus_make_workers() -> None:
    overrides = ["resources.asr.gpus=0.25", "resources.embedding.gpus=2"]
    planned = plans(load_profile("default", overrides).resources, 64, 8)
    assert (planned.own["asr"].most, planned.own["embedding"].most) == (32, 4)
    with pytest.raises(UsageError, match=r"keeps 2\.25 GPUs together, and the cluster has 2"):
        check_fit(planned, 64, 2)
