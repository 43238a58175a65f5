"""`load_tables` gives what was asked for, from a folder or a bucket, and reads no more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import pytest
from s3fs.core import S3File

from benchmarks.tables import simulated
from jobs import load_tables
from jobs.tables.schema import TABLES
from pipeline.errors import UsageError
from pipeline.storage import Folder
from tests.archives import held, keep, some, update, words_of
from tests.s3_server import Bucket


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = str(tmp_path_factory.mktemp("archive"))
    keep(out, *some(6, 200), simulated("/silent.wav", 0, 0))
    update(out)
    return out


def by_hand(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.reset_index(drop=True).astype({"recording": str})


def test_filters_give_what_filtering_by_hand_gives(archive: str) -> None:
    everything = load_tables(archive)
    loaded = load_tables(
        archive,
        ["turns", "words"],
        columns={"words": ["recording", "text"]},
        filters={
            "recordings": [("recorded_at", ">=", "2024-03-01"), ("words", ">", 100)],
            "words": [("confidence", "<", 0.7), ("speaker", "in", ["S1", "S2"])],
        },
    )
    chosen = everything.recordings.query("recorded_at >= '2024-03-01' and words > 100").recording
    assert 0 < len(chosen) < len(everything.recordings)
    words = everything.words[
        everything.words.recording.isin(chosen)
        & (everything.words.confidence < 0.7)
        & everything.words.speaker.isin(["S1", "S2"])
    ]
    assert len(words) > 0
    pd.testing.assert_frame_equal(
        by_hand(loaded.words), by_hand(words[["recording", "text"]]), check_categorical=False
    )
    assert len(loaded.turns) == everything.turns.recording.isin(chosen).sum()
    with pytest.raises(UsageError, match="speakers was not loaded"):
        _ = loaded.speakers


def test_types_fit_pandas(archive: str) -> None:
    tables = load_tables(archive)
    assert tables.words.start_ms.dtype == "int64" and tables.words.confidence.dtype == "float64"
    assert tables.words.speaker.dtype == "category"
    joined = tables.words.merge(tables.recordings[["recording", "recorded_at"]], on="recording")
    assert joined.recording.dtype == "category" and len(joined) == len(tables.words)
    assert set(tables.recordings.recorded_at.dropna().dt.year) == {2024}
    assert tables.recordings.recorded_at.isna().sum() == 1


def test_a_filter_that_nothing_passes_gives_empty_tables(archive: str) -> None:
    tables = load_tables(archive, filters={"recordings": [("recording", "==", "none")]})
    assert [len(frame) for frame in tables.frames.values()] == [0, 0, 0, 0]
    assert tables.words.columns.tolist() == [column.name for column in TABLES["words"]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda out: load_tables(out, ["word"]), "did you mean 'words'"),
        (lambda out: load_tables(out, columns={"words": ["txt"]}), "did you mean 'text'"),
        (lambda out: load_tables(out, ["turns"], columns={"words": ["text"]}), "no loaded table"),
        (lambda out: load_tables(out, filters={"turns": [("mod", "==", "sad")]}), "mean 'mood'"),
        (lambda out: load_tables(out, filters={"turns": [("mood", "~", "sad")]}), "operator"),
        (lambda out: load_tables(out, filters={"turns": [("words", "<", "x")]}), "filter on turns"),
        (
            lambda out: load_tables(out, filters={"recordings": [("recorded_at", "<", "soon")]}),
            "filter on recordings.*soon",
        ),
        (lambda out: load_tables(f"{out}/nothing"), "hansard tables"),
        (lambda out: load_tables("nowhere://x"), "nowhere"),
    ],
)
def test_a_wrong_call_is_told_what_is_wrong(
    archive: str, call: Callable[[str], object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        call(archive)


def test_a_bucket_is_as_good_as_a_folder(s3: Bucket) -> None:
    out = f"{s3.uri}/results"
    first, second, third = some(3)
    keep(out, first, second)
    assert update(out).added == 2
    assert update(out).added == 0
    keep(out, third, replace(first, turns=first.turns[:1], speakers=first.speakers[:1]))
    done = update(out)
    assert (done.added, done.changed) == (1, 1)
    assert held(out) == words_of(replace(first, turns=first.turns[:1]), second, third)
    assert all(len(Folder(out).names(f"tables/{name}")) == done.parts for name in TABLES)
    one = load_tables(
        out,
        columns={"words": ["text"]},
        filters={"recordings": [("recording", "==", second.id)], "words": [("turn", "==", 0)]},
    )
    assert one.words.text.tolist() == [word.text for word in second.turns[0].words]
    assert len(one.recordings) == 1


def test_a_bucket_is_asked_only_for_what_is_wanted(
    s3: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = f"{s3.uri}/results"
    keep(out, *some(3, 3000))
    update(out)
    size = sum(entry.size for entry in Folder(out).listing("tables/words"))
    fetch, fetched = S3File._fetch_range, []

    def counted(file: S3File, start: int, end: int) -> bytes:
        fetched.append(end - start)
        data: bytes = fetch(file, start, end)
        return data

    monkeypatch.setattr(S3File, "_fetch_range", counted)
    load_tables(out, ["words"])
    everything = sum(fetched)
    assert everything >= 0.9 * size
    fetched.clear()
    load_tables(out, ["words"], columns={"words": ["speaker"]})
    assert 0 < sum(fetched) < everything / 2  # 64 KiB of it is the footer
