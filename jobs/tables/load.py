"""`load_tables`: the result tables as pandas DataFrames; only what is asked for is read."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow.fs import FileSystem, FSSpecHandler, LocalFileSystem, PyFileSystem

from jobs.tables.build import arrow_tables
from jobs.tables.schema import ARROW, CATEGORIES, SCHEMA, TABLES
from jobs.tables.store import Manifest, Part, Store, part_path
from pipeline.errors import OutputError, UsageError, printable
from pipeline.records import Transcript
from pipeline.storage import Folder

Condition = tuple[str, str, Any]
# All of these hold; or, in lists of their own, all of one list; or pyarrow's own expression.
Filter = Sequence[Condition] | Sequence[Sequence[Condition]] | Any

ATTEMPTS = 10  # `hansard tables` may merge files while they are read: then from the start


@dataclass(frozen=True, repr=False)
class Tables:
    """DataFrames, one a table; docs/tables.md describes their columns. UsageError for a table
    that was not asked for."""

    frames: Mapping[str, pd.DataFrame]

    def __repr__(self) -> str:
        return f"Tables({', '.join(f'{name}: {len(f)} rows' for name, f in self.frames.items())})"

    @property
    def recordings(self) -> pd.DataFrame:
        return self._frame("recordings")

    @property
    def speakers(self) -> pd.DataFrame:
        return self._frame("speakers")

    @property
    def turns(self) -> pd.DataFrame:
        return self._frame("turns")

    @property
    def words(self) -> pd.DataFrame:
        return self._frame("words")

    def _frame(self, name: str) -> pd.DataFrame:
        if name not in self.frames:
            raise UsageError(f"{name} was not loaded: name it in load_tables(out, tables=[...])")
        return self.frames[name]


def read_tables(
    out: str,
    tables: Iterable[str],
    columns: Mapping[str, Sequence[str]],
    filters: Mapping[str, Filter],
) -> Tables:
    """See `jobs.load_tables`."""
    wanted = {name: list(ARROW[name].names) for name in _known(tables, TABLES, "table")}
    for name, chosen in columns.items():
        _known([name], wanted, "loaded table")
        wanted[name] = list(_known(chosen, ARROW[name].names, f"column of {name}"))
    expressions = {
        name: _expression(name, given)
        for name, given in filters.items()
        if _known([name], TABLES, "table")
    }
    store = Store(_folder(out))
    for _ in range(ATTEMPTS):
        manifest = store.manifest()
        try:
            return _tables(_read(store, manifest, wanted, expressions))
        except FileNotFoundError:
            store.check_overtaken(manifest)
    raise OutputError(f"{printable(out)}: the tables change faster than they are read: try again")


def frames_of(transcript: Transcript) -> Tables:
    """See `jobs.tables_of`."""
    made = arrow_tables(transcript)
    return _tables({name: _frame(made[name].to_batches(), made[name].schema) for name in made})


def _folder(out: str) -> Folder:
    try:
        return Folder(out)
    except (ValueError, ImportError) as error:
        raise UsageError(f"{printable(out)}: {error}") from None


def _known(names: Iterable[str], known: Iterable[str], what: str) -> list[str]:
    """The names. UsageError for one that is not known."""
    names, known = list(names), list(known)
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise UsageError(f"no {what} {name!r}{hint}; known: {', '.join(known)}")
    return names


def _expression(table: str, given: Filter) -> pc.Expression:
    if isinstance(given, pc.Expression):
        return given
    if not given:
        return pc.scalar(True)
    ways = [given] if isinstance(given[0][0], str) else given
    try:
        return pq.filters_to_expression(
            [[_condition(table, *condition) for condition in way] for way in ways]
        )
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"filter on {table}: {error}; it is a list of (column, operator, value)"
        ) from None


def _condition(table: str, column: str, operator: str, value: Any) -> Condition:
    """A date may be written as text."""
    _known([column], ARROW[table].names, f"column of {table}")
    if pa.types.is_timestamp(ARROW[table].field(column).type):
        many = isinstance(value, (list, tuple, set))
        value = [pd.Timestamp(each) for each in value] if many else pd.Timestamp(value)
    return column, operator, value


def _read(
    store: Store,
    manifest: Manifest,
    wanted: Mapping[str, list[str]],
    expressions: Mapping[str, pc.Expression],
) -> dict[str, pd.DataFrame]:
    if not manifest.version or manifest.schema != SCHEMA:
        found = "tables of another version" if manifest.version else "no tables"
        raise UsageError(
            f"{found} in {store.folder}: build them with: hansard tables {store.folder}"
        )
    parts: Sequence[Part] = manifest.parts
    own = dict(expressions)
    if "recordings" in own:
        parts, passed = _passing(store, parts, own["recordings"])
        for name in wanted.keys() - {"recordings"}:
            own[name] = passed & own[name] if name in own else passed
    return {
        name: _frame(
            _batches(store, parts, name, columns, own.get(name)),
            pa.schema([ARROW[name].field(column) for column in columns]),
        )
        for name, columns in wanted.items()
    }


def _passing(
    store: Store, parts: Sequence[Part], expression: pc.Expression
) -> tuple[Sequence[Part], pc.Expression]:
    """The parts with a recording that passes, and the filter that lets these recordings pass."""
    columns = ["recording", "__filename"]
    batches = list(_batches(store, parts, "recordings", columns, expression))
    if not batches:
        return (), pc.scalar(False)
    found = pa.Table.from_batches(batches)
    files = {path.rsplit("/", 1)[-1] for path in found["__filename"].unique().to_pylist()}
    holding = [part for part in parts if f"{part.name}.parquet" in files]
    return holding, pc.field("recording").isin(found["recording"].combine_chunks())


def _batches(
    store: Store,
    parts: Sequence[Part],
    table: str,
    columns: list[str],
    expression: pc.Expression | None,
) -> Iterator[pa.RecordBatch]:
    if parts:
        dataset = ds.dataset(
            [part_path(store.folder, table, part) for part in parts],
            schema=ARROW[table],
            format="parquet",
            filesystem=_file_system(store.folder),
        )
        try:
            yield from dataset.to_batches(columns=columns, filter=expression)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise UsageError(f"filter on {table}: {error}") from None


def _file_system(folder: Folder) -> FileSystem:
    return LocalFileSystem() if folder.local else PyFileSystem(_Uncached(folder.fs))


class _Uncached(FSSpecHandler):  # type: ignore[misc]
    """Fetches the byte ranges that Parquet asks for, where fsspec would read megabytes ahead."""

    def open_input_file(self, path: str) -> pa.PythonFile:
        return pa.PythonFile(self.fs.open(path, mode="rb", cache_type="none"), mode="r")


def _frame(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> pd.DataFrame:
    """Categories are made batch by batch: a label in each row would fill the memory."""
    coded = [
        pa.record_batch(
            [
                column.dictionary_encode() if name in CATEGORIES else column
                for name, column in zip(batch.schema.names, batch.columns, strict=True)
            ],
            names=batch.schema.names,
        )
        for batch in (pa.RecordBatch.from_pylist([], schema), *batches)
    ]
    return pa.Table.from_batches(coded).unify_dictionaries().to_pandas()


def _tables(frames: dict[str, pd.DataFrame]) -> Tables:
    """With the same categories of `recording` in all, so that they are joined without copies."""
    having = [frame for frame in frames.values() if "recording" in frame]
    ids = sorted({name for frame in having for name in frame["recording"].cat.categories})
    for frame in having:
        frame["recording"] = frame["recording"].cat.set_categories(ids)
    return Tables(frames)
