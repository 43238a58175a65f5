"""The result tables always hold what the ledger holds, whoever else writes or reads them."""

from __future__ import annotations

import json
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.tables import simulated
from jobs import load_tables
from jobs.corrections import Corrections
from jobs.ledger import Ledger
from jobs.tables.schema import TABLES
from jobs.tables.store import Manifest, Store
from jobs.tables.update import Summary, update_tables
from pipeline.errors import OutputError, UsageError
from pipeline.records import Transcript
from pipeline.storage import Folder
from pipeline.transcript import speakers_of
from tests.archives import held, keep, some, update, words_of
from tests.conftest import hansard
from tests.s3_server import Bucket


def test_an_update_takes_in_what_is_new_changed_corrected_and_gone(tmp_path: Path) -> None:
    first, second, third = some(3)
    keep(tmp_path, first, second, third)
    assert update(tmp_path).added == 3
    assert update(tmp_path) == replace(update(tmp_path), added=0, changed=0, removed=0)

    again = replace(second, turns=second.turns[:1], speakers=speakers_of(second.turns[:1]))
    new = some(1, first=3)[0]
    keep(tmp_path, again, new)
    ledger = Ledger(Folder(str(tmp_path)))
    ledger.folder.delete(f"transcripts/{third.id}.json")  # as where its new content fails
    anna = {"S1": "Anna Lee"}
    ledger.keep_corrections(Corrections(id=first.id, key=first.provenance.key, names=anna))
    done = update(tmp_path)
    assert (done.added, done.changed, done.removed, done.recordings) == (1, 2, 1, 3)
    assert held(tmp_path) == words_of(first, again, new)
    speakers = load_tables(str(tmp_path)).speakers
    assert "Anna Lee" in set(speakers.speaker[speakers.recording == first.id])
    assert len(load_tables(str(tmp_path)).turns.query("recording == @again.id")) == 1

    ledger.folder.delete(f"corrections/{first.id}.json")
    assert update(tmp_path).changed == 1
    assert "Anna Lee" not in set(load_tables(str(tmp_path)).speakers.speaker)


def test_records_that_did_not_change_are_not_read_again(tmp_path: Path) -> None:
    old, new = some(2)
    keep(tmp_path, old)
    update(tmp_path)
    record = tmp_path / "transcripts" / f"{old.id}.json"
    before = record.stat()
    record.write_bytes(b"#" * before.st_size)
    os.utime(record, ns=(before.st_atime_ns, before.st_mtime_ns))
    keep(tmp_path, new)
    done = update(tmp_path)
    assert done.added == 1 and not done.unreadable
    assert held(tmp_path) == words_of(old, new)


def test_daily_updates_leave_few_files_and_the_tables_of_one_build(tmp_path: Path) -> None:
    transcripts = some(20)
    for each in transcripts:
        keep(tmp_path / "daily", each)
        done = update(tmp_path / "daily")
    assert done.parts <= 6
    assert len(list((tmp_path / "daily" / "tables").rglob("*.parquet"))) == 4 * done.parts
    assert len(list((tmp_path / "daily" / "tables" / "manifests").iterdir())) == 1
    keep(tmp_path / "once", *transcripts)
    assert update(tmp_path / "once").parts == 1
    daily, once = load_tables(str(tmp_path / "daily")), load_tables(str(tmp_path / "once"))
    for name in TABLES:
        left, right = (
            tables.frames[name]
            .drop(columns="source", errors="ignore")
            .sort_values("recording", kind="stable")
            .reset_index(drop=True)
            .astype({"recording": str})
            for tables in (daily, once)
        )
        pd.testing.assert_frame_equal(left, right, check_categorical=False)
    folder = pd.read_parquet(tmp_path / "daily" / "tables" / "words")
    assert len(folder) == len(once.words)


def test_a_part_is_full_at_some_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.tables.update.PART_ROWS", 300)
    monkeypatch.setattr("jobs.tables.update.READ_AT_ONCE", 2)
    transcripts = some(20)
    keep(tmp_path, *transcripts)
    assert update(tmp_path).parts >= 3
    assert held(tmp_path) == words_of(*transcripts)


@pytest.mark.parametrize("words", [40, 2000])  # a part that is merged, and one that is left
def test_an_update_that_another_overtakes_does_its_work_all_the_same(
    tmp_path: Path, words: int
) -> None:
    first, second, third = simulated("/first.wav", words, 0), *some(2)
    keep(tmp_path, first)
    update(tmp_path)
    keep(tmp_path, second)
    overtaking: list[Summary] = []

    def overtake(done: int, total: int) -> None:
        if not overtaking:
            keep(tmp_path, third)
            overtaking.append(update(tmp_path))

    overtaken = update_tables(Ledger(Folder(str(tmp_path))), overtake)
    assert overtaking[0].added == 2 and overtaken.added == 0
    assert held(tmp_path) == words_of(first, second, third)
    assert len(list((tmp_path / "tables").rglob("*.parquet"))) == 4 * overtaken.parts


def test_an_update_overtaken_twice_notices_it_too(tmp_path: Path) -> None:
    transcripts = some(3)
    store = Store(Folder(str(tmp_path)))
    keep(tmp_path, transcripts[0])
    update(tmp_path)
    before = store.manifest()
    for each in transcripts[1:]:
        keep(tmp_path, each)
        update(tmp_path)  # deletes the manifest before its own, whose number is free again
    assert store.commit(before, before.parts) is None
    assert held(tmp_path) == words_of(*transcripts)


def test_a_reader_that_an_update_overtakes_reads_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = some(2)
    keep(tmp_path, first)
    update(tmp_path)
    keep(tmp_path, second)
    manifest = Store.manifest

    def slow(store: Store) -> Manifest:
        found = manifest(store)
        if found.version == 1:
            monkeypatch.setattr(Store, "manifest", manifest)
            update(tmp_path)
        return found

    monkeypatch.setattr(Store, "manifest", slow)
    assert held(tmp_path) == words_of(first, second)


def test_updates_at_once_and_readers_between_them_see_whole_recordings(tmp_path: Path) -> None:
    transcripts = some(24)
    expected = words_of(*transcripts)
    keep(tmp_path, transcripts[0])
    update(tmp_path)
    ended = threading.Event()

    def read() -> int:
        reads = 0
        while not ended.is_set() or not reads:
            found = held(tmp_path)
            assert found.items() <= expected.items()
            reads += 1
        return reads

    def work(part: list[Transcript]) -> None:
        for each in part:
            keep(tmp_path, each)
            update(tmp_path)

    with ThreadPoolExecutor(4) as pool:
        reader = pool.submit(read)
        try:
            list(pool.map(work, (transcripts[n::3] for n in range(3))))
        finally:
            ended.set()
        assert reader.result() > 0
    update(tmp_path)
    assert held(tmp_path) == expected


def test_what_a_killed_update_left_is_no_part_of_the_tables_and_goes_away(tmp_path: Path) -> None:
    first, second = some(2)
    keep(tmp_path, first)
    update(tmp_path)
    words = tmp_path / "tables" / "words"
    (part,) = words.iterdir()
    old, young = words / "20200101T000000-00000000.parquet", words / "20990101T000000-0.parquet"
    for orphan in (old, young):
        shutil.copy(part, orphan)
    assert held(tmp_path) == words_of(first)
    keep(tmp_path, second)
    update(tmp_path)
    assert not old.exists()
    assert young.exists(), "another run may be about to name it"


def test_an_update_cut_off_changes_nothing_and_the_next_one_goes_on(tmp_path: Path) -> None:
    first, second = some(2)
    keep(tmp_path, first)
    update(tmp_path)
    keep(tmp_path, second)

    def cut_off(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        update_tables(Ledger(Folder(str(tmp_path))), cut_off)
    assert held(tmp_path) == words_of(first)
    assert update(tmp_path).added == 1
    assert held(tmp_path) == words_of(first, second)


def test_files_that_somebody_deleted_are_missed(tmp_path: Path) -> None:
    keep(tmp_path, *some(1))
    update(tmp_path)
    for name in ("words", "recordings"):
        shutil.rmtree(tmp_path / "tables" / name)
        with pytest.raises(OutputError, match=r"missing: delete .*tables, then"):
            load_tables(str(tmp_path))
    with pytest.raises(OutputError, match=r"missing: delete .*tables, then"):
        update(tmp_path)


def test_tables_of_another_schema_are_built_anew(tmp_path: Path) -> None:
    (only,) = some(1)
    keep(tmp_path, only)
    update(tmp_path)
    (manifest,) = (tmp_path / "tables" / "manifests").iterdir()
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "schema": 0}))
    with pytest.raises(UsageError, match=r"another version.*hansard tables"):
        load_tables(str(tmp_path))
    assert update(tmp_path).added == 1
    assert held(tmp_path) == words_of(only)
    assert len(list((tmp_path / "tables").rglob("*.parquet"))) == 4


def test_the_command_names_what_it_cannot_read_and_goes_on(tmp_path: Path) -> None:
    good, bad = some(2)
    keep(tmp_path, good, bad)
    (tmp_path / "transcripts" / f"{bad.id}.json").write_text('{"schema": 1}')
    shutil.copy(
        tmp_path / "transcripts" / f"{good.id}.json", tmp_path / "transcripts" / "copy.json"
    )
    call = hansard("tables", tmp_path, "--json")
    assert call.code == 1 and "copy.json" in call.stderr
    assert f"{bad.id}.json" in call.stderr and "Traceback" not in call.stderr
    assert json.loads(call.stdout)["recordings"] == 1
    assert held(tmp_path) == words_of(good)
    nothing = hansard("tables", tmp_path / "nothing")
    assert nothing.code == 2 and "hansard transcribe" in nothing.stderr


def test_of_two_updates_of_a_bucket_at_once_one_wins_each_step(s3: Bucket) -> None:
    out = f"{s3.uri}/results"
    transcripts = some(6)
    keep(out, *transcripts)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(update, [out] * 3))
    update(out)
    assert held(out) == words_of(*transcripts)
