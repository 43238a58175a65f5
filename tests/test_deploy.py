"""The examples for cron, systemd and Kubernetes, as far as they can be checked without them."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import ray
import typer
import yaml
from ray.scripts.scripts import cli as ray_commands

from jobs.cli import app
from tests.conftest import ROOT

DEPLOY = ROOT / "configs" / "deploy"


def parsed(command: list[str]) -> dict[str, Any]:
    """The parameters of a call of `hansard`, which is not run. An option that does not exist
    raises."""
    name, *arguments = command[[Path(word).name for word in command].index("hansard") + 1 :]
    called = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    parameters: dict[str, Any] = called.make_context(name, arguments).params
    return parameters


def cron_line() -> tuple[str, str]:
    """The schedule and the command."""
    lines = (DEPLOY / "crontab").read_text().splitlines()
    (line,) = (line for line in lines if re.match(r"[*\d]", line))
    *times, command = line.split(maxsplit=5)
    return " ".join(times), command


def exec_start() -> str:
    (line,) = re.findall(r"^ExecStart=(.*)$", (DEPLOY / "hansard-sync.service").read_text(), re.M)
    return str(line)


def cron_job() -> dict[str, Any]:
    job: dict[str, Any] = yaml.safe_load((DEPLOY / "cronjob.yaml").read_text())
    return job


def container() -> dict[str, Any]:
    spec = cron_job()["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    found: dict[str, Any] = spec["containers"][0]
    return found


def ray_job() -> dict[str, Any]:
    job: dict[str, Any] = yaml.safe_load((DEPLOY / "rayjob.yaml").read_text())
    return job


def pods() -> dict[str, Any]:
    """The pods of the RayJob by their group."""
    spec = ray_job()["spec"]["rayClusterSpec"]
    workers = {group["groupName"]: group["template"] for group in spec["workerGroupSpecs"]}
    return {"head": spec["headGroupSpec"]["template"], **workers}


@pytest.mark.parametrize("place", ["crontab", "systemd", "kubernetes"])
def test_each_calls_sync_as_it_is(place: str) -> None:
    commands = {
        "crontab": shlex.split(cron_line()[1].split(" >>")[0]),
        "systemd": shlex.split(exec_start()),
        "kubernetes": container()["command"] + container()["args"],
    }
    parameters = parsed(commands[place])
    assert parameters["sources"] and parameters["out"]


def test_the_crontab_line_is_one_that_cron_takes() -> None:
    times, command = cron_line()
    assert times == cron_job()["spec"]["schedule"] == "*/15 * * * *"
    assert "%" not in command  # cron makes a line end of it


def test_the_cron_job_is_one_that_kubernetes_takes() -> None:
    for version in ("1.28", kubernetes_validate.latest_version()):
        kubernetes_validate.validate(cron_job(), version, strict=True)
    wrong = cron_job()
    wrong["spec"]["concurrency"] = "Forbid"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, kubernetes_validate.latest_version(), strict=True)


def test_the_units_are_ones_that_systemd_takes(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze here")
    for unit in DEPLOY.glob("hansard-sync.*"):
        # The program is not installed where the example says.
        text = unit.read_text().replace("/opt/hansard/.venv/bin/hansard", "/bin/true")
        (tmp_path / unit.name).write_text(text)
    units = sorted(map(str, tmp_path.iterdir()))
    call = subprocess.run(
        [analyze, "verify", "--recursive-errors=no", *units], capture_output=True, text=True
    )
    assert (call.returncode, call.stderr) == (0, "")


def test_the_ray_job_runs_an_archive_on_its_own_cluster() -> None:
    parameters = parsed(shlex.split(ray_job()["spec"]["entrypoint"]))
    assert (parameters["executor"], parameters["address"]) == ("ray", "auto")
    assert parameters["sources"] and parameters["out"].startswith("s3://")


def test_the_pods_of_the_ray_job_are_ones_that_kubernetes_takes() -> None:
    """KubeRay's own fields have no schema here: those of its reference, by hand."""
    spec = ray_job()["spec"]
    assert set(spec) <= {
        "entrypoint", "backoffLimit", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished",
        "rayClusterSpec",
    }  # fmt: skip
    cluster = spec["rayClusterSpec"]
    assert set(cluster) == {"rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs"}
    assert cluster["rayVersion"] == ray.__version__
    for name, template in pods().items():
        pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": name}}
        pod["template"] = template
        kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)
        (container,) = template["spec"]["containers"]
        assert container["envFrom"][0]["secretRef"]["name"] == "hansard-bucket"


def test_the_ray_cluster_is_one_that_ray_takes() -> None:
    """Ray's own schema; and its commands are ones that `ray start` takes."""
    cluster = yaml.safe_load((DEPLOY / "ray-cluster.yaml").read_text())
    schema = json.loads((Path(ray.__file__).parent / "autoscaler/ray-schema.json").read_text())
    jsonschema.validate(cluster, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(cluster | {"min_workerz": 1}, schema)
    for command in (*cluster["head_start_ray_commands"], *cluster["worker_start_ray_commands"]):
        words = shlex.split(command)
        _, name, *options = words[[Path(word).name for word in words].index("ray") :]
        called = ray_commands.commands[name]
        called.make_context(name, [word.replace("$RAY_HEAD_IP", "192.0.2.10") for word in options])
