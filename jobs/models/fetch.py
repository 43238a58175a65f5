"""One file over http(s), gone on from where an earlier try stopped, in this process or another."""

from __future__ import annotations

import time
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from ssl import SSLError
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from pipeline.errors import ModelError, printable

TRIES = 3
_CUT_OFF = (URLError, ConnectionError, TimeoutError, SSLError, HTTPException)
_TIMEOUT_S = 30
_CHUNK = 1 << 20


def fetch(
    address: str, path: Path, digest: str = "", headers: Mapping[str, str] | None = None
) -> None:
    """Downloads to `path`. What arrived stays beside it, hidden, until all has. With a `digest`
    that the caller checks, a later try goes on from there; without, only if the server says by
    its ETag that the file is still the same. ConnectionError after TRIES tries in vain,
    ModelError where the address has no such file."""
    part = path.with_name(f".{path.name}.{digest[:16] or 'web'}.incomplete")
    for left in reversed(range(TRIES)):
        try:
            _go_on(address, part, bool(digest), headers or {}, path.name)
            part.replace(path)
            return
        except _CUT_OFF as error:
            if isinstance(error, HTTPError) and error.code == 416:
                part.unlink(missing_ok=True)  # all of it was here, or it is shorter now
            elif isinstance(error, HTTPError) and error.code < 500:
                raise ModelError(f"{printable(address)}: {error.code} {error.reason}") from None
            if not left:
                raise ConnectionError(str(error)) from None
            time.sleep(1)


def _go_on(address: str, part: Path, known: bool, headers: Mapping[str, str], name: str) -> None:
    tag = part.with_suffix(".etag")
    have = part.stat().st_size if part.is_file() and (known or tag.is_file()) else 0
    asked = {"User-Agent": "hansard", **headers}
    if have:
        asked["Range"] = f"bytes={have}-"
        if not known:  # only if the file has not changed since
            asked["If-Range"] = tag.read_text()
    with urlopen(Request(address, headers=asked), timeout=_TIMEOUT_S) as response:
        if address.startswith("https://") and not response.url.startswith("https://"):
            raise ModelError(f"{printable(address)}: leads to an address without https")
        goes_on = response.status == 206
        have = have if goes_on else 0
        if not known and (told := response.headers.get("ETag")):
            tag.write_text(told)
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        with part.open("ab" if goes_on else "wb") as stream, _progress() as progress:
            task = progress.add_task(printable(name), total=total, completed=have)
            while chunk := response.read(_CHUNK):
                stream.write(chunk)
                progress.advance(task, len(chunk))
    arrived = part.stat().st_size
    if total is not None and arrived != total:
        raise ConnectionError(f"cut off after {arrived} of {total} bytes")
    tag.unlink(missing_ok=True)


def _progress() -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
