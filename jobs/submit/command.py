"""What `hansard submit` and `hansard job` print, and their exit codes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from jobs.submit.client import Cluster, JobState
from jobs.submit.submission import prepare
from jobs.transcribe import ALL_DONE, SOME_FAILED, Request
from pipeline import interrupt
from pipeline.errors import printable

WRONG = 2


def submit(
    request: Request,
    address: str,
    *,
    folder: Path | None,
    names: list[str],
    follow: bool,
    as_json: bool,
) -> int:
    """The exit code. The job's id goes to standard output, its log to standard error."""
    sent = prepare(request, folder, names)
    cluster = Cluster(address)
    if sent.paths:
        places = ", ".join(map(printable, sent.paths))
        typer.echo(
            f"note   every node of the cluster must have, under this path: {places}", err=True
        )
    job = cluster.submit(sent.command, sent.out, sent.folder, sent.variables)
    typer.echo(json.dumps({"id": job, "address": address}) if as_json else job)
    sys.stdout.flush()
    return _follow(cluster, job, err=True) if follow else ALL_DONE


def logs(address: str, job: str, *, follow: bool) -> int:
    """The exit code: with `follow`, the job's own."""
    cluster = Cluster(address)
    cluster.state(job)
    if follow:
        return _follow(cluster, job, err=False)
    typer.echo(cluster.logs(job), nl=False)
    return ALL_DONE


def status(address: str, job: str | None, *, as_json: bool) -> int:
    """The exit code."""
    cluster = Cluster(address)
    states = cluster.states() if job is None else [cluster.state(job)]
    if as_json:
        for state in states:
            typer.echo(json.dumps(state.as_dict()))
        return ALL_DONE
    table = Table(box=None, pad_edge=False)
    for column in ("id", "status", "exit code", "started", "ended", "out"):
        table.add_column(column, no_wrap=column in ("id", "status"), overflow="fold")
    for state in states:
        code = "" if state.code is None else str(state.code)
        table.add_row(
            state.id, state.status, code, state.started, state.ended, printable(state.out)
        )
    Console(highlight=False, markup=False).print(table)
    return ALL_DONE


def stop(address: str, job: str) -> int:
    """The exit code."""
    running = Cluster(address).stop(job)
    typer.echo(f"{job}: {'asked to end' if running else 'had ended'}", err=True)
    return ALL_DONE


def _follow(cluster: Cluster, job: str, *, err: bool) -> int:
    """The exit code of the job's command."""
    try:
        state = cluster.follow(job, lambda text: typer.echo(text, nl=False, err=err))
    except KeyboardInterrupt:
        typer.echo(
            f"\nthe job goes on; to follow it again: hansard job logs {job} --follow", err=True
        )
        return interrupt.EXIT_CODE
    return _code(state)


def _code(state: JobState) -> int:
    if state.status == "SUCCEEDED":
        return ALL_DONE
    if state.code in (SOME_FAILED, WRONG):
        return state.code
    what = "stopped" if state.status == "STOPPED" else f"ended early: {printable(state.message)}"
    typer.echo(f"FAILED job {state.id}: {what}; the same submit goes on from there", err=True)
    return SOME_FAILED
