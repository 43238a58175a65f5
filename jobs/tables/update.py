"""`hansard tables`: brings the tables up to date, reading only records that are new or changed.

Parts are merged as in a log-structured store: new rows take up every part that is at most twice
their size, so that the sizes of parts at least double from one to the next, and a thousand daily
updates leave some ten parts beside the full ones (O'Neil et al., The log-structured merge-tree,
1996). A row is thus written anew a dozen times in its life, and ever more seldom.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from jobs.ledger import Ledger
from jobs.tables.build import ArrowTables, arrow_tables
from jobs.tables.schema import SCHEMA, TABLES
from jobs.tables.store import Manifest, Part, Store, merged, without
from pipeline.errors import HansardError, UsageError, printable

PART_ROWS = 2_000_000
READERS = 16  # threads: a bucket answers slowly, but many at once
READ_AT_ONCE = 64

Hook = Callable[[int, int], None]  # recordings done, recordings to do


@dataclass(frozen=True)
class Summary:
    """What an update did, and what the tables hold after it. `unreadable`: a line for each
    record that had to be left out."""

    recordings: int
    added: int
    changed: int
    removed: int
    parts: int
    rows: dict[str, int]
    unreadable: tuple[str, ...]


def update_tables(ledger: Ledger, hook: Hook) -> Summary:
    """Ends when the tables hold what the ledger held at the start. UsageError for a folder
    in which nothing was transcribed."""
    update = _Update(ledger)
    while True:
        manifest = update.step(hook)
        if manifest is not None:
            return update.summary(manifest)


@dataclass(frozen=True)
class _Record:
    """A finished recording: what changes with its transcript or with its corrections."""

    version: str
    corrected: bool


def _finished(ledger: Ledger) -> dict[str, _Record]:
    folder = ledger.folder
    corrections = {entry.name: entry.version for entry in folder.listing("corrections")}
    finished = {
        entry.name.removesuffix(".json"): _Record(
            f"{entry.version} {corrections.get(entry.name, '')}".rstrip(),
            entry.name in corrections,
        )
        for entry in folder.listing("transcripts")
        if entry.name.endswith(".json")
    }
    if not finished and not folder.listing("failures"):
        raise UsageError(
            f"no transcripts in {folder}: make them with: hansard transcribe SOURCE --out {folder}"
        )
    return finished


@dataclass
class _Fresh:
    """Records read in one step: their rows, and what became of those without."""

    tables: list[ArrowTables] = field(default_factory=list)
    recordings: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    unreadable: list[str] = field(default_factory=list)
    rows: int = 0

    def add(self, recordings: Iterable[str], found: Iterable[ArrowTables | str | None]) -> None:
        tables = []
        for recording, made in zip(recordings, found, strict=True):
            if made is None or isinstance(made, str):
                self.missing.add(recording)
                self.unreadable += [] if made is None else [made]
            else:
                self.recordings.add(recording)
                tables.append(made)
        self.tables.append(merged(tables))
        self.rows += sum(table.num_rows for table in self.tables[-1].values())


class _Update:
    """Steps of about a part's rows, each committed: an update that is cut off has not been in
    vain, and one that is overtaken by another loses one step."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._store = Store(ledger.folder)
        self._asked: set[str] | None = None  # at first: others may add more without end
        self._handled: set[str] = set()  # once is enough, even where another run disagrees
        self._sources: dict[str, dict[str, str]] = {}  # by part; parts never change
        self._added = self._changed = self._removed = 0
        self._unreadable: list[str] = []

    def summary(self, manifest: Manifest) -> Summary:
        rows = {table: manifest.rows(table) for table in TABLES}
        return Summary(
            recordings=rows["recordings"],
            added=self._added,
            changed=self._changed,
            removed=self._removed,
            parts=len(manifest.parts),
            rows=rows,
            unreadable=tuple(self._unreadable),
        )

    def step(self, hook: Hook) -> Manifest | None:
        """The current manifest where nothing is left to do."""
        manifest = self._store.manifest()
        parts = manifest.parts if manifest.schema == SCHEMA else ()
        try:
            known = self._known(parts)
            # Listed after the manifest was read: what another run has just added is not gone.
            finished = _finished(self._ledger)
            if self._asked is None:
                self._asked = set(finished)
            stale = {
                recording: finished[recording]
                for recording in sorted(self._asked & finished.keys() - self._handled)
                if finished[recording].version != known.get(recording)
            }
            gone = known.keys() - finished.keys()
            current = manifest.version > 0 and manifest.schema == SCHEMA
            if current and not stale and not gone:
                return manifest
            fresh = self._read(stale, hook)
            dropped = {*gone, *fresh.recordings, *fresh.missing}
            committed = self._commit(manifest, parts, fresh, dropped)
        except FileNotFoundError:
            self._store.check_overtaken(manifest)
            return None
        if committed:
            self._handled |= dropped
            self._added += len(fresh.recordings - known.keys())
            self._changed += len(fresh.recordings & known.keys())
            self._removed += len((gone | fresh.missing) & known.keys())
            self._unreadable += fresh.unreadable
        return None

    def _known(self, parts: Sequence[Part]) -> dict[str, str]:
        """The recordings in the tables, with the version that each was made from."""
        self._sources = {
            part.name: self._sources.get(part.name) or self._store.sources(part) for part in parts
        }
        return {key: value for held in self._sources.values() for key, value in held.items()}

    def _read(self, records: Mapping[str, _Record], hook: Hook) -> _Fresh:
        fresh = _Fresh()
        recordings = list(records)
        before = len(self._handled)
        readers = 1 if self._ledger.folder.local else READERS
        with ThreadPoolExecutor(readers) as pool:
            for at in range(0, len(recordings), READ_AT_ONCE):
                batch = recordings[at : at + READ_AT_ONCE]
                fresh.add(batch, pool.map(self._one, batch, (records[each] for each in batch)))
                hook(before + at + len(batch), before + len(recordings))
                if fresh.rows >= PART_ROWS:
                    break
        return fresh

    def _one(self, recording: str, record: _Record) -> ArrowTables | str | None:
        """Its rows; None where it is gone by now; the reason where it cannot be read."""
        read = self._ledger.corrected if record.corrected else self._ledger.transcript
        try:
            transcript = read(recording)
            if transcript is None:
                return None
            if transcript.id != recording:
                raise ValueError("a copy of another recording's record")
            return arrow_tables(transcript, record.version)
        except HansardError as error:
            return str(error)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            path = self._ledger.folder.path(f"transcripts/{recording}.json")
            return f"{printable(path)}: not one of Hansard's records"

    def _commit(
        self, manifest: Manifest, parts: Sequence[Part], fresh: _Fresh, dropped: set[str]
    ) -> bool:
        """False, with nothing left behind, where another run was faster."""
        absorbed = _small_ones(parts, fresh.rows)
        touched = [part for part in parts if not dropped.isdisjoint(self._sources[part.name])]
        alone = [[part] for part in touched if part not in absorbed]
        kept = [part for part in parts if part not in touched and part not in absorbed]
        written: list[Part] = []
        try:
            for group, new in ((absorbed, fresh.tables), *((group, []) for group in alone)):
                old = [without(self._store.read(part), dropped) for part in group]
                tables = merged([*old, *new])
                if tables["recordings"].num_rows:
                    written.append(self._store.write(tables))
        except BaseException:
            self._store.discard(written)
            raise
        if self._store.commit(manifest, [*kept, *written]):
            return True
        self._store.discard(written)
        return False


def _small_ones(parts: Iterable[Part], rows: int) -> list[Part]:
    """The parts to write anew together with so many new rows."""
    absorbed: list[Part] = []
    for part in sorted(parts, key=lambda part: part.size):
        if part.size <= 2 * rows and part.size + rows <= PART_ROWS:
            absorbed.append(part)
            rows += part.size
    return absorbed
