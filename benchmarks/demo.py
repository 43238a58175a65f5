"""`make demo`: the bundled meeting through the default profile; prints the transcript, and how
good and how fast it was. `--check` exits 1 where a number misses its limit."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.evaluation import evaluate
from jobs.exports.text import clock
from jobs.ledger import Ledger
from pipeline.job import job_at
from pipeline.records import Transcript
from pipeline.storage import Folder
from pipeline.transcript import join_words

DEMO = Path(__file__).resolve().parents[1] / "demo"
MEETING = DEMO / "meeting.opus"
COLOURS = ("cyan", "yellow", "green", "magenta", "blue", "red", "white")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=DEMO / "out")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    console = Console(highlight=False)
    seconds = _transcribe(arguments.out)
    transcript = Ledger(Folder(str(arguments.out))).transcript(job_at(str(MEETING)).id)
    if transcript is None:
        return 1
    _print_transcript(console, transcript)
    evaluation = evaluate(DEMO, arguments.out)
    console.print(evaluation.table())
    console.print(_speed(transcript, seconds))
    console.print(
        "The meeting is synthetic speech (flite, festival, espeak-ng), and the bundled models "
        "were trained on these voices too, on other texts. Of people whom it never heard, the "
        "recogniser gets 18 % of the words of read books wrong, and 64 % in real meetings "
        "(measured by benchmarks/asr.py and hansard evaluate; see stages/*/bundled/*/README.md)."
    )
    console.print(
        f"Written: {arguments.out}/transcripts (JSON), {arguments.out}/exports (SRT, TXT)"
    )
    return 0


def _transcribe(out: Path) -> float:
    """Seconds of wall time of the command, start-up included; 0 work where all is done."""
    command = [sys.executable, "-m", "jobs.cli", "transcribe", str(MEETING), "--out", str(out)]
    began = time.perf_counter()
    subprocess.run(command, check=True, cwd=DEMO.parent)
    return time.perf_counter() - began


def _print_transcript(console: Console, transcript: Transcript) -> None:
    for turn in transcript.turns:
        colour = COLOURS[(int(turn.speaker[1:]) - 1) % len(COLOURS)]
        confidence = sum(word.confidence for word in turn.words) / len(turn.words)
        mood = turn.emotion.get(turn.mood, 0.0)
        head = f"{clock(turn.span.start):>5} {turn.speaker} "
        scores = f"  [{confidence:.2f} {turn.mood} {mood:.2f}]"
        console.print(
            Text.assemble((head, f"bold {colour}"), join_words(turn.words), (scores, "dim"))
        )


def _speed(transcript: Transcript, seconds: float) -> Table:
    """Work by stage, as the artifacts remember it: a second run does none of it again."""
    audio = transcript.duration / 1000
    table = Table(title=f"Work a second of audio, {os.cpu_count()} cores, {platform.machine()}")
    table.add_column("stage")
    table.add_column("seconds", justify="right")
    table.add_column("RTF", justify="right")
    for run in transcript.provenance.stages:
        table.add_row(run.stage, f"{run.seconds:.2f}", f"{run.seconds / audio:.4f}")
    total = sum(run.seconds for run in transcript.provenance.stages)
    table.add_row("all stages", f"{total:.2f}", f"{total / audio:.4f}")
    table.add_row("this command, start-up included", f"{seconds:.2f}", f"{seconds / audio:.4f}")
    return table


if __name__ == "__main__":
    sys.exit(main())
