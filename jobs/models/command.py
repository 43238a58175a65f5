"""`hansard models list`, `pull` and `verify`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from jobs.models.needs import Need, needs_of
from jobs.models.record import Record, differences, read_lock, read_record, write_lock
from pipeline.errors import ModelError, printable
from pipeline.profile import profile_names
from stages.models import locate

ALL_GOOD, SOME_BAD = 0, 1


def list_models(profiles: Sequence[str], as_json: bool) -> int:
    """What each profile needs, its size, and whether it is here."""
    rows = [_row(need) for name in profiles or profile_names() for need in needs_of(name)]
    if as_json:
        sys.stdout.write(json.dumps(rows) + "\n")
        return ALL_GOOD
    table = Table(box=None, pad_edge=False)
    for title in ("profile", "stage", "model", "size", "state"):
        table.add_column(title, justify="right" if title == "size" else "left", overflow="fold")
    for row in rows:
        size = "-" if row["bytes"] is None else human(row["bytes"])
        table.add_row(
            *(printable(row[key]) for key in ("profile", "stage", "model")), size, row["state"]
        )
    Console(highlight=False, markup=False).print(table)
    return ALL_GOOD


def _row(need: Need) -> dict[str, Any]:
    row: dict[str, Any] = {"profile": need.profile, "stage": need.stage, "model": need.model}
    try:
        size = need.size()
    except ModelError:
        return row | {"bytes": None, "state": "missing", "folder": need.model}
    state = {"bundled": "bundled", "folder": "folder"}.get(need.kind, "here")
    there = need.published
    folder = there.folder if there else locate(need.model, need.package).path
    if size is None:
        locked = read_lock(need.profile).get(need.model)
        size = sum(file.size for file in locked.files.values()) if locked else None
        state = "not pulled"
    return row | {"bytes": size, "state": state, "folder": str(folder)}


def pull_models(profiles: Sequence[str], settings: Sequence[str], lock: bool) -> int:
    """Fetches what is not here; one that cannot be fetched stops no other. With `lock`, writes
    the digests beside each profile, once all its models are here."""
    from jobs.models.pull import pull

    console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    code = ALL_GOOD
    for profile in profiles:
        needed = _published(profile, settings)
        records: dict[str, Record] = {}
        for need in needed:
            try:
                done = pull(need)
            except ModelError as error:
                console.print(f"hansard: {error}")
                code = SOME_BAD
                continue
            records[need.model] = done.record
            size = human(sum(file.size for file in done.record.files.values()))
            what = "pulled" if done.fetched else "already here"
            trust = "as expected" if done.known else "first seen: SHA-256 recorded, none to compare"
            where = printable(str(done.folder))
            console.print(f"{printable(need.model)}: {what}, {size}, {trust}, in {where}")
        if not needed:
            console.print(f"{printable(profile)}: needs no published model")
        elif lock and len(records) == len(needed):
            console.print(f"written: {write_lock(profile, records)}")
    return code


def verify_models(profiles: Sequence[str], settings: Sequence[str]) -> int:
    """Hashes every pulled file again; one line for each model, exit code 1 for a bad one."""
    code = ALL_GOOD
    for profile in profiles:
        locked = read_lock(profile)
        for need in _published(profile, settings):
            wrong = _wrong(need, locked.get(need.model))
            sys.stdout.write(f"{printable(need.model)}: {'; '.join(wrong) or 'as recorded'}\n")
            code = SOME_BAD if wrong else code
    return code


def _wrong(need: Need, locked: Record | None) -> list[str]:
    there = need.published
    if there is None or not there.folder.is_dir():
        return [f"not here: hansard models pull {printable(need.profile)}"]
    expected = locked or read_record(there.folder)
    if expected is None:
        return ["put here by hand, and no digests to compare: hansard models pull records them"]
    return [printable(line) for line in differences(there.folder, expected)]


def _published(profile: str, settings: Sequence[str]) -> list[Need]:
    """The published models that a profile needs, each once, whichever stages share it."""
    needed = [need for need in needs_of(profile, settings) if need.kind == "published"]
    return list({need.model: need for need in needed}.values())


def human(size: int) -> str:
    """Bytes for people.

    >>> human(1_130_000_000)
    '1.1 GB'
    """
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} B"
