"""`hansard submit`, and `hansard job` to look at what it sent and to stop it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs.options import (
    DASHBOARD,
    Dashboard,
    Formats,
    MaxAttempts,
    MaxSpeakers,
    MinSpeakers,
    Out,
    Profile,
    Settings,
    Sources,
    Speakers,
    TimeLimit,
    with_counts,
)

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
Id = Annotated[str, typer.Argument(metavar="ID", help="What `submit` printed.")]


def submit(
    sources: Sources,
    out: Out,
    address: Dashboard = DASHBOARD,
    profile: Profile = "default",
    speakers: Speakers = None,
    min_speakers: MinSpeakers = None,
    max_speakers: MaxSpeakers = None,
    formats: Formats = None,
    settings: Settings = None,
    max_attempts: MaxAttempts = None,
    time_limit: TimeLimit = None,
    working_dir: Annotated[
        Path | None, typer.Option(help="A folder of profiles, manifests, ... to send along.")
    ] = None,
    variables: Annotated[
        list[str] | None,
        typer.Option("--env", help="A variable of this environment to set there; repeatable."),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Show the job's log on stderr until it ends.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="The job as one JSON object on stdout.")
    ] = False,
) -> None:
    """Transcribe on a Ray cluster, as a Ray job: prints the job's id, and returns. The cluster's
    nodes have Hansard installed, and reach SOURCE and OUT under the same names.

    \b
    hansard submit s3://archive/2024/ --out s3://transcripts --address http://head:8265
    hansard submit s3://archive/ --out s3://transcripts --follow
    hansard submit lists/calls.csv --out /mnt/out --working-dir lists --profile lists/mine.yaml
    hansard submit s3://archive/ --out s3://transcripts --env AWS_ENDPOINT_URL
    hansard job status

    Exit codes: 0 sent (with --follow: all done), 1 some recordings failed, 2 the call itself
    was wrong.
    """
    from jobs.recorder import Conduct
    from jobs.submit.command import submit as send
    from jobs.transcribe import Request, make_options

    counted = with_counts(settings, speakers, min_speakers, max_speakers)
    options = make_options(profile, counted, formats)
    conduct = Conduct(attempts=max_attempts, seconds=time_limit)
    request = Request(tuple(sources), out, options, conduct)
    code = send(
        request,
        address,
        folder=working_dir,
        names=variables or [],
        follow=follow,
        as_json=as_json,
    )
    raise typer.Exit(code)


@app.command()
def status(
    job: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Default: all jobs of the cluster.")
    ] = None,
    address: Dashboard = DASHBOARD,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a job.")] = False,
) -> None:
    """Whether jobs run, when they started and ended, with which exit code.

    \b
    hansard job status --address http://head:8265
    hansard job status raysubmit_4LamXRuQpYdSMg7J --json

    Exit codes: 0 told, 2 the call itself was wrong.
    """
    from jobs.submit.command import status as tell

    raise typer.Exit(tell(address, job, as_json=as_json))


@app.command()
def logs(
    job: Id,
    address: Dashboard = DASHBOARD,
    follow: Annotated[bool, typer.Option("--follow", help="Until the job ends.")] = False,
) -> None:
    """What a job has written: a line a recording, failures with their reasons, progress.

    \b
    hansard job logs raysubmit_4LamXRuQpYdSMg7J --address http://head:8265
    hansard job logs raysubmit_4LamXRuQpYdSMg7J --follow

    Exit codes: 0 told; with --follow those of `transcribe`; 2 the call itself was wrong.
    """
    from jobs.submit.command import logs as tell

    raise typer.Exit(tell(address, job, follow=follow))


@app.command()
def stop(job: Id, address: Dashboard = DASHBOARD) -> None:
    """Ask a job to end. What it has finished stays; the same `submit` goes on from there.

    \b
    hansard job stop raysubmit_4LamXRuQpYdSMg7J --address http://head:8265

    Exit codes: 0 asked, or it had ended; 2 the call itself was wrong.
    """
    from jobs.submit.command import stop as ask

    raise typer.Exit(ask(address, job))
