"""Pages in OUT/exports, to be opened without a server."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from jobs.ledger import Ledger
from jobs.view.audio import seeks_exactly
from jobs.view.page import Links, page_of
from pipeline.records import Transcript
from pipeline.storage import Folder

_INEXACT = (
    "In this audio (an MP3 of variable bit rate, or bare AAC) browsers find a place only to some "
    "seconds: `hansard view` without --write plays it exactly."
)


def page_on_disk(ledger: Ledger, transcript: Transcript) -> str:
    """What OUT/exports/<id>.html holds, of a record as it was made. Corrections are downloaded
    from it: a page from the disk writes nothing."""
    audio = _audio(ledger.folder, transcript.uri)
    index = "index.html" if ledger.folder.exists("exports/index.html") else ""
    note = "" if not audio or seeks_exactly(transcript.uri) else _INEXACT
    return page_of(ledger, transcript, Links(audio, index=index, note=note))


def _audio(folder: Folder, uri: str) -> tuple[str, ...]:
    """Relative where the audio lies in the folder that holds OUT, which may then move as a whole.
    None for a bucket's: such a page loads nothing from the network."""
    if "://" in uri or not os.path.isfile(uri):  # noqa: PTH113 (any text may be in a uri)
        return ()
    audio, out = Path(uri), Path(folder.path("")).resolve()
    if "://" not in folder.uri and audio.is_relative_to(out.parent):
        return (quote(os.path.relpath(audio, out / "exports")),)
    return (audio.as_uri(),)
