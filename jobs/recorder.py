"""One job from claim to record, and what is told of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto

from jobs.claims import Claim, ClaimLostError, Claims, Owner
from jobs.exports.text import clock
from jobs.ledger import Ledger, Options, reason_of, state_of
from pipeline.errors import OutputError, printable
from pipeline.executor import Compute, Executor, failure
from pipeline.graph import Graph
from pipeline.job import Job
from pipeline.profile import graph_for
from pipeline.records import Failure, Transcript
from pipeline.stage import Hook
from pipeline.transcript import encode, failure_to_json, to_json


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
    instead of leaving it; `quiet`: no line for what is as it was; `address` of the Ray cluster
    that computes (empty: this process); `progress_every`: seconds between two lines of progress
    where there is no terminal (None: none)."""

    attempts: int | None = None
    seconds: float | None = None
    wait: bool = True
    quiet: bool = False
    as_json: bool = False
    address: str = ""
    progress_every: float | None = None


@dataclass(frozen=True)
class Ended:
    """A job's end, small enough for a run of 100,000: `text` for people (of HELD: who holds it),
    `record` for scripts (empty without `as_json`), `duration` in ms of what was transcribed,
    `stage` and `reason` of what failed."""

    end: End
    text: str = ""
    record: str = ""
    duration: int = 0
    stage: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Task:
    """What holds for all jobs of a run. `began`: when, in UTC, ISO 8601."""

    graph: Graph
    options: Options
    conduct: Conduct
    began: str


class Recorder:
    """Does jobs one at a time, in this process; `compute` says where their stages run."""

    def __init__(self, ledger: Ledger, task: Task, hook: Hook, compute: Compute) -> None:
        self._ledger = ledger
        self._task = task
        self._watch = hook
        self._executor = Executor(
            task.graph, ledger.folder, self._hook, compute, task.conduct.seconds
        )
        self._claims = Claims(ledger.folder)
        self._claim: Claim | None = None

    def run(self, job: Job, dead: Collection[str] = ()) -> Ended:
        """Claims the job, does it and writes its record; where even that fails, says so. What
        the `dead` workers (host:pid) hold is free."""
        began = time.perf_counter()
        try:
            with self._claims.hold(job.id, dead) as claim:
                if isinstance(claim, Owner):
                    return Ended(End.HELD, claim.worker)
                self._claim = claim
                return self._claimed(job, claim, began)
        except ClaimLostError:
            return Ended(End.HELD, "another worker")
        except OutputError as error:
            return self._told(job, failure(job, "transcript", error, 1), began)

    def fail(self, job: Job, stage: str, error: Exception, dead: Sequence[str]) -> Ended:
        """Writes the record of a job over which the `dead` workers have died, without trying."""
        began = time.perf_counter()
        try:
            with self._claims.hold(job.id, dead) as claim:
                if isinstance(claim, Owner):
                    return Ended(End.HELD, claim.worker)
                outcome = failure(job, stage, error, self._attempts(job) + 1)
                outcome = replace(outcome, worker=dead[-1])
                if not self._stays(job, outcome, self._done(job)):
                    self._ledger.keep(outcome, job, self._task.options)
        except OutputError as error:
            outcome = failure(job, "transcript", error, 1)
        return self._told(job, outcome, began)

    def _hook(self, recording: str, stage: str, completed: int, total: int) -> None:
        if self._claim is not None and self._claim.lost:
            raise ClaimLostError(recording)
        self._watch(recording, stage, completed, total)

    def _claimed(self, job: Job, claim: Claim, began: float) -> Ended:
        conduct = self._task.conduct
        done = self._done(job)
        before = self._ledger.failed(job.id)
        attempts = 0
        if before is not None and done is None and _same_input(before.job, job):
            attempts = before.failure.attempt
            if before.failure.time > self._task.began:  # another run has just tried
                return self._told(job, before.failure, began)
            if conduct.attempts is not None and attempts >= conduct.attempts:
                return self._given_up(before.failure)
        outcome = self._executor.run(job, done=done, attempt=attempts + 1)
        claim.renew()
        if self._stays(job, outcome, done):
            return self._told(job, outcome, began)
        same = outcome is done
        try:
            self._ledger.keep(outcome, job, self._task.options, same=same)
        except OutputError as error:
            if not isinstance(outcome, Failure):
                outcome = failure(job, "transcript", error, attempts + 1)
        return self._told(job, outcome, began, same)

    def _stays(self, job: Job, outcome: Transcript | Failure, done: Transcript | None) -> bool:
        """Whether a failed attempt leaves the record `done`: unless its input is known to have
        changed since. What a full disk, a time limit or a file that was moved away has stopped
        must not cost a transcript that is there."""
        if done is None or not isinstance(outcome, Failure):
            return False
        try:
            graph = graph_for(self._task.graph, job)
            source = graph.source(job.location, graph.source_parameters)
            return source.fingerprint() == done.fingerprint
        except Exception:  # sources raise what their libraries raise
            return True

    def _attempts(self, job: Job) -> int:
        before = self._ledger.failed(job.id)
        same = before is not None and _same_input(before.job, job)
        return before.failure.attempt if before is not None and same else 0

    def _done(self, job: Job) -> Transcript | None:
        """The finished record; a broken one counts for none, and is made anew."""
        try:
            return self._ledger.transcript(job.id)
        except (ValueError, KeyError, TypeError):
            return None

    def _told(
        self, job: Job, outcome: Transcript | Failure, began: float, same: bool = False
    ) -> Ended:
        conduct = self._task.conduct
        if isinstance(outcome, Failure):
            return Ended(
                End.FAILED,
                _failed_line(job, outcome),
                self._record(outcome),
                stage=outcome.stage,
                reason=reason_of(outcome),
            )
        text = ""
        if not (same and conduct.quiet):
            text = _done_line(job, self._ledger.correct(outcome), time.perf_counter() - began)
        return Ended(
            End.SAME if same else End.DONE,
            text,
            self._record(outcome),
            outcome.duration,
        )

    def _given_up(self, last: Failure) -> Ended:
        text = f"FAILED {last.error} (not tried again: {last.attempt} attempts)"
        return Ended(End.GIVEN_UP, text, self._record(last))

    def _record(self, outcome: Transcript | Failure) -> str:
        if not self._task.conduct.as_json:
            return ""
        as_json = failure_to_json if isinstance(outcome, Failure) else to_json
        record: Callable[..., dict[str, object]] = as_json
        return encode(record(outcome)).decode() + "\n"


def _same_input(before: Job, now: Job) -> bool:
    """Also where nothing is known of one of the two."""
    return state_of(before) == state_of(now) or not (before.version and now.version)


def _failed_line(job: Job, failure: Failure) -> str:
    name = printable(job.location)
    reason = failure.error if name in failure.error else f"{name}: {failure.error}"
    return f"FAILED {reason}"


def _done_line(job: Job, done: Transcript, seconds: float) -> str:
    """What a person reads: file, result, and whatever was odd about it."""
    name = printable(job.location)
    rate = f", {done.duration / 1000 / seconds:.0f} times real time" if seconds > 1 else ""
    speech = (
        f"{len(done.speakers)} speakers, {len(done.turns)} turns"
        if done.turns
        else "no speech found"
    )
    lines = [f"done   {name}: {clock(done.duration)}, {speech}{rate}"]
    notes = [*done.provenance.notes]
    notes += [f"{run.stage}: {note}" for run in done.provenance.stages for note in run.notes]
    return "\n".join(lines + [f"note   {name}: {note}" for note in notes])
