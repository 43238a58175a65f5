"""Runs recordings under claims, in this process, and tells of each: a line, a record."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, auto

from rich.console import Console

from jobs.claims import Claim, ClaimLostError, Claims, Owner
from jobs.exports.text import clock
from jobs.ledger import Ledger, Options, state_of
from jobs.progress import ProgressDisplay
from pipeline.errors import OutputError, printable
from pipeline.graph import Graph
from pipeline.job import Job
from pipeline.local import LocalExecutor, failure
from pipeline.records import Failure, Transcript
from pipeline.transcript import encode, failure_to_json, to_json

WAIT = 2.0  # seconds between two looks at what another run works on


class End(Enum):
    """How a recording ended in this run: SAME had a record that still holds; HELD is another
    run's; GIVEN_UP failed too often before."""

    DONE = auto()
    SAME = auto()
    FAILED = auto()
    HELD = auto()
    GIVEN_UP = auto()


@dataclass(frozen=True)
class Conduct:
    """How a run goes about its recordings. `attempts`: what has failed so often is left alone
    (None: never); `seconds`: the most that one may take; `wait`: for what another run works on,
    instead of leaving it; `quiet`: no line for what is as it was."""

    attempts: int | None = None
    seconds: float | None = None
    wait: bool = True
    quiet: bool = False
    as_json: bool = False


@dataclass(frozen=True)
class _Held:
    worker: str


@dataclass(frozen=True)
class _GivenUp:
    failure: Failure


_Outcome = Transcript | Failure | _Held | _GivenUp


def run_batch(
    jobs: Sequence[Job], ledger: Ledger, graph: Graph, options: Options, conduct: Conduct
) -> dict[str, End]:
    """Each recording once, whoever else works on the same folder; how each ended, by id."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    with ProgressDisplay(console, len(jobs)) as display:
        return _Batch(ledger, graph, options, conduct, console, display).run(jobs)


class _Batch:
    def __init__(
        self,
        ledger: Ledger,
        graph: Graph,
        options: Options,
        conduct: Conduct,
        console: Console,
        display: ProgressDisplay,
    ) -> None:
        self._ledger = ledger
        self._options = options
        self._conduct = conduct
        self._console = console
        self._display = display
        self._executor = LocalExecutor(graph, ledger.folder, self._hook, conduct.seconds)
        self._claims = Claims(ledger.folder)
        self._claim: Claim | None = None
        self._began = datetime.now(UTC).isoformat(timespec="seconds")

    def run(self, jobs: Iterable[Job]) -> dict[str, End]:
        ends: dict[str, End] = {}
        held = self._pass(jobs, ends)
        while held and self._conduct.wait:
            time.sleep(WAIT)
            held = self._pass(held, ends)
        return ends

    def _pass(self, jobs: Iterable[Job], ends: dict[str, End]) -> list[Job]:
        """Runs the jobs; gives back those that others work on."""
        held: list[Job] = []
        for job in jobs:
            began = time.perf_counter()
            outcome, same = self._one(job)
            if isinstance(outcome, _Held):
                held.append(job)
                if ends.get(job.id) is not End.HELD:
                    ends[job.id] = End.HELD
                    self._say_held(job, outcome)
                continue
            ends[job.id] = End.SAME if same else _end(outcome)
            self._display.recording_done()
            self._tell(job, outcome, same, time.perf_counter() - began)
        return held

    def _hook(self, recording: str, stage: str, completed: int, total: int) -> None:
        if self._claim is not None and self._claim.lost:
            raise ClaimLostError(recording)
        self._display.hook(recording, stage, completed, total)

    def _one(self, job: Job) -> tuple[_Outcome, bool]:
        """Runs a recording and writes its record; where even that fails, says so. Whether it
        was done before."""
        try:
            with self._claims.hold(job.id) as claim:
                if isinstance(claim, Owner):
                    return _Held(claim.worker), False
                self._claim = claim
                return self._claimed(job, claim)
        except ClaimLostError:
            return _Held("another worker"), False
        except OutputError as error:
            return failure(job, "transcript", error, 1), False

    def _claimed(self, job: Job, claim: Claim) -> tuple[_Outcome, bool]:
        before = self._ledger.failed(job.id)
        done = self._done(job)
        attempts = 0
        if before is not None and done is None and _same_input(before.job, job):
            attempts = before.failure.attempt
            if before.failure.time > self._began:  # another run has just tried
                return before.failure, False
            if self._conduct.attempts is not None and attempts >= self._conduct.attempts:
                return _GivenUp(before.failure), False
        outcome = self._executor.run(job, done=done, attempt=attempts + 1)
        same = outcome is done
        claim.renew()
        try:
            self._ledger.keep(outcome, job, self._options, same=same)
        except OutputError as error:
            if not isinstance(outcome, Failure):
                return failure(job, "transcript", error, attempts + 1), False
        return outcome, same

    def _done(self, job: Job) -> Transcript | None:
        """The finished record; a broken one counts for none, and is made anew."""
        try:
            return self._ledger.transcript(job.id)
        except (ValueError, KeyError, TypeError):
            return None

    def _say_held(self, job: Job, held: _Held) -> None:
        then = "waiting for it" if self._conduct.wait else "left to it"
        line = f"held   {printable(job.location)}: {held.worker} works on it, {then}"
        self._console.print(line, markup=False)

    def _tell(
        self, job: Job, outcome: Transcript | Failure | _GivenUp, same: bool, seconds: float
    ) -> None:
        if not (same and self._conduct.quiet):
            shown = outcome
            if isinstance(outcome, Transcript):
                shown = self._ledger.correct(outcome)
            self._console.print(_line(job, shown, seconds), markup=False)
        if self._conduct.as_json:
            sys.stdout.write(_json_line(outcome))
            sys.stdout.flush()


def _same_input(before: Job, now: Job) -> bool:
    """Also where nothing is known of one of the two."""
    return state_of(before) == state_of(now) or not (before.version and now.version)


def _end(outcome: Transcript | Failure | _GivenUp) -> End:
    if isinstance(outcome, Transcript):
        return End.DONE
    return End.FAILED if isinstance(outcome, Failure) else End.GIVEN_UP


def _line(job: Job, outcome: Transcript | Failure | _GivenUp, seconds: float) -> str:
    """What a person reads: file, result, and whatever was odd about it."""
    name = printable(job.location)
    if isinstance(outcome, _GivenUp):
        last = outcome.failure
        return f"FAILED {last.error} (not tried again: {last.attempt} attempts)"
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


def _json_line(outcome: Transcript | Failure | _GivenUp) -> str:
    if isinstance(outcome, _GivenUp):
        outcome = outcome.failure
    if isinstance(outcome, Failure):
        return encode(failure_to_json(outcome)).decode() + "\n"
    return encode(to_json(outcome)).decode() + "\n"
