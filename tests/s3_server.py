"""A real S3 server on loopback (moto's), and a proxy before it that answers as a bucket in
trouble does."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.ports import free_port

# The secret is searched for in everything that Hansard writes.
KEY, SECRET = "AKIAHANSARDTEST", "wJalrXUtnFEMI-hansard-test-secret"

# A bucket that stands from the start: putting so many objects over HTTP takes half a minute.
FULL_BUCKET, FULL_KEYS = "full", [f"archive/{i:05d}.wav" for i in range(10_000)]


@contextmanager
def s3_server() -> Iterator[str]:
    """The address of a moto server in a process of its own."""
    port = free_port()
    command = [sys.executable, "-m", "tests.s3_server", str(port)]
    root = Path(__file__).resolve().parents[1]
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet)
    endpoint = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{endpoint}/moto-api/", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None, "moto's server ended"
                time.sleep(0.1)
        yield endpoint
    finally:
        server.terminate()
        server.wait()


@dataclass(frozen=True)
class Bucket:
    """A fresh bucket; `client` is boto3's, so that nothing is checked by what it checks."""

    endpoint: str
    name: str
    client: Any

    @property
    def uri(self) -> str:
        return f"s3://{self.name}"

    def put(self, key: str, data: bytes) -> str:
        """The object's address."""
        self.client.put_object(Bucket=self.name, Key=key, Body=data)
        return f"{self.uri}/{key}"

    def get(self, key: str) -> bytes:
        data: bytes = self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return data

    def listed(self, prefix: str = "") -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.name, Prefix=prefix
        )
        return [item["Key"] for page in pages for item in page.get("Contents", [])]


def fresh_bucket(endpoint: str) -> Bucket:
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
    )
    name = f"hansard-{uuid.uuid4().hex[:12]}"
    client.create_bucket(Bucket=name)
    return Bucket(endpoint, name, client)


@dataclass
class Trouble:
    """What the proxy does: 503 for the next `busy` requests; 403 for paths with `denied` in
    them, to requests of the methods `denied_methods`. `seen` are the requests that came."""

    endpoint: str
    busy: int = 0
    denied: str = ""
    denied_methods: tuple[str, ...] = ("GET", "HEAD", "PUT", "DELETE", "POST")

    def __post_init__(self) -> None:
        self.seen: list[str] = []
        self._lock = threading.Lock()

    def answer(self, method: str, path: str) -> int:
        """The status to answer with; 0 to pass it on."""
        with self._lock:
            self.seen.append(f"{method} {path}")
            if self.busy > 0:
                self.busy -= 1
                return 503
        denied = self.denied and self.denied in unquote(path) and method in self.denied_methods
        return 403 if denied else 0


_CODES = {503: "ServiceUnavailable", 403: "AccessDenied"}


@contextmanager
def troubled(endpoint: str) -> Iterator[Trouble]:
    """A proxy to `endpoint`; `Trouble.endpoint` is its own address."""
    behind = urlsplit(endpoint)

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status = trouble.answer(self.command, self.path)
            if status:
                message = f"<Error><Code>{_CODES[status]}</Code><Message>no</Message></Error>"
                self._reply(status, [("Content-Type", "application/xml")], message.encode())
                return
            connection = HTTPConnection(str(behind.hostname), behind.port, timeout=60)
            connection.request(self.command, self.path, body, dict(self.headers))
            response = connection.getresponse()
            self._reply(response.status, response.getheaders(), response.read())
            connection.close()

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on  # noqa: N815

        def _reply(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
            self.send_response(status)
            lengths = [value for name, value in headers if name.lower() == "content-length"]
            for name, value in headers:
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            whole = lengths[0] if lengths and self.command == "HEAD" else str(len(body))
            self.send_header("Content-Length", whole)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    trouble = Trouble(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield trouble
    finally:
        server.shutdown()
        server.server_close()


def environment(endpoint: str) -> dict[str, str]:
    """What makes botocore, in this process or another, talk to `endpoint`."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
    }


def _serve(port: str) -> None:
    from moto.s3.models import s3_backends
    from moto.server import main

    def end_with_parent() -> None:
        sys.stdin.read()  # until the tests end, in whatever way
        os._exit(0)

    threading.Thread(target=end_with_parent, daemon=True).start()
    backend = s3_backends["123456789012"]["aws"]
    backend.create_bucket(FULL_BUCKET, "us-east-1")
    for key in FULL_KEYS:
        backend.put_object(FULL_BUCKET, key, b"audio")
    main(["-H", "127.0.0.1", "-p", port])


if __name__ == "__main__":
    _serve(sys.argv[1])
