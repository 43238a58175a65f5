"""A server in a process of its own that speaks the Hugging Face hub's routes, and serves plain
files beside them, over https too; it can be told to cut connections, to stall, and to lie.

ROOT/repos/OWNER/NAME/... are repositories (one revision, COMMIT, and the branch main), ROOT/files
what lies under /files/.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

from tests.ports import free_port

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = (".pt", ".safetensors", ".bin")
"""Stored as the hub stores large files: listed by SHA-256, served from elsewhere."""


@dataclass
class State:
    """What the server was told, and what it was asked."""

    root: Path
    after: int = -1
    """Bytes after which a file's connection ends, or stalls; -1: never."""
    times: int = 0
    stall: bool = False
    lie: bool = False
    """Serves other bytes than it lists."""
    log: list[dict[str, str]] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    """One request."""

    state: ClassVar[State]
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        path = unquote(address.path)
        if path == "/_tell":
            told = {key: value[0] for key, value in parse_qs(address.query).items()}
            self.state.after, self.state.times = int(told["after"]), int(told["times"])
            self.state.stall, self.state.lie = told["stall"] == "1", told["lie"] == "1"
            self._json({})
        elif path == "/_log":
            self._json(self.state.log)
        else:
            self._answer(path)

    def _answer(self, path: str) -> None:
        self.state.log.append(
            {"method": self.command, "path": path, "range": self.headers.get("Range", "")}
        )
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/(.+)", path):
            self._info(found[1], found[2])
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(found[1], found[2], found[3])
        elif (file := self.state.root / path.lstrip("/")).is_file():
            self._send(file, sha256(file))
        else:
            self._missing("EntryNotFound")

    def _info(self, repository: str, revision: str) -> None:
        folder = self.state.root / "repos" / repository
        if not folder.is_dir() or revision not in ("main", COMMIT):
            self._missing("RevisionNotFound" if folder.is_dir() else "RepoNotFound")
            return
        siblings: list[dict[str, Any]] = []
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            size, name = file.stat().st_size, file.relative_to(folder).as_posix()
            entry: dict[str, Any] = {"rfilename": name, "size": size, "blobId": git_hash(file)}
            if file.suffix in LARGE:
                entry["lfs"] = {"sha256": sha256(file), "size": size, "pointerSize": 134}
            siblings.append(entry)
        self._json({"id": repository, "modelId": repository, "sha": COMMIT, "siblings": siblings})

    def _resolve(self, repository: str, revision: str, name: str) -> None:
        file = self.state.root / "repos" / repository / name
        if revision not in ("main", COMMIT) or not file.is_file():
            self._missing("EntryNotFound")
            return
        commit = {"X-Repo-Commit": COMMIT}
        if file.suffix not in LARGE:
            self._send(file, git_hash(file), commit)
            return
        # The hub sends whoever asks for a large file to its store.
        self.send_response(302)
        store = f"http://localhost:{self.headers['Host'].partition(':')[2]}"
        self.send_header("Location", f"{store}/repos/{repository}/{name}")
        self.send_header("X-Linked-Size", str(file.stat().st_size))
        self.send_header("X-Linked-Etag", f'"{sha256(file)}"')
        for key, value in commit.items():
            self.send_header(key, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, file: Path, tag: str, more: dict[str, str] | None = None) -> None:
        content = file.read_bytes()
        if self.state.lie:
            content = content[:-1] + bytes([content[-1] ^ 1])
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        unchanged = self.headers.get("If-Range", f'"{tag}"') == f'"{tag}"'
        first = int(asked[1]) if asked and unchanged else 0
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - first))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{tag}"')
        for key, value in (more or {}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.state.times and 0 <= self.state.after < len(content) - first:
            self.state.times -= 1
            self.wfile.write(content[first : first + self.state.after])
            self.wfile.flush()
            while self.state.stall:
                time.sleep(0.1)
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.wfile.write(content[first:])

    def _json(self, data: object) -> None:
        body = json.dumps(data).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _missing(self, code: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        return


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def git_hash(file: Path) -> str:
    content = file.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class Hub:
    """The running server, as a test sees it."""

    root: Path
    address: str
    process: subprocess.Popen[bytes]

    def tell(self, after: int = -1, times: int = 0, stall: bool = False, lie: bool = False) -> None:
        query = f"after={after}&times={times}&stall={int(stall)}&lie={int(lie)}"
        urllib.request.urlopen(f"{self.address}/_tell?{query}", timeout=30).close()

    def asked(self) -> list[dict[str, str]]:
        with urllib.request.urlopen(f"{self.address}/_log", timeout=30) as answer:
            log: list[dict[str, str]] = json.load(answer)
        return log

    def add(self, name: str, content: bytes) -> Path:
        """A file under ROOT."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path


@contextmanager
def hub_server(root: Path, certificate: Path | None = None) -> Iterator[Hub]:
    """Serves `root`; over https with a certificate (PEM, its key in the same file)."""
    port = free_port()
    command = [sys.executable, "-m", "tests.hub_server", str(port), str(root)]
    process = subprocess.Popen(
        [*command, *([str(certificate)] if certificate else [])],
        cwd=Path(__file__).resolve().parents[1],
    )
    try:
        for _ in range(600):
            assert process.poll() is None, "the server ended"
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        scheme, host = ("https", "localhost") if certificate else ("http", "127.0.0.1")
        yield Hub(root, f"{scheme}://{host}:{port}", process)
    finally:
        process.kill()
        process.wait()


def main(port: str, root: str, certificate: str = "") -> None:
    """Serves until it is killed."""
    Handler.state = State(Path(root))
    server = ThreadingHTTPServer(("127.0.0.1", int(port)), Handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
