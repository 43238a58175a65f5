"""A folder of results, local or in a bucket: whole files, written atomically, through fsspec."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import OutputError, printable


class Folder:
    """Names are relative, with forward slashes. A reader sees a whole file or none: a local
    file is written aside, then renamed; object stores put an object whole."""

    def __init__(self, uri: str) -> None:
        from fsspec.core import url_to_fs

        self.uri = uri
        self._fs: Any
        self._fs, root = url_to_fs(uri)
        self._root = str(root).rstrip("/")
        protocol = self._fs.protocol
        self._local = "file" in ((protocol,) if isinstance(protocol, str) else protocol)

    def __str__(self) -> str:
        return printable(self.uri)

    def path(self, name: str) -> str:
        """Where `name` lies, for messages and for the local file system."""
        return f"{self._root}/{name}"

    def check_writable(self) -> None:
        """OutputError, before any work is done, where nothing could be written."""
        probe = f".probe-{uuid.uuid4().hex}"
        self.write(probe, b"")
        self.delete(probe)

    def exists(self, name: str) -> bool:
        return bool(self._fs.exists(self.path(name)))

    def read(self, name: str) -> bytes | None:
        """The file's bytes; None where there is none."""
        try:
            data: bytes = self._fs.cat_file(self.path(name))
        except FileNotFoundError:
            return None
        return data

    def write(self, name: str, data: bytes) -> None:
        """OutputError, with the system's reason, where it cannot be written."""
        target = self.path(name)
        try:
            if self._local:
                _write_aside(Path(target), data)
            else:
                self._fs.pipe_file(target, data)
        except OSError as error:
            raise OutputError(f"{printable(target)}: {_reason(error)}") from error

    def delete(self, name: str) -> None:
        """Nothing happens where there is no such file."""
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self.path(name))

    def names(self, under: str) -> Iterator[str]:
        """Base names directly below the folder `under`, sorted; none where it is missing."""
        try:
            listing: list[str] = self._fs.ls(self.path(under), detail=False)
        except FileNotFoundError:
            return
        yield from sorted(entry.rstrip("/").rsplit("/", 1)[-1] for entry in listing)


def _write_aside(target: Path, data: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with aside.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(target)
    except OSError:
        aside.unlink(missing_ok=True)
        raise


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "no space left on the disk: free some, then run the same command to go on"
    return f"cannot be written: {error.strerror or error}"
