"""The tables' files under OUT, and which of them are current.

    tables/manifests/00000012.json                   the highest number is current
    tables/words/20260317T093000-1f2e3d4c.parquet    a part: one file in each of the four tables

All rows of a recording are in one part, sorted by recording, so that the statistics of Parquet's
row groups find it. Parts never change: an update writes new ones, then the next manifest, which is
created only where nobody else has created it (as Delta Lake and Iceberg do it), then deletes what
is no longer named. A reader who goes by the manifest sees every recording once and whole.
"""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import TypeAdapter, ValidationError

from jobs.tables.build import ArrowTables
from jobs.tables.schema import ARROW, SCHEMA, TABLES
from pipeline.errors import OutputError, printable
from pipeline.storage import Folder

MANIFESTS = "tables/manifests"
ROW_GROUP = 64 * 1024
# An unnamed part of this age was left by a run that died; a younger one may be about to be named.
ABANDONED = timedelta(days=1)
_STAMP = "%Y%m%dT%H%M%S"


@dataclass(frozen=True)
class Part:
    """`rows`: the number of rows in each table."""

    name: str
    rows: Mapping[str, int]

    @property
    def size(self) -> int:
        return sum(self.rows.values())


@dataclass(frozen=True)
class Manifest:
    """`version` 0: there are no tables yet. `schema` is that of all parts."""

    version: int
    schema: int = SCHEMA
    parts: tuple[Part, ...] = ()

    def rows(self, table: str) -> int:
        return sum(part.rows[table] for part in self.parts)


_MANIFEST = TypeAdapter(Manifest)


class Store:
    """Reads and writes parts and manifests in an output folder."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder

    def manifest(self) -> Manifest:
        """The current one. OutputError where it is broken."""
        while (version := self._newest()) > 0:
            name = _manifest_name(version)
            data = self.folder.read(name)
            if data is None:  # a newer one has just taken its place
                continue
            try:
                return _MANIFEST.validate_json(data)
            except ValidationError:
                where = printable(self.folder.path(name))
                raise OutputError(f"{where}: broken{self._way_out}") from None
        return Manifest(0)

    def check_overtaken(self, manifest: Manifest) -> None:
        """After a part of `manifest` was not found. OutputError where no later run has merged
        it: somebody else deleted it."""
        if self._newest() <= manifest.version:
            raise OutputError(f"{self.folder}/tables: files are missing{self._way_out}")

    @property
    def _way_out(self) -> str:
        return f": delete {self.folder}/tables, then build them anew: hansard tables {self.folder}"

    def commit(self, before: Manifest, parts: Iterable[Part]) -> Manifest | None:
        """The manifest that follows `before`; None where another run was faster. Deletes what
        it no longer names."""
        now = Manifest(before.version + 1, SCHEMA, tuple(parts))
        name, data = _manifest_name(now.version), _MANIFEST.dump_json(now)
        # A bucket's client may create a file, miss the answer, try again and find its own.
        if not self.folder.create(name, data) and self.folder.read(name) != data:
            return None
        # Its number was free although two other runs went on from `before`: the second of them
        # deleted the first one's manifest, after it had created its own, which is higher.
        if self._newest() != now.version:
            return None
        current = {part.name for part in now.parts}
        self.discard(part for part in before.parts if part.name not in current)
        self._sweep(now, current)
        return now

    def write(self, tables: ArrowTables) -> Part:
        """A new part, not yet named by any manifest."""
        name = f"{datetime.now(UTC):{_STAMP}}-{uuid.uuid4().hex[:8]}"
        part = Part(name, {table: tables[table].num_rows for table in TABLES})
        try:
            for table in TABLES:
                stream = io.BytesIO()
                pq.write_table(tables[table], stream, compression="zstd", row_group_size=ROW_GROUP)
                self.folder.write(_part_name(table, name), stream.getvalue())
        except BaseException:
            self.discard([part])
            raise
        return part

    def read(self, part: Part) -> ArrowTables:
        """All rows of a part. FileNotFoundError where another run has deleted it."""
        return {table: self._read(part, table) for table in TABLES}

    def sources(self, part: Part) -> dict[str, str]:
        """Which recordings the part holds, and from which version of their files."""
        table = self._read(part, "recordings", ["recording", "source"])
        return dict(zip(*(column.to_pylist() for column in table.columns), strict=True))

    def discard(self, parts: Iterable[Part]) -> None:
        """Deletes the parts' files."""
        for part in parts:
            for table in TABLES:
                self.folder.delete(_part_name(table, part.name))

    def _read(self, part: Part, table: str, columns: list[str] | None = None) -> pa.Table:
        name = _part_name(table, part.name)
        data = self.folder.read(name)
        if data is None:
            raise FileNotFoundError(self.folder.path(name))
        try:
            # In this thread: one of Arrow's own that still holds `data` when Python ends aborts.
            return pq.ParquetFile(pa.BufferReader(data)).read(columns=columns, use_threads=False)
        except pa.ArrowException as error:
            where = printable(self.folder.path(name))
            raise OutputError(f"{where}: {error}{self._way_out}") from None

    def _newest(self) -> int:
        stems = (name.removesuffix(".json") for name in self.folder.names(MANIFESTS))
        return max((int(stem) for stem in stems if stem.isdecimal()), default=0)

    def _sweep(self, now: Manifest, current: set[str]) -> None:
        """Deletes older manifests, and what runs that died have left behind."""
        for name in self.folder.names(MANIFESTS):
            if name < _manifest_name(now.version).rsplit("/", 1)[-1]:
                self.folder.delete(f"{MANIFESTS}/{name}")
        for table in TABLES:
            for name in self.folder.names(f"tables/{table}"):
                if name.removesuffix(".parquet") not in current and _abandoned(name):
                    self.folder.delete(f"tables/{table}/{name}")


def merged(tables: Sequence[ArrowTables]) -> ArrowTables:
    """The rows of all, sorted by recording, otherwise in the order they have."""
    return {
        table: _sorted([ARROW[table].empty_table(), *(t[table] for t in tables)])
        for table in TABLES
    }


def _sorted(tables: list[pa.Table]) -> pa.Table:
    rows = pa.concat_tables(tables)
    return rows.take(pc.sort_indices(rows, [("recording", "ascending")]))  # a stable sort


def without(tables: ArrowTables, recordings: Iterable[str]) -> ArrowTables:
    """The rows of all other recordings."""
    gone = pa.array(list(recordings), pa.string())
    return {
        name: table.filter(pc.invert(pc.is_in(table["recording"], gone)))
        for name, table in tables.items()
    }


def _part_name(table: str, part: str) -> str:
    return f"tables/{table}/{part}.parquet"


def part_path(folder: Folder, table: str, part: Part) -> str:
    """Where the part's file lies, for the folder's file system."""
    return folder.path(_part_name(table, part.name))


def _manifest_name(version: int) -> str:
    return f"{MANIFESTS}/{version:08d}.json"


def _abandoned(name: str) -> bool:
    with suppress(ValueError):
        made = datetime.strptime(name.partition("-")[0], _STAMP).replace(tzinfo=UTC)
        return datetime.now(UTC) - made > ABANDONED
    return False
