"""A connection to a Ray cluster: one in this machine for this run, or one that is there."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import grpc
import ray

from pipeline.errors import HansardError, UsageError, printable

LOCAL = "local"
"""The address of a cluster in this machine that starts and ends with this process."""

_REACH = 30.0  # seconds
_TRIES = 3


@contextmanager
def session(address: str) -> Iterator[None]:
    """Connects; in the end disconnects, and a LOCAL cluster ends. Meanwhile `sys.stdout` leads
    nowhere. `address`: LOCAL, "auto" (the cluster that this machine is part of), HOST:PORT of its
    head, ray://HOST:PORT from outside. UsageError where it cannot be reached, HansardError where
    it is lost later."""
    _check_reachable(address)
    # At the priority of this process, as with the local executor; Ray would make it the lowest.
    os.environ.setdefault("RAY_worker_niceness", "0")
    terminate = signal.getsignal(signal.SIGTERM)  # Ray puts its own in its place
    _connect(address)
    signal.signal(signal.SIGTERM, terminate)
    try:
        # Ray prints what it thinks of workers that die, whatever log_to_driver says, and does so
        # where scripts read records.
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):  # noqa: PTH123
            yield
    except ray.exceptions.RayError as error:
        reason = " ".join(str(error).split())[:300]
        raise HansardError(f"the Ray cluster at {printable(address)} is lost: {reason}") from error
    finally:
        ray.shutdown()


def _connect(address: str) -> None:
    for left in reversed(range(_TRIES)):
        try:
            with warnings.catch_warnings(action="ignore"):
                ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **_own(address))
            return
        except Exception as error:  # Ray raises half a dozen kinds
            ray.shutdown()  # of what is half there
            # Of a head that forks while it talks, the process for a client at times dies at once.
            if not left or not isinstance(error, ConnectionAbortedError):
                raise _unreachable(address, str(error) or type(error).__name__) from error
            time.sleep(1)


def _own(address: str) -> dict[str, Any]:
    return {"include_dashboard": False} if address == LOCAL else {}


def _check_reachable(address: str) -> None:
    """A head that does not answer, found out soon: Ray itself would try for minutes."""
    if address in (LOCAL, "auto"):
        return
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        raise UsageError(f"--address {printable(address)}: HOST:PORT is missing")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _REACH).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, str(error)) from None
    with grpc.insecure_channel(f"{host}:{port}") as channel:
        try:
            if os.environ.get("RAY_USE_TLS") != "1":
                grpc.channel_ready_future(channel).result(_REACH)
        except grpc.FutureTimeoutError:
            raise _unreachable(address, "what listens there does not answer as Ray does") from None


def _unreachable(address: str, reason: str) -> UsageError:
    told = printable(" ".join(reason.split()))[:300]
    return UsageError(f"--address {printable(address)}: no Ray cluster to be reached: {told}")
