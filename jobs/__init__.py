"""What people call: `from jobs import load_tables` gives results as pandas DataFrames."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobs.tables.load import Filter, Tables
    from pipeline.records import Transcript


def load_tables(
    out: str | Path,
    tables: Iterable[str] = ("recordings", "speakers", "turns", "words"),
    *,
    columns: Mapping[str, Sequence[str]] | None = None,
    filters: Mapping[str, Filter] | None = None,
) -> Tables:
    """What `hansard tables OUT` wrote, in a folder or a bucket, all of one moment: an object
    with the DataFrames `recordings`, `speakers`, `turns` and `words`. docs/tables.md describes
    their columns; times are integers in ms, labels that come back often are categories.

    `columns` and `filters` go by table, and what they leave out is not read. A filter is a list
    of (column, operator, value), all of which hold; operators are ==, !=, <, <=, >, >=, in and
    not in. A filter on `recordings` holds for the other tables too: they have the rows of the
    recordings that pass it. A pyarrow expression is a filter as well.

    >>> tables = load_tables(  # doctest: +SKIP
    ...     "s3://archive/results",
    ...     ["recordings", "words"],
    ...     columns={"words": ["recording", "text", "start_ms"]},
    ...     filters={
    ...         "recordings": [("recorded_at", ">=", "2024-01-01"), ("language", "==", "en")],
    ...         "words": [("confidence", "<", 0.5)],
    ...     },
    ... )
    >>> tables.words.text.value_counts()  # doctest: +SKIP

    UsageError where there are no tables, or none of that name, or no such column."""
    from jobs.tables.load import read_tables

    return read_tables(str(out), tables, columns or {}, filters or {})


def tables_of(transcript: Transcript) -> Tables:
    """The same tables of one transcript, as `transcribe` gives it."""
    from jobs.tables.load import frames_of

    return frames_of(transcript)
