"""The examples for cron, systemd and Kubernetes, as far as they can be checked without them."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer
import yaml

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
