"""The job server of a Ray cluster, as far as Hansard asks it.
https://docs.ray.io/en/latest/cluster/running-applications/job-submission/
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pipeline.errors import UsageError, printable

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

_WAIT = 1.0  # seconds between two tries to go on with a log
_ANSWER = 10.0  # seconds that a cluster has to answer at all
_OUT = "hansard_out"


@dataclass(frozen=True)
class JobState:
    """A job as the cluster tells of it. `status` is Ray's (PENDING, RUNNING, STOPPED, SUCCEEDED,
    FAILED), `code` the exit code of the command, `started` and `ended` ISO 8601 in UTC; `message`
    is one line."""

    id: str
    status: str
    code: int | None
    out: str
    started: str
    ended: str
    message: str

    @property
    def over(self) -> bool:
        return self.status in ("STOPPED", "SUCCEEDED", "FAILED")

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


class Cluster:
    """The jobs of the cluster whose dashboard is at `address`. UsageError where nothing answers
    there, where it is no Ray cluster, or where it does not let us in."""

    def __init__(self, address: str) -> None:
        self._name = printable(address)
        host, port = _host_and_port(address, self._name)
        try:
            socket.create_connection((host, port), timeout=_ANSWER).close()
        except OSError as error:
            reason = error.strerror or error
            raise UsageError(
                f"--address {self._name}: nothing answers there ({reason}): give the address of "
                "the cluster's dashboard, http://HEAD:8265 unless it was moved"
            ) from None
        from ray.job_submission import JobSubmissionClient

        # Ray tells of each package that it sends and each connection that it closes.
        for name in ("ray", *(kind.__module__ for kind in JobSubmissionClient.__mro__)):
            logging.getLogger(name).setLevel(logging.WARNING)
        with self._telling(), _this_address(address):
            self._client = JobSubmissionClient(address, headers=_authorization())

    def submit(
        self, command: str, out: str, folder: str | None, variables: Mapping[str, str]
    ) -> str:
        """The id of a new job that runs the shell command `command`, in a copy of the local
        `folder`, with the environment `variables`."""
        environment: dict[str, Any] = {"env_vars": dict(variables)} if variables else {}
        if folder is not None:
            environment["working_dir"] = folder
        with self._telling():
            job: str = self._client.submit_job(
                entrypoint=command, runtime_env=environment, metadata={_OUT: out}
            )
            return job

    def state(self, job: str) -> JobState:
        """UsageError where the cluster knows no such job."""
        with self._telling():
            return _state(self._client.get_job_info(job))

    def states(self) -> list[JobState]:
        """Of the jobs that were submitted to the cluster, the newest first."""
        with self._telling():
            found = [job for job in self._client.list_jobs() if job.submission_id]
        return [_state(job) for job in sorted(found, key=lambda job: -(job.start_time or 0))]

    def stop(self, job: str) -> bool:
        """Asks the job to end; whether it was running."""
        with self._telling():
            stopped: bool = self._client.stop_job(job)
            return stopped

    def logs(self, job: str) -> str:
        """All that the job has written."""
        with self._telling():
            logs: str = self._client.get_job_logs(job)
            return logs

    def follow(self, job: str, write: Callable[[str], object]) -> JobState:
        """Gives what the job writes to `write`, from its beginning, until it ends; then its
        state. A connection that breaks is made again."""
        written = 0

        async def tail() -> None:
            nonlocal written
            read = 0
            async for text in self._client.tail_job_logs(job):
                write(text[max(0, written - read) :])
                read += len(text)
                written = max(written, read)

        while True:
            with _broken_connections():
                asyncio.run(tail())
            state = self.state(job)
            if state.over:
                break
            time.sleep(_WAIT)
        with suppress(UsageError):  # its node may be gone
            write(self.logs(job)[written:])
        return state

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """What Ray and its HTTP client raise, as one line."""
        from ray.exceptions import AuthenticationError

        try:
            yield
        except AuthenticationError:
            raise UsageError(
                f"--address {self._name}: the cluster wants its token: set RAY_AUTH_TOKEN, or "
                "RAY_AUTH_TOKEN_PATH to a file with it (on the head: ray get-auth-token)"
            ) from None
        except (RuntimeError, ValueError, OSError) as error:
            reason = printable(" ".join(str(error).split()))[:300]
            raise UsageError(f"--address {self._name}: {reason}") from None


def _host_and_port(address: str, name: str) -> tuple[str, int]:
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        host, port, parts = None, 0, urlsplit("")
    if parts.scheme not in ("http", "https") or not host:
        raise UsageError(
            f"--address {name}: jobs go to the cluster's dashboard, http://HEAD:8265; "
            "ray://HEAD:10001 is for: hansard transcribe --executor ray"
        )
    return host, port


@contextmanager
def _this_address(address: str) -> Iterator[None]:
    """Ray lets its environment win over the address that it is given; here the option wins."""
    name = "RAY_API_SERVER_ADDRESS"
    before = os.environ.get(name)
    os.environ[name] = address
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _authorization() -> dict[str, str]:
    """The cluster's token, from where Ray keeps it. Ray itself looks for it only where
    RAY_AUTH_MODE says so, though the clusters that it starts want one."""
    token = os.environ.get("RAY_AUTH_TOKEN", "")
    if not token:
        path = os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token"
        try:
            token = Path(path).expanduser().read_text().strip()
        except OSError:
            return {}
    return {"Authorization": f"Bearer {token}"}


@contextmanager
def _broken_connections() -> Iterator[None]:
    import aiohttp

    try:
        yield
    except (RuntimeError, OSError, aiohttp.ClientError):
        return


def _state(job: JobDetails) -> JobState:
    message = " ".join((job.message or "").split("\n", 1)[0].split())
    return JobState(
        id=job.submission_id or "",
        status=str(job.status),
        code=job.driver_exit_code,
        out=(job.metadata or {}).get(_OUT, ""),
        started=_time(job.start_time),
        ended=_time(job.end_time),
        message=message,
    )


def _time(milliseconds: int | None) -> str:
    if not milliseconds:
        return ""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")
