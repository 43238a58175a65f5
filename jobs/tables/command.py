"""`hansard tables`: the update with its progress, and what it did in one line."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from jobs.tables.update import Summary, update_tables
from jobs.transcribe import ALL_DONE, SOME_FAILED, open_ledger


def tables(out: str, as_json: bool) -> int:
    """Brings OUT/tables up to date and gives the exit code. UsageError where nothing in OUT was
    transcribed."""
    ledger = open_ledger(out)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    columns = (TextColumn("records"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task("records", total=None)
        summary = update_tables(
            ledger, lambda done, total: progress.update(task, completed=done, total=total)
        )
    for line in summary.unreadable:
        console.print(f"FAILED {line}", markup=False)
    console.print(f"{_line(summary)}, in {ledger.folder}/tables", markup=False)
    if as_json:
        sys.stdout.write(json.dumps(asdict(summary)) + "\n")
    return SOME_FAILED if summary.unreadable else ALL_DONE


def _line(summary: Summary) -> str:
    done = ((summary.added, "new"), (summary.changed, "changed"), (summary.removed, "removed"))
    what = ", ".join(f"{count} {name}" for count, name in done if count) or "up to date"
    return f"tables of {summary.recordings} recordings ({what})"
