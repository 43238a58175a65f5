"""A recording of any length through a whole profile, models loaded: seconds of each stage and of
the whole, to its exports, and memory. For `benchmarks.speed`."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile
from rich.console import Console
from rich.table import Table

from benchmarks.peak import Peak
from jobs.ledger import Ledger, Options
from pipeline.executor import Executor
from pipeline.graph import AUDIO, Graph
from pipeline.job import job_at
from pipeline.local import InProcess
from pipeline.memory import release
from pipeline.records import Failure
from pipeline.stage import no_hook
from pipeline.storage import Folder
from stages.audio.decode import AudioSource

RATE = 16_000
FORMATS = ("json", "srt", "txt")


@dataclass(frozen=True)
class Whole:
    """Of one recording of `audio` seconds. `seconds` on the clock and `cpu` of all threads, from
    nothing to the exports, which are `exports` of them; `stages` as the record has them, of which
    `listening` name those that listen to the audio. `peak_mb`: memory gained over what the loaded
    models take."""

    audio: float
    seconds: float
    cpu: float
    exports: float
    stages: dict[str, float]
    listening: tuple[str, ...]
    peak_mb: float
    words: int
    speakers: int

    @property
    def added(self) -> float:
        """Seconds of all that does not listen: punctuation, clustering, attribution, exports, and
        what is written in between."""
        return self.seconds - sum(self.stages[name] for name in self.listening)


def run_whole(graph: Graph, speech: Path, compute: InProcess) -> Whole:
    """Transcribes and exports into a folder of its own. SystemExit where it fails."""
    release()
    with TemporaryDirectory() as folder, Peak() as peak:
        out = Folder(folder)
        job = job_at(str(speech))
        began, cpu = time.perf_counter(), time.process_time()
        done = Executor(graph, out, no_hook, compute).run(job)
        made = time.perf_counter()
        if isinstance(done, Failure):
            sys.exit(done.error)
        Ledger(out).keep(done, job, Options(graph.profile, (), FORMATS))
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    return Whole(
        audio=done.duration / 1000,
        seconds=seconds,
        cpu=cpu,
        exports=seconds - (made - began),
        stages={run.stage: run.seconds for run in done.provenance.stages},
        listening=tuple(node.name for node in graph.nodes if AUDIO in node.needs),
        peak_mb=peak.megabytes,
        words=sum(len(turn.words) for turn in done.turns),
        speakers=len(done.speakers),
    )


def write_speech(path: Path, files: list[Path], minutes: float) -> Path:
    """The files one after the other, again and again under changing gain: a WAV file, which is
    written in constant memory, and stays for the next call."""
    if path.exists():
        return path
    left = int(minutes * 60 * RATE)
    gains, gain = np.random.default_rng(0), 1.0
    partial = path.with_suffix(".partial.wav")
    with soundfile.SoundFile(partial, "w", RATE, 1, "PCM_16") as sink:
        while left > 0:
            for file in files:
                for block in AudioSource(str(file), AudioSource.parameters_type()).blocks():
                    sink.write(gain * block.samples[: max(0, left)])
                    left -= len(block.samples)
            gain = gains.uniform(0.5, 0.9)
    return partial.rename(path)


def show(whole: Whole, profile: str, threads: int) -> None:
    """Prints the table of a long recording."""
    hours = whole.audio / 3600
    table = Table(title=f"{profile}: {hours:.2f} hours, {threads} threads")
    for column in ("stage", "s", "% of the whole"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for name, seconds in [*whole.stages.items(), ("exports", whole.exports)]:
        table.add_row(name, f"{seconds:.2f}", f"{100 * seconds / whole.seconds:.2f}")
    table.add_row("whole", f"{whole.seconds:.1f}", "100")
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    console.print(
        f"{whole.audio / whole.seconds:.0f} times real time, {whole.cpu:.1f} s of CPU; all that "
        f"does not listen takes {whole.added:.2f} s, {100 * whole.added / whole.seconds:.2f} % of "
        f"the whole; {whole.peak_mb:.0f} MB more than the loaded models; {whole.words} words, "
        f"{whole.speakers} speakers"
    )
