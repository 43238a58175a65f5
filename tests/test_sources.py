"""What people name on the command line, and the recordings that it stands for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jobs.sources import find_jobs, look_up
from pipeline.errors import UsageError
from pipeline.job import job_at
from tests.s3_server import FULL_BUCKET, FULL_KEYS, Bucket

ODD_KEYS = [
    "in/2024#1/a b.wav",
    "in/what?.wav",
    "in/[x]*.wav",
    "in/Протокол 会议.mp3",
    "in/100%25.ogg",
]


def names(*sources: str | Path) -> list[str]:
    return [job.uri for job in find_jobs(map(str, sources)).jobs]


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.wav", "sub/b.MP3", "sub/notes.txt", "c [1].flac"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"audio")
    return tmp_path / "in"


def test_a_folder_gives_its_audio_and_nothing_that_is_still_being_written(folder: Path) -> None:
    for name in (".a.wav.Xq2", "d.wav.part", "e.mp3.tmp", "~f.wav", ".g.wav", "h.wav~"):
        (folder / name).touch()
    assert names(folder) == [str(folder / name) for name in ("a.wav", "c [1].flac", "sub/b.MP3")]
    assert names(f"{folder}/*.*") == [str(folder / name) for name in ("a.wav", "c [1].flac")]
    assert names(folder / "c [1].flac", folder) == names(folder / "c [1].flac", folder, folder)


def test_what_holds_no_recording_is_refused(folder: Path) -> None:
    (folder / "empty").mkdir()
    for source in (folder / "empty", f"{folder}/*.opus", "what://x/y.wav", "s3://key:pw@b/x.wav"):
        with pytest.raises(UsageError) as refusal:
            find_jobs([str(source)])
        assert "pw" not in str(refusal.value)


@pytest.mark.parametrize("key", ODD_KEYS)
def test_a_key_is_found_under_its_own_name(s3: Bucket, key: str) -> None:
    """By prefix, by glob and outright; a decoy matches it as a pattern."""
    for each in (key, "in/whaT.wav", "in/x1.wav", "other/x.wav", "in/x.txt"):
        s3.put(each, b"audio")
    (outright,) = find_jobs([f"{s3.uri}/{key}"]).jobs
    assert outright.uri == outright.location == f"{s3.uri}/{key}"
    assert outright.version.startswith("etag:") and outright.modified > 0
    prefix = list(find_jobs([f"{s3.uri}/in/"]).jobs)
    assert {job.uri for job in prefix} == {
        f"{s3.uri}/{each}" for each in (key, "in/whaT.wav", "in/x1.wav")
    }
    assert outright in prefix
    assert prefix == list(find_jobs([f"{s3.uri}/in"]).jobs)
    suffix = key.rsplit(".", 1)[1]
    assert outright in find_jobs([f"{s3.uri}/**/*.{suffix}"]).jobs


def test_ten_thousand_objects_are_ten_thousand_recordings(s3: Bucket) -> None:
    jobs = find_jobs([f"s3://{FULL_BUCKET}/archive/"]).jobs
    assert [job.uri for job in jobs] == [f"s3://{FULL_BUCKET}/{key}" for key in FULL_KEYS]
    assert len({job.id for job in jobs}) == 10_000


def test_manifests_say_what_is_known_of_each_recording(folder: Path) -> None:
    jsonl = write(
        folder.parent / "list.jsonl",
        '{"audio": "in/a.wav", "id": "left", "channel": 0, "language": "en"}',
        "",
        '{"uri": "in/a.wav", "id": "right", "channel": 1, "speakers": null}',
        '{"audio": "s3://bucket/a b.wav", "speakers": 3}',
        '{"audio": "/abs/c.wav", "min_speakers": 2, "max_speakers": 4}',
    )
    table = write(
        folder.parent / "list.csv",
        "audio,id,channel,language,speakers,min_speakers,max_speakers",
        "in/a.wav,left,0,en,,,",
        "in/a.wav,right,1,,,,",
        '"s3://bucket/a b.wav",,,,3,,',
        "/abs/c.wav,,,,,2,4",
    )
    jobs = list(find_jobs([str(jsonl)]).jobs)
    assert jobs == list(find_jobs([str(table)]).jobs)
    left, right, remote, bounds = jobs
    assert left.uri == right.uri == str(folder / "a.wav")
    assert left.id.startswith("left-") and right.id.startswith("right-")
    assert left.settings == ("audio.channel=0",) and left.language == "en"
    assert remote.location == "s3://bucket/a b.wav"
    assert remote.id == job_at("s3://bucket/a b.wav").id
    assert remote.settings == ("clustering.speakers=3",)
    assert bounds.settings == (
        "clustering.speakers=null",
        "clustering.min_speakers=2",
        "clustering.max_speakers=4",
    )


def test_wav_scp_is_read_and_its_commands_are_not_run(folder: Path) -> None:
    scp = write(folder.parent / "wav.scp", "call-1 in/a.wav", "call-2   in/c [1].flac")
    first, second = find_jobs([str(scp)]).jobs
    assert first.id.startswith("call-1-") and first.uri == str(folder / "a.wav")
    assert second.uri == str(folder / "c [1].flac")
    write(scp, "call-1 in/a.wav", f"call-2 touch {folder}/ran |")
    with pytest.raises(UsageError, match=r"wav\.scp:2: a command"):
        find_jobs([str(scp)])
    assert not (folder / "ran").exists()


@pytest.mark.parametrize(
    ("name", "line", "says"),
    [
        ("x.jsonl", '{"audio": "a.wav", "speeker": 2}', r"x\.jsonl:2: speeker: .*'speakers'"),
        ("x.jsonl", '{"audio": "a.wav", "speakers": 0}', r"x\.jsonl:2: speakers: 0"),
        ("x.jsonl", '{"speakers": 2}', r"x\.jsonl:2: audio: Field required"),
        ("x.jsonl", '{"audio": ', r"x\.jsonl:2: not JSON"),
        ("x.jsonl", '["a.wav"]', r"x\.jsonl:2: not a JSON object"),
        ("x.csv", "a.wav,2,3", r"x\.csv:2: more cells"),
        ("x.csv", "a.wav,two", r"x\.csv:2: speakers: 'two'"),
        ("x.csv", '"a.wav"x,2', r"x\.csv:\d: not CSV"),
    ],
)
def test_a_manifest_that_is_wrong_is_told_by_file_line_and_key(
    tmp_path: Path, name: str, line: str, says: str
) -> None:
    first = "audio,speakers" if name.endswith("csv") else '{"audio": "b.wav"}'
    with pytest.raises(UsageError, match=says) as refusal:
        find_jobs([str(write(tmp_path / name, first, line))])
    assert "\n" not in str(refusal.value)


def test_two_rows_for_one_recording_need_names_of_their_own(tmp_path: Path) -> None:
    manifest = write(tmp_path / "x.jsonl", '{"audio": "a.wav"}', '{"audio": "a.wav", "channel": 1}')
    with pytest.raises(UsageError, match=r"a\.wav: named twice.*id"):
        find_jobs([str(manifest)])


def test_a_manifest_in_a_bucket_counts_from_where_it_lies(s3: Bucket) -> None:
    source = s3.put("lists #1/x.csv", b"\xef\xbb\xbfaudio\r\nin/a.wav\r\ns3://other/b.wav\r\n")
    assert names(source) == [f"{s3.uri}/lists #1/in/a.wav", "s3://other/b.wav"]


def test_what_is_named_outright_is_looked_up(folder: Path, s3: Bucket) -> None:
    remote = s3.put("a.wav", b"audio")
    found = find_jobs([str(folder / "a.wav"), remote, str(folder / "gone.wav")]).jobs
    local, listed, gone = look_up(found)
    assert local in find_jobs([str(folder)]).jobs
    assert listed.version.startswith("etag:")
    assert gone.version == ""
    os.utime(folder / "a.wav", (1, 1))
    assert next(look_up(found)).version != local.version


def test_secrets_in_an_address_are_no_part_of_its_name() -> None:
    first = job_at("https://me:pa@ss@host/a.wav?part=1&X-Amz-Signature=s1&X-Amz-Date=1")
    second = job_at("https://me:other@host/a.wav?part=1&X-Amz-Signature=s2&X-Amz-Date=2")
    assert first.uri == "https://host/a.wav?part=1&X-Amz-Signature=***&X-Amz-Date=***"
    assert (first.id, first.uri) == (second.id, second.uri)
    assert first.location != second.location
    assert job_at("s3://bucket/a?token=1.wav").id != job_at("s3://bucket/a?token=2.wav").id
