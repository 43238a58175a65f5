"""The server of `hansard view`: ranges, and what it refuses."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import fsspec
import pytest

from jobs.corrections import Corrections, Move, encode_corrections
from jobs.ledger import Ledger
from jobs.view.server import Viewer
from pipeline.storage import Folder
from pipeline.transcript import encode, to_json
from tests.conftest import hansard
from tests.meetings import keep, spoken_meeting
from tests.test_exports import transcript


@pytest.fixture
def viewer(meeting: Path, tmp_path: Path) -> Iterator[Viewer]:
    out = tmp_path / "out"
    keep(out, spoken_meeting(meeting, end=75_000))
    with Viewer(Ledger(Folder(str(out)))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def recording(viewer: Viewer) -> str:
    (only,) = viewer.ledger.transcripts()
    return only.id


def ask(
    viewer: Viewer,
    place: str,
    method: str = "GET",
    body: bytes | None = None,
    token: str | None = None,
    **headers: str,
) -> tuple[int, bytes, http.client.HTTPMessage]:
    """The answer at `place` below the token, with no client that would tidy up the path."""
    connection = http.client.HTTPConnection("127.0.0.1", viewer.server_port, timeout=30)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    path = f"/{viewer.token if token is None else token}/{place}"
    connection.request(method, path, body, named)
    answer = connection.getresponse()
    return answer.status, answer.read(), answer.headers


def test_it_listens_on_loopback_only(viewer: Viewer) -> None:
    assert viewer.server_address[0] == "127.0.0.1"
    assert urlsplit(viewer.address).hostname == "127.0.0.1"


def test_audio_comes_in_ranges(viewer: Viewer, recording: str, meeting: Path) -> None:
    data = meeting.read_bytes()
    place = f"audio/{recording}"
    status, body, headers = ask(viewer, place)
    assert (status, body) == (200, data)
    assert headers["Accept-Ranges"] == "bytes"
    assert headers["Content-Type"] == "audio/x-wav"
    for asked, part in (
        ("bytes=0-99", data[:100]),
        ("bytes=1000-", data[1000:]),
        ("bytes=-77", data[-77:]),
        (f"bytes=100-{len(data) + 5}", data[100:]),
    ):
        status, body, headers = ask(viewer, place, Range=asked)
        assert (status, body) == (206, part)
        first = data.index(part)
        assert headers["Content-Range"] == f"bytes {first}-{first + len(part) - 1}/{len(data)}"
    status, body, headers = ask(viewer, place, Range=f"bytes={len(data)}-")
    assert (status, body) == (416, b"")
    assert headers["Content-Range"] == f"bytes */{len(data)}"
    status, body, headers = ask(viewer, place, method="HEAD")
    assert (status, body, headers["Content-Length"]) == (200, b"", str(len(data)))


def test_the_decoded_audio_is_a_wav_as_long_as_the_recording(
    viewer: Viewer, recording: str
) -> None:
    made = viewer.ledger.transcript(recording)
    assert made is not None
    status, body, headers = ask(viewer, f"audio/{recording}.wav")
    assert status == 200
    assert headers["Content-Type"] == "audio/wav"
    assert body[:4] + body[8:12] == b"RIFFWAVE"
    assert len(body) == 44 + made.duration * 16 * 2
    assert ask(viewer, f"audio/{recording}.wav", Range="bytes=1000000-1000999")[:2] == (
        206,
        body[1_000_000:1_001_000],
    )


def test_recordings_and_results_may_lie_in_a_bucket(meeting: Path) -> None:
    bucket = fsspec.filesystem("memory")
    bucket.pipe_file("/calls/meeting.wav", meeting.read_bytes())
    made = replace(spoken_meeting(meeting, end=75_000), uri="memory://calls/meeting.wav")
    bucket.pipe_file(f"/results/transcripts/{made.id}.json", encode(to_json(made)))
    with Viewer(Ledger(Folder("memory://results"))) as viewer:
        threading.Thread(target=viewer.serve_forever, daemon=True).start()
        assert b'"title":"meeting.wav"' in ask(viewer, "")[1]
        assert b'"error"' not in ask(viewer, "")[1]
        assert ask(viewer, f"{made.id}.html")[0] == 200
        status, body, _ = ask(viewer, f"audio/{made.id}", Range="bytes=5000-5999")
        assert (status, body) == (206, meeting.read_bytes()[5000:6000])
        assert ask(viewer, f"audio/{made.id}.wav", Range="bytes=0-3")[1] == b"RIFF"
        viewer.shutdown()


def test_a_name_gives_no_type_that_a_browser_would_run(viewer: Viewer, tmp_path: Path) -> None:
    page = tmp_path / "evil.html"
    page.write_text("<script>alert(1)</script>")
    made = replace(transcript(("S1", "hello.", 0)), uri=str(page))
    keep(Path(viewer.ledger.folder.uri), made)
    status, _, headers = ask(viewer, f"audio/{made.id}")
    assert (status, headers["Content-Type"]) == (200, "application/octet-stream")
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "place",
    [
        "../transcripts",
        "audio/../../meeting.wav",
        "audio/..%2f..%2fmeeting.wav",
        "audio//etc/passwd",
        "%2e%2e/%2e%2e/etc/passwd",
        "..\\..\\etc\\passwd.html",
        "transcripts/x.json",
        "nobody-0123.html",
        "static/base.css",
        "corrections/",
    ],
)
def test_only_pages_and_recordings_of_the_folder_are_served(viewer: Viewer, place: str) -> None:
    assert ask(viewer, place)[0] == 404


def test_nobody_reads_without_the_token(viewer: Viewer, recording: str) -> None:
    for token in ("", "x", viewer.token[:-1], viewer.token + "x"):
        assert ask(viewer, f"{recording}.html", token=token)[0] == 404
    assert ask(viewer, f"{recording}.html")[0] == 200


def test_other_hosts_and_origins_are_refused(viewer: Viewer, recording: str) -> None:
    page = f"{recording}.html"
    port = viewer.server_port
    assert ask(viewer, page, Host=f"evil.example:{port}")[0] == 403
    assert ask(viewer, page, Host="127.0.0.1")[0] == 403
    assert ask(viewer, page, Origin="https://evil.example")[0] == 403
    assert ask(viewer, page, Host=f"localhost:{port}")[0] == 200


def test_corrections_are_taken_from_the_page_alone(viewer: Viewer, recording: str) -> None:
    made = viewer.ledger.transcript(recording)
    assert made is not None
    place = f"corrections/{recording}"
    good = Corrections(id=recording, key=made.provenance.key, names={"S1": "Anna"})
    json_type = {"Content_Type": "application/json"}

    def post(corrections: Corrections, where: str = place, **headers: str) -> int:
        body = encode_corrections(corrections)
        return ask(viewer, where, "POST", body, **headers)[0]

    # What a form or a script elsewhere could send.
    assert post(good, Content_Type="text/plain") == 400
    assert post(good, Origin="https://evil.example", **json_type) == 403
    assert post(good, Host="evil.example", **json_type) == 403
    # What fits no recording here.
    assert post(good, "corrections/nobody-0123", **json_type) == 404
    assert post(good, "corrections/../transcripts/x", **json_type) == 400
    assert post(good.model_copy(update={"id": "other"}), **json_type) == 409
    assert post(good.model_copy(update={"key": "older"}), **json_type) == 409
    assert post(good.model_copy(update={"names": {"S1": ""}}), **json_type) == 400
    assert ask(viewer, place, "POST", b"{", **json_type)[0] == 400
    assert viewer.ledger.corrections(recording) is None
    assert post(good, Origin=f"http://127.0.0.1:{viewer.server_port}", **json_type) == 200
    assert viewer.ledger.corrections(recording) == good


def test_a_correction_file_that_somebody_broke_is_shown_and_kept(
    viewer: Viewer, recording: str
) -> None:
    viewer.ledger.folder.write(f"corrections/{recording}.json", b'{"names": ')
    made = viewer.ledger.transcript(recording)
    assert made is not None
    status, page, _ = ask(viewer, f"{recording}.html")
    assert (status, b"Corrections left out" in page) == (200, True)
    body = encode_corrections(Corrections(id=recording, key=made.provenance.key))
    place = f"corrections/{recording}"
    status, told, _ = ask(viewer, place, "POST", body, Content_Type="application/json")
    assert (status, f"{recording}.json" in told.decode()) == (400, True)
    assert viewer.ledger.folder.read(f"corrections/{recording}.json") == b'{"names": '


def test_what_fits_of_older_corrections_is_shown_and_the_rest_is_told(
    viewer: Viewer, recording: str
) -> None:
    made = viewer.ledger.transcript(recording)
    assert made is not None
    heard = [tuple(turn.span) for turn in made.turns if turn.speaker == "S2"]
    move = Move(start=0, speaker="S1", to="S2")
    viewer.ledger.keep_corrections(
        Corrections(
            id=recording, key="older", names={"S9": "Ben"}, heard={"S9": heard}, moves=(move,)
        )
    )
    page = ask(viewer, f"{recording}.html")[1].decode()
    assert '"names":{"S2":"Ben"}' in page
    assert "1 of 1 names, 0 of 1 moved turns; made on an earlier transcript" in page


def test_pages_are_written_for_all_or_for_one(meeting: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    made = spoken_meeting(meeting, end=75_000)
    keep(out, made)
    call = hansard("view", f"{out}/{made.id}", "--write")
    assert call.code == 0, call.stderr
    assert (out / "exports" / f"{made.id}.html").exists()
    assert not (out / "exports" / "index.html").exists()
    call = hansard("view", out, "--write")
    assert call.code == 0, call.stderr
    assert (out / "exports" / "index.html").exists()
    # One that cannot be read is named, here and on the pages.
    (out / "transcripts" / "cut-1.json").write_text('{"id": ')
    call = hansard("view", out, "--write")
    assert call.code == 1
    assert "cut-1.json" in call.stderr and "Traceback" not in call.stderr
    with Viewer(Ledger(Folder(str(out)))) as viewer:
        threading.Thread(target=viewer.serve_forever, daemon=True).start()
        assert b"cut-1.json: not one of" in ask(viewer, "")[1]
        status, told, _ = ask(viewer, "cut-1.html")
        assert (status, b"cut-1.json" in told) == (500, True)
        viewer.shutdown()


def test_a_place_without_recordings_is_told(viewer: Viewer, tmp_path: Path) -> None:
    for place in (tmp_path, Path(viewer.ledger.folder.uri) / "nobody-0123"):
        call = hansard("view", place, "--no-browser")
        assert call.code == 2
        assert str(place) in call.stderr
        assert call.stderr.count("\n") == 1


def test_a_taken_port_is_told(viewer: Viewer) -> None:
    out = viewer.ledger.folder.uri
    call = hansard("view", out, "--no-browser", "--port", str(viewer.server_port))
    assert call.code == 2
    assert f"--port {viewer.server_port}" in call.stderr
