"""Where published models lie on this machine, by the name that a profile gives them.

`hub:OWNER/NAME@REVISION` is a repository of the Hugging Face hub (REVISION: a branch, tag or
commit; `main` where it is left out). `https://HOST/FILE` is a file or archive on the web, with
`#sha256=...` behind it where that is known (`#md5=...` where its publisher gives no better).
Whoever has no network puts the files into the folder by hand. `jobs/models` fills the folders; a
stage only ever reads them.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ModelError, printable

HUB = "hub:"
WEB = ("https://", "http://")
RECORD = ".hansard.json"
"""In a pulled folder: where its files came from, and their digests."""

_HUB_NAME = re.compile(r"(?P<owner>[\w.-]+)/(?P<name>[\w.-]+)(@(?P<revision>[\w./-]+))?", re.ASCII)
_DIGEST = re.compile(r"sha256=[0-9a-f]{64}|md5=[0-9a-f]{32}")


@dataclass(frozen=True)
class HubModel:
    """A repository of the Hugging Face hub at a revision."""

    repository: str
    revision: str

    @property
    def folder(self) -> Path:
        owner, name = self.repository.split("/")
        return cache_folder() / "hub" / owner / name / self.revision.replace("/", "--")


@dataclass(frozen=True)
class WebModel:
    """A file or archive at an address. `digest` of what is downloaded: sha256=... or md5=...;
    empty: not known."""

    address: str
    digest: str

    @property
    def folder(self) -> Path:
        host = self.address.split("/")[2].rpartition("@")[2]
        known = hashlib.sha256(f"{self.address}#{self.digest}".encode()).hexdigest()[:12]
        return cache_folder() / "web" / f"{re.sub(r'[^a-z0-9.-]', '-', host.lower())}-{known}"


def cache_folder() -> Path:
    """HANSARD_MODELS, or ~/.cache/hansard/models: shared by all profiles."""
    return Path(os.environ.get("HANSARD_MODELS") or "~/.cache/hansard/models").expanduser()


def published(model: str) -> HubModel | WebModel | None:
    """What a profile's model name means; None for a bundled model or a folder. ModelError for a
    name that is none.

    >>> published("hub:funasr/fsmn-vad")
    HubModel(repository='funasr/fsmn-vad', revision='main')
    """
    if model.startswith(HUB):
        found = _HUB_NAME.fullmatch(model.removeprefix(HUB))
        if found is None or ".." in model:
            raise ModelError(f"{printable(model)}: write {HUB}OWNER/NAME@REVISION")
        return HubModel(f"{found['owner']}/{found['name']}", found["revision"] or "main")
    if model.startswith(WEB):
        address, _, digest = model.partition("#")
        if digest and not _DIGEST.fullmatch(digest):
            raise ModelError(f"{printable(model)}: after '#', write sha256= and 64 digits (0-9a-f)")
        if model.startswith("http://") and not digest.startswith("sha256="):
            raise ModelError(f"{printable(model)}: http:// needs #sha256=... after it, or https://")
        return WebModel(address, digest)
    return None
