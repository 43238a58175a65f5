"""A folder of results, local or in a bucket: whole files, written atomically, through fsspec."""

from __future__ import annotations

import errno
import os
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import OutputError, printable

_ETAGS = ("ETag", "etag", "md5Hash", "content_md5", "Content-MD5")
_MODIFIED = ("LastModified", "last_modified", "Last-Modified", "updated", "mtime", "created")
_KEYS = re.compile(r"s3a?://[^/]*:[^/]*@")
# A bucket that is busy is asked again, for half a minute or so: 0.5, 1, 2, 4, 8, 10 and 10 s.
_S3_RETRIES = {"mode": "standard", "max_attempts": 8}


def file_system(uri: str) -> tuple[Any, str]:
    """fsspec's file system of an address or a local path, and the path in it. Listings are
    never cached: others write too. ValueError or ImportError for an unknown kind of address."""
    from fsspec.core import url_to_fs

    options: dict[str, Any] = {}
    if uri.startswith(("s3://", "s3a://")):
        if _KEYS.match(uri):  # they would be taken for a part of the bucket's name, and shown
            raise ValueError(
                "no keys in the address: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
                "or AWS_PROFILE"
            )
        options["use_listings_cache"] = False
        if not {"AWS_MAX_ATTEMPTS", "AWS_RETRY_MODE"} & set(os.environ):
            options["config_kwargs"] = {"retries": _S3_RETRIES}
    elif uri.startswith(("gs://", "gcs://", "az://", "abfs://")):
        options["use_listings_cache"] = False
    fs, path = url_to_fs(uri, **options)
    return fs, str(path)


def version_of(info: Mapping[str, Any]) -> str:
    """What fsspec's `info` states of a file that changes with its content: the etag, else size
    and time of change; empty where the store tells neither."""
    for key in _ETAGS:
        if info.get(key):
            return f"etag:{info[key]}"
    for key in _MODIFIED:
        if info.get(key) is not None and info.get("size") is not None:
            return f"size-time:{info['size']}-{info[key]}"
    return ""


def modified_at(info: Mapping[str, Any]) -> float:
    """When fsspec's `info` says that the file was last written, in seconds since 1970; 0 where
    it does not say."""
    for key in _MODIFIED:
        value = info.get(key)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
        if isinstance(value, str):
            try:
                return datetime.fromisoformat(value).timestamp()
            except ValueError:
                continue
    return 0.0


class Entry(NamedTuple):
    """A file in a listing: its base name, bytes, seconds since 1970 at its last change, and a
    text that differs whenever it was written anew."""

    name: str
    size: int
    modified: float
    version: str


class Folder:
    """Names are relative, with forward slashes. A reader sees a whole file or none: a local
    file is written aside, then renamed; object stores put an object whole. What the store
    refuses is an OutputError of one line."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._fs, root = file_system(uri)
        self._root = root.rstrip("/")
        protocol = self._fs.protocol
        self._local = "file" in ((protocol,) if isinstance(protocol, str) else protocol)

    def __str__(self) -> str:
        return printable(self.uri)

    def path(self, name: str) -> str:
        """Where `name` lies, for messages and for the local file system."""
        return f"{self._root}/{name}"

    @property
    def address(self) -> str:
        """The folder's uri, as another process can use it, wherever it runs: a local path is
        absolute."""
        return self._root if self._local else self.uri

    @property
    def local(self) -> bool:
        """Whether this is a folder of this machine, no bucket."""
        return self._local

    @property
    def fs(self) -> Any:
        """fsspec's file system, for libraries that read through it."""
        return self._fs

    def check_writable(self) -> None:
        """OutputError, before any work is done, where nothing could be written, or where
        `create` would not keep two runs off each other."""
        probe = f".probe-{uuid.uuid4().hex}"
        self.create(probe, b"")
        overwrites = self.create(probe, b"again")
        self.delete(probe)
        if overwrites:
            raise OutputError(
                f"{self}: this store overwrites where it should only create (it does not know "
                "If-None-Match): use one that does, or a local folder"
            )

    def exists(self, name: str) -> bool:
        with self._telling(name, "read"):
            return bool(self._fs.exists(self.path(name)))

    def read(self, name: str) -> bytes | None:
        """The file's bytes; None where there is none."""
        with self._telling(name, "read"):
            try:
                data: bytes = self._fs.cat_file(self.path(name))
            except FileNotFoundError:
                return None
            return data

    def read_all(self, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Names with their bytes, many at a time from a bucket; those that are gone are left
        out."""
        waiting = iter(names)
        while some := list(islice(waiting, 1000)):
            paths = [self.path(name) for name in some]
            with self._telling("", "read"):
                found = self._fs.cat_ranges(paths, None, None, on_error="return")
            for name, data in zip(some, found, strict=True):
                if isinstance(data, bytes):
                    yield name, data
                elif not isinstance(data, FileNotFoundError):
                    with self._telling(name, "read"):
                        raise data

    def write(self, name: str, data: bytes) -> None:
        """Atomic: whoever reads sees the old file or the new one."""
        with self._telling(name, "written"):
            if self._local:
                with _aside(Path(self.path(name)), data) as aside:
                    aside.replace(self.path(name))
            else:
                self._fs.pipe_file(self.path(name), data)

    def create(self, name: str, data: bytes) -> bool:
        """Writes a file that must not exist yet; False, and nothing is written, where it does.
        Of several that create one name at once, exactly one is told True. A bucket must know
        conditional writes (If-None-Match: S3, GCS, Azure, MinIO do)."""
        with self._telling(name, "written"):
            try:
                if self._local:
                    with _aside(Path(self.path(name)), data) as aside:
                        _link(aside, Path(self.path(name)))
                else:
                    self._fs.pipe_file(self.path(name), data, mode="create")
            except FileExistsError:
                return False
            return True

    def delete(self, name: str) -> None:
        """Nothing happens where there is no such file."""
        with self._telling(name, "deleted"):
            try:
                self._fs.rm_file(self.path(name))
            except FileNotFoundError:
                return

    def names(self, under: str) -> list[str]:
        """Base names of the files directly below the folder `under`, sorted; none where it is
        missing."""
        return [entry.name for entry in self.listing(under)]

    def versions(self, under: str) -> dict[str, str]:
        """Base names of the files directly below `under`, each with its version."""
        return {entry.name: entry.version for entry in self.listing(under)}

    def listing(self, under: str) -> list[Entry]:
        """The files directly below `under`, by name. A bucket is asked page by page; at 100,000
        files this takes about a second locally."""
        with self._telling(under, "listed"):
            try:
                entries = self._scan(under) if self._local else self._pages(under)
                return sorted(entry for entry in entries if not entry.name.startswith("."))
            except FileNotFoundError:
                return []

    def _scan(self, under: str) -> Iterator[Entry]:
        with os.scandir(self.path(under)) as files:
            for file in files:
                try:
                    stat = file.stat()
                except FileNotFoundError:  # deleted since it was listed
                    continue
                version = f"size-time:{stat.st_size}-{stat.st_mtime_ns}"
                if not file.is_dir():
                    yield Entry(file.name, stat.st_size, stat.st_mtime, version)

    def _pages(self, under: str) -> Iterator[Entry]:
        for info in self._fs.ls(self.path(under), detail=True):
            name = info["name"].rstrip("/").rsplit("/", 1)[-1]
            if info["type"] == "file":
                yield Entry(name, info["size"], modified_at(info), version_of(info))

    @contextmanager
    def _telling(self, name: str, action: str) -> Iterator[None]:
        """Whatever the store raises as an OutputError with the place and the reason."""
        try:
            yield
        except Exception as error:  # fsspec's file systems raise what their clients raise
            where = printable(self.path(name))
            raise OutputError(f"{where}: {refused(error, action)}") from error


@contextmanager
def _aside(target: Path, data: bytes) -> Iterator[Path]:
    """A file with `data` on the disk beside `target`, gone in the end."""
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with aside.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        yield aside
    finally:
        aside.unlink(missing_ok=True)


def _link(source: Path, target: Path) -> None:
    """A second name for a whole file: FileExistsError where `target` exists."""
    try:
        target.hardlink_to(source)
    except FileExistsError:
        raise
    except OSError:  # no hard links there (FAT, some network drives): as good as it goes
        with target.open("xb") as stream:
            stream.write(source.read_bytes())


def refused(error: Exception, action: str) -> str:
    """Why a store could not do what was asked, in one line: "cannot be written: ..."."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "no space left on the disk: free some, then run the same command to go on"
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"cannot be {action}: {printable(' '.join(str(reason).split()))}"
