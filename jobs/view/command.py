"""`hansard view`: serves the pages until it is interrupted, or writes them."""

from __future__ import annotations

import contextlib
import sys
import threading
import webbrowser

from jobs.export import export
from jobs.ledger import Ledger
from jobs.transcribe import ALL_DONE, open_ledger
from jobs.view.index import finished, index_page
from jobs.view.server import LOOPBACK, Viewer
from pipeline.errors import UsageError, printable


def find(place: str) -> tuple[Ledger, str]:
    """The ledger of OUT or OUT/id, and the id ("": none). UsageError where there is no record."""
    ledger = open_ledger(place)
    if finished(ledger) or ledger.folder.names("failures"):
        return ledger, ""
    out, _, recording = place.rstrip("/").rpartition("/")
    above = open_ledger(out or ("/" if place.startswith("/") else "."))
    if recording and above.folder.exists(f"transcripts/{recording}.json"):
        return above, recording
    raise UsageError(
        f"{printable(place)}: neither a folder that `hansard transcribe` wrote nor a recording in "
        "one (OUT/id, with the id of OUT/transcripts/id.json)"
    )


def view(place: str, *, port: int, browser: bool, write: bool) -> int:
    """The exit code, once it has ended or been interrupted."""
    ledger, recording = find(place)
    if write:
        return _write(ledger, recording)
    _serve(ledger, recording, port, browser)
    return ALL_DONE


def _serve(ledger: Ledger, recording: str, port: int, browser: bool) -> None:
    """Until interrupted. UsageError where the port is taken."""
    try:
        server = Viewer(ledger, port)
    except OSError as error:
        raise UsageError(f"--port {port}: {error.strerror or error}") from None
    address = server.address + (f"{recording}.html" if recording else "")
    sys.stdout.write(f"{address}\n")
    sys.stdout.flush()
    sys.stderr.write(f"serving {ledger.folder} on {LOOPBACK}; Ctrl+C ends it\n")
    if browser:
        # One in the terminal would hold up the server that it asks.
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
    with server, contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()


def _write(ledger: Ledger, recording: str) -> int:
    """OUT/exports/<id>.html of one recording, or of all with index.html."""
    if recording:
        return export(ledger.folder.uri, ["html"], [recording])
    ledger.folder.write("exports/index.html", index_page(ledger).encode())
    return export(ledger.folder.uri, ["html"])
