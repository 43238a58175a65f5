"""The options and arguments that several commands share."""

from __future__ import annotations

import os
from typing import Annotated, Literal

import typer

from pipeline.errors import UsageError

FORMATS = "json, srt, vtt, ass, txt, md, csv, rttm, stm, ctm, seglst, textgrid, html"
Out = Annotated[str, typer.Option("--out", help="Output folder: transcripts, exports, artifacts.")]
Formats = Annotated[
    list[str] | None,
    typer.Option("--format", help=f"{FORMATS}; repeatable. Default: json, srt, txt."),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a recording on stdout.")]
Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE...",
        help="Files, folders, globs, bucket prefixes, addresses, manifests (.jsonl, .csv, .scp).",
    ),
]
Folder = Annotated[str, typer.Argument(metavar="OUT", help="A folder that `transcribe` wrote.")]
Profile = Annotated[
    str, typer.Option(help="A profile that comes with Hansard, or a path to a YAML file.")
]
Speakers = Annotated[int | None, typer.Option(help="The exact number of speakers.")]
MinSpeakers = Annotated[int | None, typer.Option(help="At least so many speakers.")]
MaxSpeakers = Annotated[int | None, typer.Option(help="At most so many speakers.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="stage.key=value: any parameter.")
]
MaxAttempts = Annotated[
    int | None, typer.Option(help="Leave what has failed so often. Default: try.", min=1)
]
TimeLimit = Annotated[
    float | None,
    typer.Option(help="Seconds that one recording may take before it fails.", min=0.001),
]
ProgressEvery = Annotated[
    float | None,
    typer.Option(help="Seconds between lines of progress, where there is no terminal.", min=0.1),
]
DASHBOARD = "http://127.0.0.1:8265"
Dashboard = Annotated[
    str,
    typer.Option(
        "--address", envvar="RAY_API_SERVER_ADDRESS", help="Of the Ray cluster's dashboard."
    ),
]

Where = Annotated[
    Literal["local", "ray"], typer.Option(help="In this process, or on a Ray cluster.")
]
Address = Annotated[
    str,
    typer.Option(
        help="Of executor ray: ray://HOST:PORT, HOST:PORT, or auto (the cluster that this machine "
        "is part of). Default: RAY_ADDRESS, else a cluster in this machine, for this call alone."
    ),
]


def cluster_address(executor: str, address: str) -> str:
    """For `Conduct`. UsageError for an address that nothing would be sent to."""
    if executor == "local":
        if address:
            raise UsageError("--address is of --executor ray")
        return ""
    return address or os.environ.get("RAY_ADDRESS") or "local"


def with_counts(
    settings: list[str] | None,
    speakers: int | None,
    min_speakers: int | None,
    max_speakers: int | None,
) -> tuple[str, ...]:
    """The settings, with what options say of the number of speakers."""
    counts = {"speakers": speakers, "min_speakers": min_speakers, "max_speakers": max_speakers}
    said = [f"clustering.{key}={n}" for key, n in counts.items() if n is not None]
    return (*(settings or ()), *said)
