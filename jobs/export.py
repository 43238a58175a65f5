"""`hansard export`: further formats from finished records, without running any model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.progress import track

from jobs.ledger import Ledger
from jobs.transcribe import ALL_DONE, SOME_FAILED, check_formats, open_ledger
from pipeline.errors import UsageError, printable


def export(out: str, formats: Sequence[str], recordings: Iterable[str] = ()) -> int:
    """Writes OUT/exports/<id>.* anew for these recordings, or for all that are finished, and
    gives the exit code. UsageError before anything is written where one of them is not."""
    check_formats(formats)
    ledger = open_ledger(out)
    wanted = _finished(ledger, recordings)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    failed = 0
    for recording in track(
        wanted, "exporting", console=console, transient=True, disable=not console.is_terminal
    ):
        try:
            transcript = ledger.transcript(recording)
        except (ValueError, KeyError, TypeError, AttributeError):
            path = printable(ledger.folder.path(f"transcripts/{recording}.json"))
            console.print(f"FAILED {path}: not one of Hansard's records", markup=False)
            failed += 1
            continue
        if transcript is not None:  # it may have been deleted meanwhile
            for note in ledger.export(transcript, formats):
                console.print(f"note   {recording}: {note}", markup=False)
    console.print(f"{len(wanted) - failed} exported to {ledger.folder}/exports", markup=False)
    return SOME_FAILED if failed else ALL_DONE


def _finished(ledger: Ledger, recordings: Iterable[str]) -> list[str]:
    """The ids asked for, each once, or all there are."""
    asked = list(dict.fromkeys(recordings))
    for recording in asked:
        if not ledger.folder.exists(f"transcripts/{recording}.json"):
            raise UsageError(
                f"--id {printable(recording)}: no such finished recording in {ledger.folder}; "
                "ids are the names in its folder transcripts, less .json"
            )
    finished = asked or [
        name.removesuffix(".json")
        for name in ledger.folder.names("transcripts")
        if name.endswith(".json")
    ]
    if not finished:
        raise UsageError(
            f"no transcripts in {ledger.folder}: "
            f"make them with: hansard transcribe SOURCE --out {ledger.folder}"
        )
    return finished
