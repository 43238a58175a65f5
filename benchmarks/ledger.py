"""How long `hansard status`, and a `hansard sync` with nothing to do, take on a large archive:
`python -m benchmarks.ledger --recordings 100000`, with `--s3` against moto's server on loopback.
One recording in a hundred has failed, for one of five reasons.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from jobs.ledger import Ledger, Options
from jobs.sources import find_jobs
from pipeline.job import Job
from pipeline.records import Failure, Provenance, Transcript
from pipeline.storage import Folder
from tests.s3_server import environment, fresh_bucket, s3_server

OPTIONS = Options("default", (), ())
HOUR_AGO = time.time() - 3600


class Unsynced(Folder):
    """Leaves it to the system when files reach the disk: filling is not what is measured."""

    def write(self, name: str, data: bytes) -> None:
        path = Path(self.path(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=int, default=100_000)
    parser.add_argument("--s3", action="store_true")
    arguments = parser.parse_args()
    if not arguments.s3:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "archive")
            source.mkdir()
            for i in range(arguments.recordings):
                path = source / f"{i:06d}.wav"
                path.touch()
                os.utime(path, (HOUR_AGO, HOUR_AGO))
            measure(str(source), Unsynced(f"{folder}/out"), threads=1)
        return
    with s3_server() as endpoint:
        os.environ.update(environment(endpoint))
        bucket = fresh_bucket(endpoint)
        names = (f"archive/{i:06d}.wav" for i in range(arguments.recordings))
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda name: bucket.put(name, b"audio"), names))
        measure(f"{bucket.uri}/archive/", Folder(f"{bucket.uri}/out"), threads=8)


def measure(source: str, folder: Folder, threads: int) -> None:
    """Fills `folder` with records of all in `source`, then times the two commands."""
    jobs = find_jobs([source]).jobs
    began = time.perf_counter()
    fill(jobs, Ledger(folder), threads)
    print(f"{len(jobs):,} records written in {time.perf_counter() - began:.0f} s")
    for arguments in (
        ["status", folder.uri],
        ["sync", source, "--out", folder.uri, "--max-attempts", "1", "--settle", "0"],
    ):
        began, cpu = time.perf_counter(), cpu_seconds()
        call = [sys.executable, "-m", "jobs.cli", *arguments]
        done = subprocess.run(call, capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - began
        cpu = cpu_seconds() - cpu
        print(f"hansard {arguments[0]}: {seconds:.1f} s, of them {cpu:.1f} s of CPU")
        print(done.stdout + done.stderr)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    print(f"peak memory of the commands: {peak} MB")


def cpu_seconds() -> float:
    """Of the commands that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def fill(jobs: Iterable[Job], ledger: Ledger, threads: int) -> None:
    def record(at: int, job: Job) -> None:
        if at % 100:
            outcome: Transcript | Failure = Transcript(
                job.id, job.uri, "", 0, "en", (), (), (), Provenance("default", "0", "")
            )
        else:
            reason = f"{job.uri}: reason {at // 100 % 5}"
            outcome = Failure(job.id, job.uri, "audio", reason, 1)
        ledger.keep(outcome, job, OPTIONS)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(record, *zip(*enumerate(jobs), strict=True)))


if __name__ == "__main__":
    main()
