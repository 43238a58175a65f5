"""`hansard transcribe`: from sources to records in the output folder, a line a recording."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console

from jobs.exports import FORMATS
from jobs.exports.text import clock
from jobs.ledger import Ledger
from jobs.progress import ProgressDisplay
from jobs.sources import find_jobs
from pipeline.errors import OutputError, UsageError, printable
from pipeline.job import Job
from pipeline.local import LocalExecutor
from pipeline.profile import load_profile
from pipeline.records import Failure, Transcript
from pipeline.storage import Folder
from pipeline.transcript import encode, failure_to_json, to_json

ALL_DONE, SOME_FAILED = 0, 1


@dataclass(frozen=True)
class Request:
    """A call of `hansard transcribe`."""

    sources: tuple[str, ...]
    out: str
    profile: str
    settings: tuple[str, ...]
    formats: tuple[str, ...]
    as_json: bool


def run(request: Request) -> int:
    """The exit code. UsageError or OutputError before anything runs where the call is wrong."""
    check_formats(request.formats)
    graph = load_profile(request.profile, request.settings)
    graph.check_models()
    jobs = find_jobs(request.sources)
    ledger = open_ledger(request.out)
    ledger.folder.check_writable()
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    failed = 0
    with ProgressDisplay(console, len(jobs)) as display:
        executor = LocalExecutor(graph, ledger.folder, display.hook)
        for job in jobs:
            began = time.perf_counter()
            outcome = _one(job, executor, ledger, request.formats)
            seconds = time.perf_counter() - began
            display.recording_done()
            console.print(_line(job, outcome, seconds), markup=False)
            if request.as_json:
                sys.stdout.write(_json_line(outcome))
                sys.stdout.flush()
            failed += isinstance(outcome, Failure)
    return SOME_FAILED if failed else ALL_DONE


def check_formats(formats: Iterable[str]) -> None:
    """UsageError for a format that Hansard does not write."""
    for name in formats:
        if name not in FORMATS:
            raise UsageError(f"--format {name}: unknown; known: {', '.join(FORMATS)}")


def open_ledger(out: str) -> Ledger:
    """UsageError where the address is of an unknown kind."""
    try:
        return Ledger(Folder(out))
    except (ValueError, ImportError) as error:
        raise UsageError(f"{printable(out)}: {error}") from None


def _one(
    job: Job, executor: LocalExecutor, ledger: Ledger, formats: tuple[str, ...]
) -> Transcript | Failure:
    """Runs a recording and writes its record; where even that fails, says so."""
    done = ledger.transcript(job.id)
    attempt = ledger.attempts(job.id) + 1
    outcome = executor.run(job, done=done, attempt=attempt)
    try:
        if outcome is done and done is not None:
            ledger.export(done, formats)
        else:
            ledger.keep(outcome, formats)
    except OutputError as error:
        if isinstance(outcome, Failure):
            return outcome
        return Failure(job.id, job.uri, "transcript", str(error), attempt)
    return outcome


def _line(job: Job, outcome: Transcript | Failure, seconds: float) -> str:
    """What a person reads: file, result, and whatever was odd about it."""
    name = printable(job.location)
    if isinstance(outcome, Failure):
        reason = outcome.error if name in outcome.error else f"{name}: {outcome.error}"
        return f"FAILED {reason}"
    rate = f", {outcome.duration / 1000 / seconds:.0f} times real time" if seconds > 1 else ""
    speech = (
        f"{len(outcome.speakers)} speakers, {len(outcome.turns)} turns"
        if outcome.turns
        else "no speech found"
    )
    lines = [f"done   {name}: {clock(outcome.duration)}, {speech}{rate}"]
    notes = [*outcome.provenance.notes]
    notes += [f"{run.stage}: {note}" for run in outcome.provenance.stages for note in run.notes]
    return "\n".join(lines + [f"note   {name}: {note}" for note in notes])


def _json_line(outcome: Transcript | Failure) -> str:
    if isinstance(outcome, Failure):
        return encode(failure_to_json(outcome)).decode() + "\n"
    return encode(to_json(outcome)).decode() + "\n"
