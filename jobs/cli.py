"""The command `hansard`. Only what a command needs is imported, when it is called."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import HansardError

app = typer.Typer(
    name="hansard",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)

Out = Annotated[str, typer.Option("--out", help="Output folder: transcripts, exports, artifacts.")]
Formats = Annotated[
    list[str] | None,
    typer.Option("--format", help="json, srt, txt, rttm; repeatable. Default: json, srt, txt."),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a recording on stdout.")]


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
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE...", help="Files, folders, globs, addresses.")
    ],
    out: Out,
    profile: Annotated[
        str, typer.Option(help="A profile that comes with Hansard, or a path to a YAML file.")
    ] = "default",
    speakers: Annotated[int | None, typer.Option(help="The exact number of speakers.")] = None,
    min_speakers: Annotated[int | None, typer.Option(help="At least so many speakers.")] = None,
    max_speakers: Annotated[int | None, typer.Option(help="At most so many speakers.")] = None,
    formats: Formats = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="stage.key=value: any parameter.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Transcribe recordings into OUT. What is done already is not done again.

    \b
    hansard transcribe meeting.mp3 --out results
    hansard transcribe archive/ --out results --format srt --format rttm
    hansard transcribe meeting.mp3 --out results --speakers 5
    hansard transcribe phone.raw --out results --set audio.pcm_rate=8000

    Exit codes: 0 all done, 1 some recordings failed, 2 the call itself was wrong.
    """
    from jobs.transcribe import Request, run

    counts = {"speakers": speakers, "min_speakers": min_speakers, "max_speakers": max_speakers}
    overrides = [f"clustering.{key}={n}" for key, n in counts.items() if n is not None]
    request = Request(
        sources=tuple(sources),
        out=out,
        profile=profile,
        settings=(*(settings or ()), *overrides),
        formats=tuple(formats or ("json", "srt", "txt")),
        as_json=as_json,
    )
    raise typer.Exit(run(request))


@app.command()
def export(
    out: Annotated[str, typer.Argument(metavar="OUT", help="A folder that `transcribe` wrote.")],
    formats: Annotated[list[str], typer.Option("--format", help="srt, txt, rttm; repeatable.")],
) -> None:
    """Write exports from finished records, without running any model."""
    from jobs.transcribe import check_formats, open_ledger

    check_formats(formats)
    ledger = open_ledger(out)
    count = 0
    for transcript in ledger.transcripts():
        ledger.export(transcript, formats)
        count += 1
    typer.echo(f"{count} recordings exported to {ledger.folder}/exports", err=True)


@app.command()
def evaluate(
    reference: Annotated[
        Path, typer.Argument(metavar="REFERENCE", help="A file or folder: RTTM, words JSONL, ...")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A folder that `transcribe` wrote.")],
    as_json: AsJson = False,
) -> None:
    """Score transcripts against references: DER, JER, WER, cpWER, speaker counts."""
    import json

    from rich.console import Console

    from jobs.evaluation import evaluate as score

    evaluation = score(reference, out)
    if as_json:
        typer.echo(json.dumps(evaluation.as_dict()))
    else:
        Console().print(evaluation.table())


def main() -> None:
    """Entry point: a user's mistake ends as one line and exit code 2, never a traceback."""
    try:
        app()
    except HansardError as error:
        typer.echo(f"hansard: {error}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("hansard: interrupted; the same command goes on from here", err=True)
        sys.exit(130)


if __name__ == "__main__":
    main()
