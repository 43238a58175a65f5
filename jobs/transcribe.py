"""`hansard transcribe`: from sources to records in the output folder, a line a recording."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import typer

from jobs.batch import run_batch
from jobs.exports import EXPORTS
from jobs.ledger import Ledger, Options
from jobs.recorder import Conduct, End
from jobs.sources import find_jobs
from pipeline.errors import UsageError, printable
from pipeline.graph import Graph
from pipeline.profile import load_profile
from pipeline.storage import Folder

ALL_DONE, SOME_FAILED = 0, 1
DEFAULT_FORMATS = ("json", "srt", "txt")


@dataclass(frozen=True)
class Request:
    """A call of `hansard transcribe` or `hansard sync`."""

    sources: tuple[str, ...]
    out: str
    options: Options
    conduct: Conduct


def run(request: Request) -> int:
    """The exit code. UsageError or OutputError before anything runs where the call is wrong."""
    graph = checked_graph(request.options)
    found = find_jobs(request.sources)
    ledger = open_ledger(request.out)
    ledger.folder.check_writable()
    tell_unlisted(found.unlisted)
    ends = run_batch(found.jobs, ledger, graph, request.options, request.conduct)
    failed = found.unlisted or ends[End.FAILED] or ends[End.GIVEN_UP]
    return SOME_FAILED if failed else ALL_DONE


def make_options(profile: str, settings: Iterable[str], formats: Iterable[str] | None) -> Options:
    """Options that hold wherever they are read again. UsageError for an unknown format."""
    formats = tuple(formats or DEFAULT_FORMATS)
    check_formats(formats)
    if profile.endswith((".yaml", ".yml")):
        profile = str(Path(profile).expanduser().resolve())
    # The record is JSON, transcripts/<id>.json: always written, and not twice.
    return Options(profile, tuple(settings), tuple(name for name in formats if name != "json"))


def checked_graph(options: Options) -> Graph:
    """The graph of profile and settings. ProfileError or ModelError where they do not fit."""
    graph = load_profile(options.profile, options.settings)
    graph.check_models()
    return graph


def tell_unlisted(lines: Iterable[str]) -> None:
    """A line on standard error for each source that could not be listed."""
    for line in lines:
        typer.echo(f"FAILED {line}", err=True)


def check_formats(formats: Iterable[str]) -> None:
    """UsageError for a format that Hansard does not write."""
    for name in formats:
        if name not in EXPORTS:
            raise UsageError(f"--format {printable(name)}: unknown; known: {', '.join(EXPORTS)}")


def open_ledger(out: str) -> Ledger:
    """UsageError where the address is of an unknown kind."""
    try:
        return Ledger(Folder(out))
    except (ValueError, ImportError) as error:
        raise UsageError(f"{printable(out)}: {error}") from None
