"""Archives in buckets: a real S3 server on loopback, odd names, a bucket in trouble, secrets."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from s3fs import S3FileSystem

from tests.conftest import Here
from tests.s3_server import KEY, SECRET, Bucket, Trouble, environment, troubled

KEYS = ["in/2024 #1/a b?.wav", "in/Протокол.wav"]


@pytest.fixture(scope="module")
def speech(short: Path) -> bytes:
    return short.read_bytes()


@pytest.fixture
def trouble(s3: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trouble]:
    """From here on the bucket is behind a proxy that makes trouble."""
    with troubled(s3.endpoint) as trouble:
        for name, value in environment(trouble.endpoint).items():
            monkeypatch.setenv(name, value)
        S3FileSystem.clear_instance_cache()  # what is connected already
        yield trouble
    S3FileSystem.clear_instance_cache()


def everything(s3: Bucket) -> bytes:
    """All that lies in the bucket, names too."""
    return b"\n".join(key.encode() + b"\n" + s3.get(key) for key in s3.listed())


def test_from_a_bucket_into_a_bucket_whatever_the_names(
    s3: Bucket, speech: bytes, here: Here
) -> None:
    for key in KEYS:
        s3.put(key, speech)
    out = f"{s3.uri}/results #1/для всех"
    first = here("sync", f"{s3.uri}/in/", "--out", out, "--settle", "0")
    assert first.code == 0, first.stderr
    assert first.stderr.splitlines()[-1] == "sync: 2 new, 0 changed, 0 failed, 0 unchanged"
    under = [key.removeprefix("results #1/для всех/") for key in s3.listed("results")]
    assert sum(name.startswith("transcripts/") for name in under) == 2
    assert sum(name.endswith(".srt") for name in under) == 2
    assert not [name for name in under if name.startswith(("claims", "failures"))]
    again = here("sync", f"{s3.uri}/in/", "--out", out, "--settle", "0")
    assert again.stderr == "sync: 0 new, 0 changed, 0 failed, 2 unchanged\n"
    s3.put(KEYS[0], speech[: len(speech) // 2])
    changed = here("sync", f"{s3.uri}/in/**/*.wav", "--out", out, "--settle", "0")
    assert changed.stderr.splitlines()[-1] == "sync: 0 new, 1 changed, 0 failed, 1 unchanged"
    recent = here("sync", f"{s3.uri}/in/", s3.put("in/c.wav", speech), "--out", out)
    assert recent.stderr.splitlines()[-1].endswith("2 unchanged, 1 still uploading")
    status = here("status", out)
    assert status.code == 0 and "done" in status.stdout
    for secret in (KEY, SECRET):
        assert secret not in first.stderr + first.stdout + status.stdout
        assert secret.encode() not in everything(s3)


def test_a_bucket_that_is_busy_for_a_while_is_asked_again(
    s3: Bucket, trouble: Trouble, speech: bytes, here: Here
) -> None:
    s3.put("in/a.wav", speech)
    trouble.busy = 4
    call = here("sync", f"{s3.uri}/in/", "--out", f"{s3.uri}/out", "--settle", "0")
    assert call.code == 0, call.stderr
    assert call.stderr.splitlines()[-1] == "sync: 1 new, 0 changed, 0 failed, 0 unchanged"
    assert trouble.busy == 0


def test_a_recording_that_may_not_be_read_fails_alone(
    s3: Bucket, trouble: Trouble, speech: bytes, here: Here
) -> None:
    s3.put("in/a.wav", speech)
    s3.put("in/secret.wav", speech)
    trouble.denied = "secret.wav"
    sources = [f"{s3.uri}/in/", f"{s3.uri}/secret.wav/", "s3://no-such-bucket/x/"]
    call = here("transcribe", *sources, "--out", f"{s3.uri}/out")
    assert call.code == 1
    failed = [line for line in call.stderr.splitlines() if line.startswith("FAILED")]
    assert len(failed) == 3, call.stderr
    assert "secret.wav/: cannot be listed" in failed[0]
    assert "no-such-bucket/x/: cannot be listed" in failed[1]
    assert "in/secret.wav: no permission to read it" in failed[2]
    assert call.stderr.count("done   ") == 1
    assert "Traceback" not in call.stderr and SECRET not in call.stderr


def test_an_output_bucket_that_may_not_be_written_is_told_before_any_work(
    s3: Bucket, trouble: Trouble, speech: bytes, here: Here
) -> None:
    source = s3.put("in/a.wav", speech)
    trouble.denied, trouble.denied_methods = f"{s3.name}/out", ("PUT",)
    call = here("sync", source, "--out", f"{s3.uri}/out")
    assert call.code == 2
    assert call.stderr.startswith(f"hansard: {s3.name}/out/.probe")
    assert call.stderr.count("\n") == 1 and "cannot be written: no" in call.stderr


@pytest.fixture
def web(speech: bytes) -> Iterator[str]:
    """host:port of a web server that wants user and password, or a signature."""
    allowed = "Basic " + base64.b64encode(b"me:pw-secret").decode()

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            signed = "Signature=sig-secret" in self.path
            if not (signed or self.headers.get("Authorization") == allowed):
                self.send_error(403, f"refused {self.path}")
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(speech)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(speech)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_passwords_of_addresses_are_used_and_never_shown(
    web: str, tmp_path: Path, here: Here
) -> None:
    out = tmp_path / "out"
    sources = [
        f"http://me:pw-secret@{web}/a.wav",
        f"http://{web}/b.wav?X-Amz-Signature=sig-secret",
        f"http://me:pw-wrong-secret@{web}/c.wav",
        f"http://{web}/d.wav?X-Amz-Signature=wrong-secret",
    ]
    call = here("sync", *sources, "--out", out, "--json")
    assert call.code == 1
    assert call.stderr.splitlines()[-1] == "sync: 2 new, 0 changed, 2 failed, 0 unchanged"
    again = here("sync", *sources, "--out", out)
    assert again.stderr.splitlines()[-1] == "sync: 0 new, 0 changed, 2 failed, 2 unchanged"
    key = here("transcribe", "s3://AKIA:key-secret@bucket/a.wav", "--out", out)
    into = here("transcribe", sources[0], "--out", "s3://AKIA:key-secret@bucket/out")
    assert (key.code, into.code) == (2, 2)
    shown = "".join(c.stdout + c.stderr for c in (call, again, key, into))
    kept = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    assert "secret" not in shown
    assert b"secret" not in kept
    assert not [path for path in out.rglob("*") if "secret" in str(path.relative_to(out))]
