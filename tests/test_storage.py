"""Results are written whole or not at all, to a folder or to any fsspec address."""

from __future__ import annotations

import os
import threading
import time
import uuid
from pathlib import Path

import numpy as np
import pytest

from pipeline.artifacts import ArtifactStore, Made
from pipeline.errors import OutputError
from pipeline.job import job_at, recording_id
from pipeline.records import Embeddings, Span, StageRun, Word
from pipeline.storage import Folder
from tests.s3_server import FULL_BUCKET, FULL_KEYS, Bucket

RUN = StageRun("asr", "model", "sha256:0", {"a": 1}, 0.5, ("a note",))


@pytest.fixture(params=["local", "memory", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    if request.param == "local":
        return Folder(str(tmp_path / "out"))
    if request.param == "memory":
        return Folder(f"memory://{uuid.uuid4().hex}")
    bucket: Bucket = request.getfixturevalue("s3")
    return Folder(f"{bucket.uri}/odd names/#1? Протокол")


def test_what_was_written_is_read_and_listed(folder: Folder) -> None:
    assert folder.read("a/b.json") is None
    folder.write("a/b.json", b"1")
    folder.write("a/b.json", b"2")
    folder.write("a/a.json", b"3")
    assert folder.read("a/b.json") == b"2"
    assert list(folder.names("a")) == ["a.json", "b.json"]
    folder.delete("a/b.json")
    folder.delete("a/b.json")
    assert list(folder.names("a")) == ["a.json"]
    assert list(folder.names("nothing")) == []


def test_of_many_that_create_a_name_at_once_one_does(folder: Folder) -> None:
    made: list[int] = []
    together = threading.Barrier(8)

    def create(who: int) -> None:
        together.wait()
        if folder.create("claims/a", b"%d" % who):
            made.append(who)

    threads = [threading.Thread(target=create, args=(who,)) for who in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert folder.read("claims/a") == b"%d" % made[0]
    assert folder.names("claims") == ["a"]


def test_a_listing_tells_sizes_times_and_what_changed(folder: Folder) -> None:
    folder.write("a/ü #1?.json", b"12345")
    folder.write("a/b.json", b"1")
    folder.write("a/below/c.json", b"1")
    folder.write("ab.json", b"1")
    first, second = folder.listing("a")
    assert [(first.name, first.size), (second.name, second.size)] == [
        ("b.json", 1),
        ("ü #1?.json", 5),
    ]
    assert abs(first.modified - time.time()) < 60
    folder.write("a/b.json", b"22")
    assert folder.versions("a")["b.json"] != first.version
    assert folder.versions("a")["ü #1?.json"] == second.version
    names = [f"a/{entry.name}" for entry in (first, second)]
    assert dict(folder.read_all([*names, "a/gone.json"])) == {
        names[0]: b"22",
        names[1]: b"12345",
    }


def test_two_processes_see_what_the_other_wrote(s3: Bucket) -> None:
    """No listing is kept: what another process adds or deletes is seen at once."""
    folder = Folder(s3.uri)
    assert folder.names("claims") == []
    s3.put("claims/a", b"1")
    assert folder.names("claims") == ["a"] and folder.exists("claims/a")
    s3.client.delete_object(Bucket=s3.name, Key="claims/a")
    assert folder.names("claims") == [] and not folder.exists("claims/a")


def test_a_bucket_of_ten_thousand_objects_is_listed_whole(s3: Bucket) -> None:
    names = Folder(f"s3://{FULL_BUCKET}").names("archive")
    assert [f"archive/{name}" for name in names] == FULL_KEYS


def test_what_a_store_refuses_is_one_line(s3: Bucket) -> None:
    with pytest.raises(OutputError, match=r"no-such-bucket/a\.json: cannot be written: [^\n]+$"):
        Folder("s3://no-such-bucket").write("a.json", b"")


def test_artifacts_come_back_as_they_were(folder: Folder) -> None:
    store = ArtifactStore(folder, "recording")
    words = (Word("Привет,", 0, 10, 0.5), Word("you", 10, 20, 1.0))
    store.save("asr", "key", tuple[Word, ...], Made(words, RUN))
    assert store.load("asr", "key", tuple[Word, ...]) == Made(words, RUN)
    assert store.load("asr", "other", tuple[Word, ...]) is None
    spans = (Span(0, 10), Span(20, 30))
    store.save("vad", "key", tuple[Span, ...], Made(spans, RUN))
    assert store.load("vad", "key", tuple[Span, ...]) == Made(spans, RUN)


def test_embeddings_come_back_as_they_were(folder: Folder) -> None:
    store = ArtifactStore(folder, "recording")
    embeddings = Embeddings(
        np.array([[0, 1500], [750, 2250]], np.int32), np.eye(2, 5, dtype=np.float32)
    )
    store.save("embedding", "key", Embeddings, Made(embeddings, RUN))
    found = store.load("embedding", "key", Embeddings)
    assert found is not None and found.run == RUN
    np.testing.assert_array_equal(found.artifact.spans, embeddings.spans)
    np.testing.assert_array_equal(found.artifact.vectors, embeddings.vectors)
    assert found.artifact.vectors.dtype == np.float32


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    folder.write("a/b.json", b"old")
    (tmp_path / "a" / "c.json").mkdir()
    with pytest.raises(OutputError, match=r"c\.json"):
        folder.write("a/c.json", b"new")
    assert folder.read("a/b.json") == b"old"
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["b.json", "c.json"]


def test_ids_are_readable_and_differ_by_the_whole_path(tmp_path: Path) -> None:
    first, second = recording_id("/a/Board meeting.wav"), recording_id("/b/Board meeting.wav")
    assert first.startswith("board-meeting-") and first != second
    assert recording_id("/a/Совет.wav").startswith("recording-")
    assert recording_id("s3://bucket/2024#1/x.mp3") == recording_id("s3://bucket/2024#1/x.mp3")


def test_one_file_named_in_two_ways_is_one_recording(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    assert job_at(str(tmp_path / "x.wav")) == job_at(str(tmp_path / "a" / ".." / "x.wav"))


def test_a_name_that_is_not_utf8_can_be_kept(tmp_path: Path) -> None:
    job = job_at(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.wav"))
    assert job.uri.endswith("\\xff.wav")
    job.uri.encode()
