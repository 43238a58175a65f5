"""Time and peak memory of whole runs on recordings of different lengths, and the time from the
start of the command to its first progress.

    python -m benchmarks.long_recordings --hours 1 6 --work /tmp/long

The recordings are the demo meeting, repeated under changing gain, so that every length has the
same speakers and the same share of speech. Prints a table, and JSON with --json.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile
from rich.console import Console
from rich.table import Table

from stages.audio.decode import AudioSource

ROOT = Path(__file__).resolve().parents[1]
MEETING = ROOT / "demo" / "meeting.opus"


@dataclass(frozen=True)
class Run:
    """One run of the command. `peak_mb` is the process's largest resident set; `first` the
    seconds until progress was on the screen."""

    hours: float
    seconds: float
    first: float
    peak_mb: float
    speakers: int

    @property
    def rtf(self) -> float:
        return self.seconds / (self.hours * 3600)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, nargs="+", default=[1.0, 6.0])
    parser.add_argument("--work", type=Path, default=Path("/tmp/hansard-long"))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    runs = [measure(arguments.work, hours) for hours in arguments.hours]
    if arguments.json:
        print(json.dumps([asdict(run) for run in runs]))
    else:
        Console().print(_table(runs))


def measure(work: Path, hours: float) -> Run:
    """Makes the recording, transcribes it from nothing, and deletes the output."""
    recording, out = work / f"{hours:g}h.flac", work / f"out-{hours:g}h"
    if not recording.exists():
        write_recording(recording, hours)
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "jobs.cli", "transcribe", str(recording), "--out", str(out)]
    seconds, first, peak_mb = _watch(command)
    (transcript,) = (out / "transcripts").glob("*.json")
    speakers = len(json.loads(transcript.read_bytes())["speakers"])
    return Run(hours, seconds, first, peak_mb, speakers)


def write_recording(path: Path, hours: float) -> None:
    """Streams repetitions of the demo meeting to FLAC, in constant memory."""
    left = int(hours * 3600 * 16000)
    with soundfile.SoundFile(path, "w", 16000, 1, "PCM_16") as sink:
        for samples in _repetitions():
            sink.write(samples[:left])
            left -= len(samples)
            if left <= 0:
                return


def _repetitions() -> Iterator[np.ndarray]:
    gains = np.random.default_rng(0)
    while True:
        gain = gains.uniform(0.5, 0.9)
        for block in AudioSource(str(MEETING), AudioSource.parameters_type()).blocks():
            yield block.samples * gain


def _watch(command: list[str]) -> tuple[float, float, float]:
    """Runs on a terminal of its own: wall seconds, seconds to first progress, peak MB."""
    began = time.perf_counter()
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, cwd=ROOT, stderr=theirs, stdout=subprocess.DEVNULL)
    os.close(theirs)
    first = 0.0
    screen = b""
    while chunk := _read(ours):
        screen += chunk
        if not first and b": vad" in screen:
            first = time.perf_counter() - began
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"the command failed: {screen[-2000:].decode(errors='replace')}")
    return time.perf_counter() - began, first, usage.ru_maxrss / 1024


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # how Linux says that the other end was closed
        return b""


def _table(runs: list[Run]) -> Table:
    table = Table(title=f"Whole runs, {os.cpu_count()} cores")
    for column in (
        "hours",
        "seconds",
        "RTF",
        "first progress s",
        "peak MB",
        "to first",
        "speakers",
    ):
        table.add_column(column, justify="right")
    for run in runs:
        table.add_row(
            f"{run.hours:g}",
            f"{run.seconds:.0f}",
            f"{run.rtf:.4f}",
            f"{run.first:.1f}",
            f"{run.peak_mb:.0f}",
            f"{run.peak_mb / runs[0].peak_mb:.2f}",
            str(run.speakers),
        )
    return table


if __name__ == "__main__":
    main()
