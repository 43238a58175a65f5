"""A real Ray cluster of several nodes on this machine, and calls of the command that use it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.conftest import ROOT

# Ray gives workers the lowest priority: beside anything else they would get nowhere. And it ends
# them where the machine's memory is short, whoever uses it. The server of a client imports torch
# and Ray, which from a cold disk takes longer than the half minute that it is given; and with
# gRPC's handlers for forks it dies at birth now and then.
# Workers find the stages of tests and benchmarks in the checkout.
SETTINGS = {
    "RAY_worker_niceness": "0",
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S": "60",
    "GRPC_ENABLE_FORK_SUPPORT": "0",
    "PYTHONPATH": str(ROOT),
}


@contextmanager
def ray_cluster(nodes: int, **head: object) -> Iterator[Any]:
    """A head without CPUs and `nodes` with one CPU each, as `ray.cluster_utils.Cluster`; `head`:
    further arguments of the head node."""
    from ray.cluster_utils import Cluster

    before = {name: os.environ.get(name) for name in SETTINGS}
    os.environ.update(SETTINGS)
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 0,
            "object_store_memory": 80_000_000,
            "include_dashboard": False,
            "include_log_monitor": False,
            **head,
        },
    )
    try:
        for _ in range(nodes):
            add_node(cluster)
        yield cluster
    finally:
        cluster.shutdown()
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def add_node(cluster: Any) -> Any:
    return cluster.add_node(num_cpus=1, object_store_memory=80_000_000, include_log_monitor=False)


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    """The command, started and not waited for."""
    command = [sys.executable, "-m", "jobs.cli", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def records(out: Path) -> dict[str, Any]:
    """Every record by the recording's id, without what differs from run to run: one each."""
    found: dict[str, Any] = {}
    for path in [*out.glob("transcripts/*.json"), *out.glob("failures/*.json")]:
        assert path.stem not in found, "two records of one recording"
        record = json.loads(path.read_bytes())
        for run in record.get("provenance", {}).get("stages", ()):
            run["seconds"] = 0
        found[path.stem] = record
    return found


def artifacts(out: Path) -> dict[str, int]:
    """When each artifact was written; not what a pass over the audio tells, and each pass anew."""
    return {
        f"{path.parent.name}/{path.name}": path.stat().st_mtime_ns
        for path in out.glob("artifacts/*/*")
        if not path.name.startswith((".", "audio-"))
    }
