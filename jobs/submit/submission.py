"""`hansard submit`: a call of `hansard transcribe`, sent to a Ray cluster as a job."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jobs.ledger import Options
from jobs.manifests import MANIFESTS, read_manifest
from jobs.recorder import Conduct
from jobs.transcribe import Request
from pipeline.errors import UsageError, printable, without_secrets
from pipeline.profile import load_profile

PROGRESS_EVERY = 30  # seconds between two lines of progress in the job's log
_SECRET = re.compile(r"secret|token|passw|credential|_key$|_key_", re.IGNORECASE)


@dataclass(frozen=True)
class Submission:
    """What is sent: the command, the folder that goes with it, variables of the environment by
    name, and the local paths that the cluster must have under the same name."""

    command: str
    out: str
    folder: str | None
    variables: dict[str, str]
    paths: tuple[str, ...]


def prepare(request: Request, folder: Path | None, names: Iterable[str]) -> Submission:
    """Checks here what can be checked before anything runs there. UsageError or ProfileError."""
    load_profile(request.options.profile, request.options.settings)
    inside = None if folder is None else folder.resolve()
    if inside is not None and not inside.is_dir():
        raise UsageError(f"--working-dir {printable(str(folder))}: no such folder")
    places = [_place(source, inside) for source in request.sources]
    out = _place(request.out, None)
    if inside is not None and _relative(out, inside) is not None:
        raise UsageError(f"--out {printable(out)}: in --working-dir, a copy that ends with the job")
    for place in (*places, out):
        # Ray writes a job's command into its logs and shows it to whoever sees its dashboard.
        if without_secrets(place) != place:
            raise UsageError(
                f"{printable(place)}: an address with a password or a signature would be readable "
                "in the cluster's logs: use one without, with keys that the cluster has"
            )
    options = replace(request.options, profile=_profile(request.options.profile, inside))
    local = [place for place in (*places, out, options.profile) if Path(place).is_absolute()]
    return Submission(
        command=_command(places, out, options, request.conduct),
        out=out,
        folder=None if inside is None else str(inside),
        variables=_variables(names),
        paths=tuple(dict.fromkeys(local)),
    )


def _place(place: str, inside: Path | None) -> str:
    """A path as the job will find it: absolute, or relative to the folder that travels."""
    if "://" in place:
        return place
    path = os.path.abspath(Path(place).expanduser())  # noqa: PTH100 (it may be a pattern)
    relative = None if inside is None else _relative(path, inside)
    if relative is None:
        return path
    _check_manifest(path, place, inside)
    return relative


def _relative(path: str, inside: Path) -> str | None:
    """The path counted from the folder; None where it does not lie in it."""
    real = Path(path).resolve()
    return str(real.relative_to(inside)) if real.is_relative_to(inside) else None


def _check_manifest(path: str, name: str, inside: Path | None) -> None:
    """Of what travels to the cluster only manifests are sources, and only of recordings that do
    not: a recording's id comes from where it lies, and the copy lies elsewhere each time."""
    manifest = path.lower().endswith(MANIFESTS)
    beside = manifest and any(
        "://" not in job.location and inside is not None and _relative(job.location, inside)
        for job in read_manifest(path)
    )
    if not manifest or beside:
        raise UsageError(
            f"{printable(name)}: recordings do not travel with --working-dir: name them by an "
            "address or a path that every node of the cluster has"
        )


def _profile(profile: str, inside: Path | None) -> str:
    if inside is None or not profile.endswith((".yaml", ".yml")):
        return profile
    return _relative(profile, inside) or profile


def _command(sources: Sequence[str], out: str, options: Options, conduct: Conduct) -> str:
    """Ray runs a job's entrypoint in a shell: every word of it is quoted. It tells RAY_ADDRESS,
    which "auto" would not ask where a machine is part of several clusters."""
    words = ["python", "-m", "jobs.cli", "transcribe", "--executor", "ray"]
    words += [f"--out={out}", f"--profile={options.profile}", f"--progress-every={PROGRESS_EVERY}"]
    words += [f"--set={setting}" for setting in options.settings]
    words += [f"--format={name}" for name in options.formats or ("json",)]
    if conduct.attempts is not None:
        words.append(f"--max-attempts={conduct.attempts}")
    if conduct.seconds is not None:
        words.append(f"--time-limit={conduct.seconds:g}")
    return shlex.join([*words, "--", *sources])


def _variables(names: Iterable[str]) -> dict[str, str]:
    """UsageError for a name that is not set, and for one that looks like a secret."""
    found: dict[str, str] = {}
    for name in names:
        if _SECRET.search(name):
            raise UsageError(
                f"--env {printable(name)}: Ray writes a job's variables into its logs: give the "
                "cluster its keys itself (configs/deploy/rayjob.yaml shows how)"
            )
        if name not in os.environ:
            raise UsageError(f"--env {printable(name)}: not set here")
        found[name] = os.environ[name]
    return found
