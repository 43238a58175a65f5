"""`hansard retry`: failed recordings once more, as they were asked for."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import replace

import typer

from jobs.batch import run_batch
from jobs.ledger import Ledger, Options
from jobs.recorder import Conduct, End
from jobs.sources import look_up
from jobs.transcribe import ALL_DONE, SOME_FAILED, checked_graph, open_ledger
from pipeline.errors import UsageError, printable
from pipeline.job import Job


def retry(out: str, error: str, recordings: Collection[str], conduct: Conduct) -> int:
    """The exit code. Runs the failures again whose error or stage has `error` in it and that
    are among `recordings`, where any are given, each with the options of its last attempt.
    UsageError where an id is of no failure, or a profile is gone."""
    ledger = open_ledger(out)
    chosen, unreadable = _chosen(ledger, error.casefold(), frozenset(recordings))
    for recording in unreadable:
        path = printable(ledger.folder.path(f"failures/{recording}.json"))
        typer.echo(f"FAILED {path}: does not say how to try again: transcribe it anew", err=True)
    graphs = {options: checked_graph(options) for options in chosen}
    ends: Counter[End] = Counter()
    if chosen:
        ledger.folder.check_writable()
    for options, jobs in chosen.items():
        ends += run_batch(list(look_up(jobs)), ledger, graphs[options], options, conduct)
    if not ends and not unreadable:
        typer.echo("retry: nothing to try again", err=True)
    return SOME_FAILED if unreadable or ends[End.FAILED] else ALL_DONE


def _chosen(
    ledger: Ledger, error: str, recordings: frozenset[str]
) -> tuple[dict[Options, list[Job]], list[str]]:
    """The jobs by the options that they are run with, and the ids that cannot be run."""
    unknown = recordings - ledger.ids("failures")
    if unknown:
        raise UsageError(
            f"--id {printable(min(unknown))}: no such failure in {ledger.folder}; "
            "see them with: hansard status --json"
        )
    chosen: dict[Options, list[Job]] = defaultdict(list)
    unreadable: list[str] = []
    for recording, failed in sorted(ledger.failures(), key=lambda found: found[0]):
        if recordings and recording not in recordings:
            continue
        if failed is None:
            unreadable.append(recording)
        elif error in f"{failed.failure.stage}: {failed.failure.error}".casefold():
            # What the input is like now counts, not what it was then.
            chosen[failed.options].append(replace(failed.job, version="", modified=0.0))
    return chosen, unreadable
