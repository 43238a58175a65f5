"""`hansard sync`: what is new or changed since the last run. Made for cron: it reads listings,
and no file of a recording that is as it was."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import typer

from jobs.batch import run_batch
from jobs.job_list import JobList
from jobs.ledger import Failed, Ledger, Mark, state_of
from jobs.recorder import End
from jobs.sources import find_jobs, look_up
from jobs.transcribe import (
    ALL_DONE,
    SOME_FAILED,
    Request,
    checked_graph,
    open_ledger,
    tell_unlisted,
)
from pipeline.job import Job
from pipeline.profile import read_profile


@dataclass
class Plan:
    """What is to be done; the ids of what is new and what has changed; how many are left."""

    todo: JobList = field(default_factory=JobList)
    changed: set[str] = field(default_factory=set)
    unchanged: int = 0
    uploading: int = 0
    given_up: int = 0


def sync(request: Request, settle: float) -> int:
    """The exit code. UsageError or OutputError before anything runs where the call is wrong; what
    only the profile's stages know to be wrong is told when there is something for them to do.
    Inputs that changed in the last `settle` seconds are left for the next run."""
    options = request.options
    read_profile(options.profile, options.settings)
    found = find_jobs(request.sources)
    ledger = open_ledger(request.out)
    ledger.folder.check_writable()
    tell_unlisted(found.unlisted)
    marks = ledger.marks()
    settled = _settled(time.time(), settle)
    plan = _plan(look_up(found.jobs), ledger, marks, settled, request.conduct.attempts)
    changed = 0

    def heard(job: Job, end: End) -> None:
        nonlocal changed
        changed += end is End.DONE and job.id in plan.changed
        if end in (End.DONE, End.SAME):
            ledger.forget(job, marks.get(job.id, ()))

    ends: Counter[End] = Counter()
    if plan.todo:
        graph = checked_graph(options)
        ends = run_batch(plan.todo, ledger, graph, options, request.conduct, heard)
    typer.echo(_summary(plan, ends, changed), err=True)
    return SOME_FAILED if found.unlisted or ends[End.FAILED] else ALL_DONE


def _settled(now: float, settle: float) -> Callable[[Job], bool]:
    """Whether an input is not being written any more, as far as its time of change tells. A
    time in the future is a clock that goes wrong, and no reason to wait for long."""
    return lambda job: abs(now - job.modified) >= settle


def _plan(
    jobs: Iterable[Job],
    ledger: Ledger,
    marks: dict[str, list[Mark]],
    settled: Callable[[Job], bool],
    attempts: int | None,
) -> Plan:
    done = ledger.ids("transcripts")
    failures = dict(ledger.failures())
    plan = Plan()
    for job in jobs:
        now, finished = state_of(job), job.id in done
        known = {mark.state for mark in marks.get(job.id, ())}
        if now and finished and job.id not in failures and known == {now}:
            plan.unchanged += 1
        elif not settled(job):
            plan.uploading += 1
        elif not finished and _spent(failures.get(job.id), now, attempts):
            plan.given_up += 1
        else:
            plan.todo.add(job)
            if finished or known:
                plan.changed.add(job.id)
    return plan


def _spent(failed: Failed | None, now: str, attempts: int | None) -> bool:
    """Whether this state of the input has failed as often as it may."""
    if failed is None or attempts is None or state_of(failed.job) != now:
        return False
    return failed.failure.attempt >= attempts


def _summary(plan: Plan, ends: Counter[End], changed: int) -> str:
    """sync: 3 new, 1 changed, 0 failed, 1,240 unchanged, 1 still uploading"""
    parts = {
        "new": ends[End.DONE] - changed,
        "changed": changed,
        "failed": ends[End.FAILED],
        "unchanged": plan.unchanged + ends[End.SAME],
    }
    rare = {
        "still uploading": plan.uploading,
        "in another run": ends[End.HELD],
        "failed too often before": plan.given_up + ends[End.GIVEN_UP],
    }
    parts |= {what: count for what, count in rare.items() if count}
    return "sync: " + ", ".join(f"{count:,} {what}" for what, count in parts.items())
