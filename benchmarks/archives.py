"""Archives on a Ray cluster: that every recording gets its one record, what more workers bring,
what the cluster costs, and whether the driver's memory stays flat.

    python -m benchmarks.archives complete --work DIR --recordings 1000 --hours 200
    python -m benchmarks.archives scaling  --work DIR --hours 1 --cores 1 2 4
    python -m benchmarks.archives overhead --work DIR --hours 1
    python -m benchmarks.archives memory   --work DIR --recordings 100 1000 10000 100000

`complete` goes on where it stopped. `scaling` and `overhead` hold the whole cluster, driver
included, to so many of this machine's cores, and tell seconds of the whole call and from its first
artifact on: starting is the same for an archive of any length. `memory` is of recordings that need
no file and stages that compute nothing, in a folder in memory.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks.archive_audio import make
from benchmarks.simulation import PROFILE

ROOT = Path(__file__).resolve().parents[1]
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
NICENESS = {"RAY_worker_niceness": "0"}  # else workers come after whatever else runs here


class Run(NamedTuple):
    """A call of the command. `seconds` whole, `working` from its first artifact on; `peak_mb`
    of the driver."""

    code: int
    seconds: float
    working: float
    peak_mb: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    what = parser.add_subparsers(dest="what", required=True)
    for name, run in MEASURES.items():
        some = what.add_parser(name)
        some.add_argument("--work", type=Path, default=Path("/tmp/hansard-archives"))
        some.set_defaults(run=run)
        if name == "memory":
            some.add_argument("--recordings", type=int, nargs="+", default=[100, 1000, 10_000])
            some.add_argument("--out", type=Path, default=Path("/dev/shm/hansard-archives"))
            continue
        some.add_argument("--recordings", type=int, default=1000 if name == "complete" else 30)
        some.add_argument("--hours", type=float, default=200.0 if name == "complete" else 1.0)
        if name == "scaling":
            some.add_argument("--cores", type=int, nargs="+", default=[1, 2, 4])
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    sys.exit(arguments.run(arguments))


def complete(arguments: argparse.Namespace) -> int:
    """An archive of which one file in twenty is damaged."""
    count, hours = arguments.recordings, arguments.hours
    work = arguments.work / f"{count}-{hours:g}h"
    began = time.perf_counter()
    stock = arguments.work / "meetings"
    made = make(work / "in", recordings=count, hours=hours, damaged=0.05, stock=stock)
    print(f"{len(made):,} recordings made in {time.perf_counter() - began:.0f} s", flush=True)
    out = work / "out"
    run = called([str(work / "in"), "--executor", "ray", "--progress-every", "60"], out, show=True)
    told = status_of(out)
    table = Table(title=f"{count:,} recordings, {hours:g} hours asked for, 5 % damaged")
    for column in ("records", "done", "failed", "audio", "seconds", "RTFx", "driver MB"):
        table.add_column(column, justify="right")
    records = [*out.glob("transcripts/*.json"), *out.glob("failures/*.json")]
    audio = told["audio_ms"] / 3_600_000
    last = json.loads(max(out.glob("runs/*.json")).read_bytes())  # of a call that went on, its part
    table.add_row(
        f"{len(records):,}",
        f"{told['done']:,}",
        f"{told['failed']:,}",
        f"{audio:.2f} h",
        f"{last['seconds']:.0f}",
        f"{last['rtfx']:.0f}",
        f"{run.peak_mb:.0f}",
    )
    Console().print(table)
    for reason in told["failures"]:
        print(f"{reason['count']:5} {reason['stage']}: {reason['error']}")
    exact = len(records) == len({path.stem for path in records}) == count
    print("exactly one record each" if exact else "RECORDS MISSING, OR TWICE")
    return 0 if exact else 1


def scaling(arguments: argparse.Namespace) -> int:
    """The same archive on one core and on more."""
    source = _source(arguments)
    table = Table(title=f"{arguments.recordings} recordings, {arguments.hours:g} hours, by cores")
    for column in ("cores", "seconds", "from the first artifact", "RTFx", "times one core"):
        table.add_column(column, justify="right")
    first = 0.0
    for cores in arguments.cores:
        run = on_cluster(source, arguments.work / f"out-{cores}", cores)
        first = first or run.working
        rtfx = f"{arguments.hours * 3600 / run.working:.0f}"
        times = f"{first / run.working:.2f}"
        table.add_row(str(cores), f"{run.seconds:.1f}", f"{run.working:.1f}", rtfx, times)
    Console().print(table)
    return 0


def overhead(arguments: argparse.Namespace) -> int:
    """One core, with and without a cluster."""
    source, work = _source(arguments), arguments.work
    with cores_of(1):
        local = called([str(source)], work / "out-local", environment=ONE_THREAD)
    ray = on_cluster(source, work / "out-ray", 1)
    table = Table(title=f"{arguments.recordings} recordings, {arguments.hours:g} hours, one core")
    for column in ("executor", "seconds", "from the first artifact"):
        table.add_column(column, justify="right")
    for name, run in (("local", local), ("ray", ray)):
        table.add_row(name, f"{run.seconds:.1f}", f"{run.working:.1f}")
    whole, working = ray.seconds / local.seconds - 1, ray.working / local.working - 1
    table.add_row("difference", f"{whole:+.1%}", f"{working:+.1%}")
    Console().print(table)
    return 0


def memory(arguments: argparse.Namespace) -> int:
    """The driver's peak, by the number of recordings."""
    profile = arguments.work / "simulated.yaml"
    profile.write_text(PROFILE)
    table = Table(title="simulated recordings")
    for column in ("recordings", "seconds", "a second", "driver's peak MB"):
        table.add_column(column, justify="right")
    for count in arguments.recordings:
        manifest = arguments.work / f"{count}.jsonl"
        with manifest.open("w") as lines:
            lines.writelines(f'{{"audio": "/simulated/{n:06d}.wav"}}\n' for n in range(count))
        call = [str(manifest), "--profile", str(profile), "--format", "json", "--executor", "ray"]
        arguments.out.mkdir(parents=True)
        run = called(call, arguments.out / "out")
        made = len(list(arguments.out.glob("out/transcripts/*.json")))
        shutil.rmtree(arguments.out)
        if made != count:
            print(f"{made:,} records of {count:,} recordings")
            return 1
        rate = f"{count / run.seconds:.0f}"
        table.add_row(f"{count:,}", f"{run.seconds:.0f}", rate, f"{run.peak_mb:.0f}")
    Console().print(table)
    return 0


MEASURES = {"complete": complete, "scaling": scaling, "overhead": overhead, "memory": memory}


def on_cluster(source: Path, out: Path, cores: int) -> Run:
    """A run on a cluster that has so many of this machine's cores, started for it."""
    from ray.cluster_utils import Cluster

    os.environ |= NICENESS | ONE_THREAD
    with cores_of(cores):
        cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": cores, "include_dashboard": False}
        )
        try:
            return called([str(source), "--executor", "ray", "--address", cluster.address], out)
        finally:
            cluster.shutdown()


def called(
    arguments: Sequence[str], out: Path, *, environment: dict[str, str] | None = None,
    show: bool = False,
) -> Run:  # fmt: skip
    """Runs `hansard transcribe` into `out`, from nothing unless it is shown."""
    if not show:
        shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "jobs.cli", "transcribe", *arguments, "--out", str(out)]
    began = time.perf_counter()
    log = None if show else (out.parent / f"{out.name}.log").open("w")
    process = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | NICENESS | (environment or {}), stderr=log
    )
    first = None
    peak = 0.0
    while process.poll() is None:
        if first is None and any(out.glob("artifacts/*/*")):
            first = time.perf_counter()
        peak = max(peak, peak_mb(process.pid))
        time.sleep(0.1)
    if process.returncode not in (0, 1):
        sys.exit(f"the command failed: see {out.parent}/{out.name}.log")
    ended = time.perf_counter()
    return Run(process.returncode, ended - began, ended - (first or began), peak)


def status_of(out: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "jobs.cli", "status", str(out), "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def peak_mb(process: int) -> float:
    """The largest resident set so far; 0 once it has ended."""
    try:
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


@contextmanager
def cores_of(count: int) -> Iterator[None]:
    """What is started inside runs on the first `count` cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _source(arguments: argparse.Namespace) -> Path:
    source: Path = arguments.work / f"in-{arguments.recordings}-{arguments.hours:g}h"
    stock = arguments.work / "meetings"
    make(source, recordings=arguments.recordings, hours=arguments.hours, stock=stock)
    return source


if __name__ == "__main__":
    main()
