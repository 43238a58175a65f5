"""How long it takes until something happens: commands that have nothing to compute, the default
profile's stages with their models, and the first batch of a `transcribe` call. Each in a fresh
process, files in the system's cache, the best of a few runs.

    OMP_NUM_THREADS=1 python -m benchmarks.cold_start
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from pipeline.graph import Node
from pipeline.profile import load_profile

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "demo"
MEETING = str(DEMO / "meeting.opus")

LOAD_ALL = """
from pipeline.loaded import LoadedStages
from pipeline.profile import load_profile
for node in load_profile("default").nodes:
    LoadedStages().get(node.stage)
print("ready", flush=True)
"""
LOAD_ONE = """
from pipeline.loaded import LoadedStages
from {module} import {name}
parameters = {name}.parameters_type.model_validate_json({parameters!r})
LoadedStages().get({name}(parameters))
print("ready", flush=True)
"""
FIRST_BATCH = """
import sys
from jobs import cli
from stages.vad.stage import FsmnVad

compute = FsmnVad.compute

def told(self, batch):
    result = compute(self, batch)
    print("ready", flush=True)
    return result

FsmnVad.compute = told
cli.main()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    threads = os.environ.get("OMP_NUM_THREADS", "default")
    table = Table("seconds", title=f"Cold start, OMP_NUM_THREADS {threads}")
    table.add_column("what", justify="left")
    with TemporaryDirectory() as folder:
        for what, seconds in measured(Path(folder), runs):
            table.add_row(f"{seconds:.2f}", what)
    Console().print(table)


def measured(folder: Path, runs: int) -> Iterator[tuple[str, float]]:
    """What was measured, and its seconds."""
    done = str(folder / "done")
    transcribe, sync = ("transcribe", MEETING, "--out", done), ("sync", MEETING, "--out", done)
    seconds_of(*transcribe)
    yield "`hansard --help`", best(runs, "--help")
    yield "`hansard status`", best(runs, "status", done)
    yield "`hansard sync`, nothing to do", best(runs, *sync)
    yield "`hansard transcribe`, nothing to do", best(runs, *transcribe)
    yield "torch alone", best_until_ready(runs, 'import torch; print("ready", flush=True)')
    for node in load_profile("default").nodes:
        yield f"`{node.name}`: import, load", best_until_ready(runs, load_one(node))
    yield "all stages: import, load", best_until_ready(runs, LOAD_ALL)
    first = min(
        until_ready(FIRST_BATCH, "transcribe", MEETING, "--out", str(folder / f"first-{run}"))
        for run in range(runs)
    )
    yield "`hansard transcribe`: first batch computed", first


def load_one(node: Node) -> str:
    """A program that loads the stage, and imports what that needs."""
    kind = type(node.stage)
    parameters = node.stage.parameters.model_dump_json()
    return LOAD_ONE.format(module=kind.__module__, name=kind.__name__, parameters=parameters)


def best(runs: int, *arguments: str) -> float:
    """Seconds of the command, from its start to its end."""
    return min(seconds_of(*arguments) for _ in range(runs))


def best_until_ready(runs: int, program: str) -> float:
    return min(until_ready(program) for _ in range(runs))


def seconds_of(*arguments: str) -> float:
    began = time.perf_counter()
    command = [sys.executable, "-m", "jobs.cli", *arguments]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - began


def until_ready(program: str, *arguments: str) -> float:
    """Seconds from the start of the program to its first line on standard output; it is then
    stopped."""
    command: Sequence[str] = [sys.executable, "-c", program, *arguments]
    began = time.perf_counter()
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        seconds = time.perf_counter() - began
        process.kill()
        if line != "ready\n":
            sys.exit(f"the program failed: {process.stderr.read()}")
    return seconds


if __name__ == "__main__":
    main()
