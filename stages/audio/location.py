"""Where a recording lies: a local path, or an address that fsspec knows (s3://, https:// ...).
What is wrong with it is told as an InputError of one line, with the name as the user gave it.
"""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import BinaryIO, cast

from pipeline.errors import InputError, printable
from pipeline.storage import file_system, version_of

_CHUNK = 1 << 20
_REASONS = {
    errno.ENOENT: "no such file",
    errno.EISDIR: "is a folder, not a file",
    errno.EACCES: "no permission to read it",
    errno.ENAMETOOLONG: "no such file (the name is too long)",
}


def bad_input(location: str, reason: str) -> InputError:
    """`PATH: reason`, on one line."""
    return InputError(f"{printable(location)}: {printable(' '.join(reason.split()))}")


def open_binary(location: str) -> BinaryIO:
    """Opens for reading, seekable. InputError where it is missing, a folder, empty, not a
    regular file, or may not be read."""
    path = _local(location)
    try:
        if path is not None:
            if path.exists() and not (path.is_file() or path.is_dir()):
                raise bad_input(location, "not a regular file")
            file: BinaryIO = path.open("rb")
        else:
            fs, remote = file_system(location)
            file = cast(BinaryIO, fs.open(remote, "rb"))
        if file.seek(0, os.SEEK_END) == 0:
            file.close()
            raise bad_input(location, "the file is empty (0 bytes)")
        file.seek(0)
    except InputError:
        raise
    except Exception as error:  # fsspec's file systems raise what their clients raise
        raise bad_input(location, describe(error)) from error
    return file


def fingerprint(location: str) -> str:
    """Changes with the content. Local: `sha256:...` of the bytes; elsewhere what the store
    keeps of it: its etag, else size and time of change; the bytes where it keeps neither."""
    if _local(location) is None:
        try:
            fs, path = file_system(location)
            stated = version_of(fs.info(path))
        except Exception as error:
            raise bad_input(location, describe(error)) from error
        if stated:
            return stated
    digest = hashlib.sha256()
    with open_binary(location) as file:
        try:
            while data := file.read(_CHUNK):
                digest.update(data)
        except OSError as error:
            raise bad_input(location, describe(error)) from error
    return f"sha256:{digest.hexdigest()}"


def describe(error: Exception) -> str:
    """The reason in a user's words."""
    number = getattr(error, "errno", None)
    if number is None and isinstance(error, FileNotFoundError):
        number = errno.ENOENT
    if number is None and isinstance(error, PermissionError):
        number = errno.EACCES
    if number in _REASONS:
        return _REASONS[number]
    return getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"


def _local(location: str) -> Path | None:
    """The path of a local file; None for an address. A colon alone does not make an address."""
    if location.startswith("file://"):
        return Path(file_system(location)[1])
    return None if "://" in location else Path(location)
