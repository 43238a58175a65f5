"""Pages on loopback. Every address begins with a token that only the person who started the
server knows, so that neither another user of the machine nor a web page elsewhere can read or
correct anything; the Host and Origin headers are checked as well (DNS rebinding, CSRF)."""

from __future__ import annotations

import contextlib
import re
import secrets
import sys
import threading
from collections.abc import Iterable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from jobs.corrections import parse
from jobs.ledger import Ledger
from jobs.view.audio import DecodedSound, OriginalSound, Sound, seeks_exactly
from jobs.view.index import index_page
from jobs.view.page import Links, page_of
from pipeline.errors import HansardError, InputError
from pipeline.records import Transcript

LOOPBACK = "127.0.0.1"
_LARGEST_POST = 1 << 24
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_PAGE = re.compile(r"([\w-]+)\.html", re.ASCII)
_AUDIO = re.compile(r"audio/([\w-]+)(\.wav)?", re.ASCII)
_CORRECTIONS = re.compile(r"corrections/([\w-]+)", re.ASCII)


class RefusedError(Exception):
    """An answer other than what was asked for."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Viewer(ThreadingHTTPServer):
    """Serves one output folder until it is shut down. OSError where the port is taken."""

    daemon_threads = True

    def __init__(self, ledger: Ledger, port: int = 0) -> None:
        self.ledger = ledger
        self.token = secrets.token_urlsafe(16)
        self._sounds: dict[tuple[str, bool], Sound] = {}
        self._opening = threading.Lock()
        super().__init__((LOOPBACK, port), _Handler)

    @property
    def address(self) -> str:
        """Of the index; a recording's page is `<id>.html` below it."""
        return f"http://{LOOPBACK}:{self.server_port}/{self.token}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """Says nothing where the browser went away."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def transcript(self, recording: str) -> Transcript:
        """The record as it was made, or a refusal."""
        try:
            transcript = self.ledger.transcript(recording)
        except (ValueError, KeyError, TypeError, AttributeError):
            reason = f"transcripts/{recording}.json: not one of Hansard's records"
            raise RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR, reason) from None
        if transcript is None:
            raise RefusedError(HTTPStatus.NOT_FOUND, "no such recording")
        return transcript

    def sound(self, recording: str, decoded: bool) -> Sound:
        """InputError where the recording cannot be opened."""
        with self._opening:
            key = (recording, decoded)
            if key not in self._sounds:
                made = self.transcript(recording)
                self._sounds[key] = (
                    DecodedSound(made.uri, made.duration) if decoded else OriginalSound(made.uri)
                )
            return self._sounds[key]


class _Handler(BaseHTTPRequestHandler):
    server: Viewer
    protocol_version = "HTTP/1.1"
    server_version = "hansard"
    sys_version = ""
    timeout = 60

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, *args: object) -> None:
        """Nothing: nobody wants a line for every range."""

    def _answer(self) -> None:
        try:
            place = self._place()
            if self.command == "POST":
                self._post(place)
            else:
                self._get(place)
        except RefusedError as error:
            self._refuse(error.status, str(error))
        except InputError as error:
            self._refuse(HTTPStatus.NOT_FOUND, str(error))
        except HansardError as error:
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))

    def _place(self) -> str:
        """The path below the token, or a refusal of whoever does not know it."""
        hosts = {f"{name}:{self.server.server_port}" for name in (LOOPBACK, "localhost")}
        host, origin = self.headers.get("Host"), self.headers.get("Origin")
        if host not in hosts or origin not in (None, f"http://{host}"):
            raise RefusedError(HTTPStatus.FORBIDDEN, "asked from elsewhere")
        _, _, path = self.path.partition("?")[0].partition("/")
        token, slash, place = path.partition("/")
        if not slash or not secrets.compare_digest(token.encode(), self.server.token.encode()):
            raise RefusedError(HTTPStatus.NOT_FOUND, "no such page")
        return place

    def _get(self, place: str) -> None:
        if place in ("", "index.html"):
            self._page(index_page(self.server.ledger))
        elif page := _PAGE.fullmatch(place):
            made = self.server.transcript(page[1])
            links = Links(_audio(made), index="./", save=f"corrections/{made.id}")
            self._page(page_of(self.server.ledger, made, links))
        elif audio := _AUDIO.fullmatch(place):
            self._sound(self.server.sound(audio[1], decoded=bool(audio[2])))
        else:
            raise RefusedError(HTTPStatus.NOT_FOUND, "no such page")

    def _post(self, place: str) -> None:
        name = _CORRECTIONS.fullmatch(place)
        length = self.headers.get("Content-Length", "")
        if name is None or self.headers.get_content_type() != "application/json":
            raise RefusedError(HTTPStatus.BAD_REQUEST, "only corrections are taken, as JSON")
        if not length.isdecimal() or int(length) > _LARGEST_POST:
            raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too much for corrections")
        made = self.server.transcript(name[1])
        try:
            corrections = parse(self.rfile.read(int(length)), place)
            self.server.ledger.corrections(made.id)  # one that somebody broke is not overwritten
        except InputError as error:
            raise RefusedError(HTTPStatus.BAD_REQUEST, str(error)) from None
        if corrections.id != made.id or corrections.key != made.provenance.key:
            raise RefusedError(
                HTTPStatus.CONFLICT, "the transcript has changed: load the page again"
            )
        self.server.ledger.keep_corrections(corrections)
        self._text(HTTPStatus.OK, "saved")

    def _sound(self, sound: Sound) -> None:
        """Whole, or the one range asked for: that is how a browser seeks."""
        asked = _RANGE.fullmatch(self.headers.get("Range", "").strip())
        start, end, status = 0, sound.size, HTTPStatus.OK
        headers = {"Content-Type": sound.content_type, "Accept-Ranges": "bytes"}
        if asked and (asked[1] or asked[2]):
            start, end = _span(asked[1], asked[2], sound.size)
            if start >= end:
                headers["Content-Range"] = f"bytes */{sound.size}"
                self._send(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers, 0, ())
                return
            status = HTTPStatus.PARTIAL_CONTENT
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{sound.size}"
        self._send(status, headers, end - start, sound.read(start, end))

    def _page(self, html: str) -> None:
        body = html.encode()
        headers = {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Security-Policy": "frame-ancestors 'none'",
        }
        self._send(HTTPStatus.OK, headers, len(body), (body,))

    def _text(self, status: HTTPStatus, text: str) -> None:
        body = text.encode()
        self._send(status, {"Content-Type": "text/plain; charset=utf-8"}, len(body), (body,))

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self.close_connection = True  # a body that was sent along stays unread
        self._text(status, reason)

    def _send(
        self, status: HTTPStatus, headers: dict[str, str], size: int, body: Iterable[bytes]
    ) -> None:
        self.send_response(status)
        always = {
            "Content-Length": str(size),
            "Cache-Control": "no-store",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }
        for name, value in {**headers, **always}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        sent = 0
        with contextlib.suppress(InputError):  # too late to say so: the answer breaks off
            for piece in body:
                self.wfile.write(piece)
                sent += len(piece)
        self.close_connection |= sent < size


def _audio(made: Transcript) -> tuple[str, ...]:
    """Decoded audio first where the recording's own would be heard at the wrong place."""
    original, decoded = f"audio/{made.id}", f"audio/{made.id}.wav"
    try:
        exact = seeks_exactly(made.uri)
    except InputError:
        return ()
    return (original, decoded) if exact else (decoded, original)


def _span(first: str, last: str, size: int) -> tuple[int, int]:
    """[start, end) of `bytes=first-last`; without `first`, so many bytes from the end."""
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1 if last else size)
