"""The page of the archive: every recording, finished or failed, in one table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from jobs.ledger import Ledger
from jobs.tables.dates import recorded_at
from jobs.view.assets import render
from jobs.view.page import title_of
from pipeline.errors import printable
from pipeline.storage import Entry
from pipeline.transcript import to_json

# A record begins with all that the table shows. `"turns": [` occurs nowhere before its turns:
# inside a string of JSON the quotes would be escaped.
_HEAD_BYTES = 1 << 14
_TURNS = b', "turns": ['


def index_page(ledger: Ledger) -> str:
    """The whole HTML page; a recording's page lies beside it as `<id>.html`."""
    return render(
        "index.html",
        style=("base.css", "index.css"),
        script=("common.js", "index.js"),
        title=f"Recordings in {ledger.folder}",
        folder=str(ledger.folder),
        data={"recordings": [*_finished(ledger), *_failed(ledger)]},
    )


def finished(ledger: Ledger) -> list[Entry]:
    """The files of all finished recordings, by name, `<id>.json`."""
    return [file for file in ledger.folder.listing("transcripts") if file.name.endswith(".json")]


def _finished(ledger: Ledger) -> Iterator[dict[str, Any]]:
    files = finished(ledger)
    corrected = set(ledger.folder.names("corrections"))
    paths = [ledger.folder.path(f"transcripts/{file.name}") for file in files]
    # Bytes, or why there are none, for each; from a bucket many at a time.
    heads = (
        ledger.folder.fs.cat_ranges(paths, 0, _HEAD_BYTES, on_error="return", max_gap=None)
        if paths
        else []
    )
    for file, head in zip(files, heads, strict=True):
        recording = file.name.removesuffix(".json")
        row = {"id": recording, "title": recording, "uri": "", "date": int(file.modified * 1000)}
        try:
            made = ledger.corrected(recording) if file.name in corrected else None
            record = to_json(made) if made else _head(ledger, recording, head)
            yield row | _facts(record) | {"corrected": made is not None}
        except (ValueError, KeyError, TypeError, AttributeError):
            yield row | {"error": f"{file.name}: not one of Hansard's records"}


def _head(ledger: Ledger, recording: str, head: Any) -> Mapping[str, Any]:
    """The record without its turns, from its first bytes: an archive of thousands of hours is
    listed in a moment. The whole record where it is written otherwise."""
    before, found, _ = head.partition(_TURNS)
    whole = before + b"}" if found else ledger.folder.read(f"transcripts/{recording}.json")
    record: Mapping[str, Any] = json.loads(whole or b"")
    return record


def _facts(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "duration": record["duration"],
        "speakers": [[speaker["label"], speaker["speaking"]] for speaker in record["speakers"]],
        "turns": sum(speaker["turns"] for speaker in record["speakers"]),
        **_source(record["uri"]),
    }


def _failed(ledger: Ledger) -> Iterator[dict[str, Any]]:
    files = {f"failures/{file.name}": file for file in ledger.folder.listing("failures")}
    for name, data in ledger.folder.read_all(files):
        file = files[name]
        recording = file.name.removesuffix(".json")
        row = {"id": recording, "title": recording, "uri": "", "date": int(file.modified * 1000)}
        try:
            record = json.loads(data)
            yield row | {"error": printable(record["error"]), **_source(record["uri"])}
        except (ValueError, KeyError, TypeError):
            yield row | {"error": f"{file.name}: not one of Hansard's records"}


def _source(uri: str) -> dict[str, Any]:
    """The day that the name tells, else the page shows when the record was written."""
    day = recorded_at(uri)
    source: dict[str, Any] = {"title": title_of(uri), "uri": printable(uri)}
    return source | ({"day": day.strftime("%Y-%m-%d")} if day else {})
