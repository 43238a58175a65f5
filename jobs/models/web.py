"""Models at an address of the web: a file, or an archive, which is unpacked with care."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import zipfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

from jobs.models.fetch import fetch
from pipeline.errors import ModelError, printable
from stages.model_cache import WebModel

_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


def pull_web(model: WebModel, folder: Path) -> None:
    """Puts the file into `folder`, or what an archive holds. ConnectionError where the address
    cannot be reached, ModelError where it gives something else than expected."""
    path = folder / file_name(model)
    if not path.is_file():
        fetch(model.address, path, model.digest.partition("=")[2])
    if not is_expected(model, path):
        path.unlink()
        raise ModelError(
            f"{printable(model.address)}: not of the expected {model.digest}: it was thrown away"
        )
    if path.name.endswith(_ARCHIVES):
        unpack(path, folder)
        path.unlink()


def file_name(model: WebModel) -> str:
    """ModelError where the address ends with none."""
    name = unquote(urlsplit(model.address).path.rpartition("/")[2])
    if not name or name.startswith(".") or "/" in name or "\\" in name:
        raise ModelError(f"{printable(model.address)}: no file name at its end")
    return name


def is_expected(model: WebModel, path: Path) -> bool:
    """Whether a file has the digest that the model's name gives; True where it gives none."""
    algorithm, _, expected = model.digest.partition("=")
    if not algorithm:
        return True
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest() == expected


def unpack(archive: Path, folder: Path) -> None:
    """What is in an archive, without the one folder around it; nothing outside `folder` is
    written, and no link followed. ModelError for what is no archive."""
    try:
        if archive.suffix == ".zip":
            with zipfile.ZipFile(archive) as packed:
                packed.extractall(folder)
        else:
            with tarfile.open(archive) as packed_tar:
                packed_tar.extractall(folder, filter="data")
    except (zipfile.BadZipFile, tarfile.TarError) as error:
        raise ModelError(f"{printable(archive.name)}: cannot be unpacked: {error}") from None
    around = [path for path in folder.iterdir() if path != archive]
    if len(around) == 1 and around[0].is_dir():
        outer = around[0].rename(folder / ".unpacked")
        for path in outer.iterdir():
            shutil.move(path, folder)
        outer.rmdir()
