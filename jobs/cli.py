"""The command `hansard`. Only what a command needs is imported, when it is called."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from jobs.models import cli as models
from jobs.options import (
    FORMATS,
    Address,
    AsJson,
    Folder,
    Formats,
    MaxAttempts,
    MaxSpeakers,
    MinSpeakers,
    Out,
    Profile,
    ProgressEvery,
    Settings,
    Sources,
    Speakers,
    TimeLimit,
    Where,
    cluster_address,
    with_counts,
)
from jobs.submit import cli as submitted
from pipeline.errors import HansardError
from pipeline.interrupt import EXIT_CODE, listen

app = typer.Typer(
    name="hansard",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from pipeline.transcript import hansard_version

        typer.echo(hansard_version())
        raise typer.Exit


@app.callback()
def hansard(
    version: Annotated[
        bool, typer.Option("--version", help="Print it.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Archives of long meeting recordings, turned into speaker-attributed transcripts."""


@app.command()
def transcribe(
    sources: Sources,
    out: Out,
    profile: Profile = "default",
    speakers: Speakers = None,
    min_speakers: MinSpeakers = None,
    max_speakers: MaxSpeakers = None,
    formats: Formats = None,
    settings: Settings = None,
    max_attempts: MaxAttempts = None,
    time_limit: TimeLimit = None,
    executor: Where = "local",
    address: Address = "",
    progress_every: ProgressEvery = None,
    as_json: AsJson = False,
) -> None:
    """Transcribe recordings into OUT. What is done already is not done again; what another run
    works on at the same time is waited for.

    \b
    hansard transcribe meeting.mp3 --out results
    hansard transcribe archive/ --out results --format srt --format rttm
    hansard transcribe meeting.mp3 --out results --speakers 5
    hansard transcribe 's3://archive/2024/**/*.wav' --out s3://results/2024
    hansard transcribe calls.jsonl --out results --time-limit 3600
    hansard transcribe archive/ --out results --executor ray
    hansard transcribe s3://archive/ --out s3://results --executor ray --address ray://head:10001
    hansard transcribe phone.raw --out results --set audio.pcm_rate=8000

    Exit codes: 0 all done, 1 some recordings failed, 2 the call itself was wrong.
    """
    from jobs.recorder import Conduct
    from jobs.transcribe import Request, make_options, run

    counted = with_counts(settings, speakers, min_speakers, max_speakers)
    options = make_options(profile, counted, formats)
    conduct = Conduct(
        attempts=max_attempts,
        seconds=time_limit,
        as_json=as_json,
        address=cluster_address(executor, address),
        progress_every=progress_every,
    )
    raise typer.Exit(run(Request(tuple(sources), out, options, conduct)))


@app.command()
def sync(
    sources: Sources,
    out: Out,
    settle: Annotated[
        float, typer.Option(help="Leave inputs that changed in the last so many seconds.", min=0)
    ] = 60,
    profile: Profile = "default",
    speakers: Speakers = None,
    min_speakers: MinSpeakers = None,
    max_speakers: MaxSpeakers = None,
    formats: Formats = None,
    settings: Settings = None,
    max_attempts: Annotated[
        int, typer.Option(help="Leave what has failed so often, until its input changes.", min=1)
    ] = 3,
    time_limit: TimeLimit = None,
    executor: Where = "local",
    address: Address = "",
    progress_every: ProgressEvery = None,
    as_json: AsJson = False,
) -> None:
    """Transcribe what is new in SOURCE, or has changed, since the last run. Made for cron: ends
    with one line of counts, reads only listings where nothing has changed, and leaves alone
    what another run works on. See configs/deploy for cron, systemd and Kubernetes.

    \b
    hansard sync /srv/recordings --out /srv/transcripts
    hansard sync s3://archive/ --out s3://transcripts --settle 300
    hansard sync calls.csv --out results --max-attempts 5 --time-limit 7200

    Exit codes: 0 all done, or nothing to do; 1 some recordings failed, or a source could not
    be listed; 2 the call itself was wrong, or OUT cannot be written.
    """
    from jobs.recorder import Conduct
    from jobs.sync import sync as run
    from jobs.transcribe import Request, make_options

    counted = with_counts(settings, speakers, min_speakers, max_speakers)
    options = make_options(profile, counted, formats)
    conduct = Conduct(
        attempts=max_attempts,
        seconds=time_limit,
        wait=False,
        quiet=True,
        as_json=as_json,
        address=cluster_address(executor, address),
        progress_every=progress_every,
    )
    raise typer.Exit(run(Request(tuple(sources), out, options, conduct), settle))


app.command()(submitted.submit)


@app.command()
def status(
    out: Folder,
    as_json: Annotated[
        bool, typer.Option("--json", help="Counts, failures and claims, one JSON object.")
    ] = False,
) -> None:
    """What is done, failed (by error) and worked on in OUT, from its listing.

    \b
    hansard status results
    hansard status s3://transcripts --json

    Exit codes: 0 told, 2 OUT cannot be read.
    """
    import json

    from rich.console import Console

    from jobs.status import status as look
    from jobs.transcribe import open_ledger

    found = look(open_ledger(out))
    if as_json:
        typer.echo(json.dumps(found.as_dict()))
    else:
        Console().print(found.table())


@app.command()
def retry(
    out: Folder,
    error: Annotated[
        str, typer.Option(help="Only failures with this text in stage or error; any case.")
    ] = "",
    recordings: Annotated[
        list[str] | None,
        typer.Option("--id", help="Only this recording, as in failures/<id>.json; repeatable."),
    ] = None,
    time_limit: TimeLimit = None,
    executor: Where = "local",
    address: Address = "",
    progress_every: ProgressEvery = None,
    as_json: AsJson = False,
) -> None:
    """Try failed recordings once more, with the profile and options they were asked for with.

    \b
    hansard retry results
    hansard retry results --error 'no space left'
    hansard retry results --id board-meeting-ceb4bf9fb5ff

    Exit codes: 0 all done, or nothing to retry; 1 some failed again; 2 the call was wrong.
    """
    from jobs.recorder import Conduct
    from jobs.retry import retry as run

    conduct = Conduct(
        seconds=time_limit,
        as_json=as_json,
        address=cluster_address(executor, address),
        progress_every=progress_every,
    )
    raise typer.Exit(run(out, error, recordings or (), conduct))


@app.command()
def export(
    out: Annotated[str, typer.Argument(metavar="OUT", help="A folder that `transcribe` wrote.")],
    formats: Annotated[
        list[str], typer.Option("--format", help=f"{FORMATS}; repeatable. See README.md.")
    ],
    recordings: Annotated[
        list[str] | None,
        typer.Option("--id", help="Only this recording, as in transcripts/<id>.json; repeatable."),
    ] = None,
) -> None:
    """Write OUT/exports/<id>.* from finished records, without running any model. What people
    put right is in them; json is the whole record with it.

    \b
    hansard export results --format vtt --format md
    hansard export results --format csv --id board-meeting-ceb4bf9fb5ff

    Exit codes: 0 all done, 1 some records could not be read, 2 the call itself was wrong.
    """
    from jobs.export import export as write

    raise typer.Exit(write(out, formats, recordings or ()))


@app.command()
def tables(
    out: Annotated[str, typer.Argument(metavar="OUT", help="A folder that `transcribe` wrote.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="What was done, as one JSON object on stdout.")
    ] = False,
) -> None:
    """Write OUT/tables/{recordings,speakers,turns,words}/*.parquet, for pandas and any other
    tool that reads Parquet. Only records that are new or changed since the last call are read.

    \b
    hansard tables results
    hansard tables s3://archive/results --json
    python -c 'from jobs import load_tables; print(load_tables("results").speakers)'

    Exit codes: 0 all done, 1 some records could not be read, 2 the call itself was wrong.
    """
    from jobs.tables.command import tables as write

    raise typer.Exit(write(out, as_json))


@app.command()
def view(
    place: Annotated[
        str, typer.Argument(metavar="OUT[/ID]", help="A folder that `transcribe` wrote, or one ID.")
    ],
    port: Annotated[int, typer.Option(help="Of the address; 0: any that is free.")] = 0,
    browser: Annotated[bool, typer.Option(help="Open the address in a browser.")] = True,
    write: Annotated[
        bool, typer.Option("--write", help="Write OUT/exports/*.html instead, and end.")
    ] = False,
) -> None:
    """Read, hear, search and correct recordings in a browser; an index of them all, or one.

    Pages are served on this machine only, until Ctrl+C; the address is printed on stdout.
    Corrections are kept in OUT/corrections/<id>.json: export and tables honour them.

    \b
    hansard view results
    hansard view results/board-meeting-ceb4bf9fb5ff --no-browser --port 8080
    hansard view results --write

    Exit codes: 0 ended, 1 some records could not be read, 2 the call itself was wrong.
    """
    from jobs.view.command import view as run

    raise typer.Exit(run(place, port=port, browser=browser, write=write))


@app.command()
def evaluate(
    reference: Annotated[
        Path, typer.Argument(metavar="REFERENCE", help="A file or folder: RTTM, words JSONL, ...")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A folder that `transcribe` wrote.")],
    csv_file: Annotated[
        Path | None, typer.Option("--csv", help="Write a row a recording here, and all together.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on stdout instead of the table.")
    ] = False,
) -> None:
    """Score transcripts against references: DER (collar 0 and 0.25, with and without overlap),
    JER, WER, CER, cpWER, tcpWER, speaker counts.

    REFERENCE is RTTM, STM, SegLST, words with times (JSONL), or one of Hansard's transcripts; a
    UEM beside it says what is scored. A recording's reference has the name of its file.

    \b
    hansard evaluate meeting.rttm results
    hansard evaluate references/ results --csv scores.csv
    hansard evaluate references/ results --json > scores.json

    Exit codes: 0 scored, 2 the call itself was wrong.
    """
    import json

    from rich.console import Console

    from jobs.evaluation import evaluate as score

    evaluation = score(reference, out)
    if csv_file:
        evaluation.write_csv(csv_file)
    if as_json:
        typer.echo(json.dumps(evaluation.as_dict()))
    else:
        Console().print(evaluation.table())


app.add_typer(submitted.app, name="job", help="Jobs that `submit` sent: status, logs, stop.")
app.add_typer(models.app, name="models", help="Published models: what is here, pull, verify.")


def main() -> None:
    """Entry point: a user's mistake ends as one line and exit code 2, never a traceback."""
    listen()  # claims are given back before the process ends
    try:
        app()
    except HansardError as error:
        typer.echo(f"hansard: {error}", err=True)
        sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as end:  # typer makes the second of the first
        if isinstance(end, SystemExit) and end.code != EXIT_CODE:
            raise
        typer.echo("hansard: interrupted; the same command goes on from here", err=True)
        sys.exit(EXIT_CODE)


if __name__ == "__main__":
    main()
