"""Fills the cache: each model is fetched aside, checked whole, and only then put in place, so that
a folder of the cache is complete or not there."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from jobs.models.hub import WANTED, pull_hub
from jobs.models.needs import Need
from jobs.models.record import (
    Record,
    differences,
    lock_path,
    measured,
    read_lock,
    read_record,
    write_record,
)
from jobs.models.web import file_name, is_expected, pull_web
from pipeline.errors import ModelError, OutputError, printable
from stages.model_cache import HubModel, WebModel


@dataclass(frozen=True)
class Pulled:
    """A model in the cache. `fetched`: it was not there before; `known`: it was held
    against the profile, its lock file or an earlier pull, not only against what the sender says."""

    folder: Path
    record: Record
    fetched: bool
    known: bool


def pull(need: Need) -> Pulled:
    """Makes sure that a published model is here and as expected. ModelError names the way out."""
    model = need.published
    if model is None:
        raise ModelError(f"{printable(need.model)}: not a published model: nothing to pull")
    locked = read_lock(need.profile).get(need.model)
    folder = model.folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            there = _there(model, locked)
            if there is not None:
                return there
            known = locked is not None or (isinstance(model, WebModel) and bool(model.digest))
            return Pulled(folder, _fetched(need, model, locked), True, known)
    except ConnectionError as error:
        raise ModelError(_without_network(need, model, locked, error)) from None
    except OSError as error:
        raise OutputError(
            f"{printable(str(folder))}: cannot be written: {error.strerror or error} "
            "(HANSARD_MODELS names another folder)"
        ) from None


def _there(model: HubModel | WebModel, locked: Record | None) -> Pulled | None:
    """The model as it is in the cache; None where it is not, or is not what it should be."""
    folder = model.folder
    if not folder.is_dir():
        return None
    before = read_record(folder)
    expected = locked or before
    if expected is not None and differences(folder, expected):
        return None
    record = before or measured(folder, locked.revision if locked else "")
    if before is None:  # put there by hand
        if isinstance(model, WebModel) and not _is_by_its_name(model):
            return None
        write_record(folder, record)
    return Pulled(folder, record, False, expected is not None)


def _fetched(need: Need, model: HubModel | WebModel, locked: Record | None) -> Record:
    partial = model.folder.with_name(f"{model.folder.name}.partial")
    partial.mkdir(exist_ok=True)
    revision = ""
    if isinstance(model, HubModel):
        asked = (locked and locked.revision) or model.revision
        revision = pull_hub(model, asked, partial)
    else:
        pull_web(model, partial)
    wrong = differences(partial, locked) if locked else []
    if wrong:
        shutil.rmtree(partial)
        raise ModelError(
            f"{printable(need.model)}: not what {printable(str(lock_path(need.profile)))} says: "
            f"{printable('; '.join(wrong))}: it was thrown away"
        )
    record = measured(partial, revision)
    write_record(partial, record)
    if model.folder.is_dir():
        shutil.rmtree(model.folder)
    partial.replace(model.folder)
    return record


def _is_by_its_name(model: WebModel) -> bool:
    path = model.folder / file_name(model)
    return not path.is_file() or is_expected(model, path)


def _without_network(
    need: Need, model: HubModel | WebModel, locked: Record | None, error: ConnectionError
) -> str:
    folder = printable(str(model.folder))
    if isinstance(model, HubModel):
        files = ", ".join(locked.files if locked else WANTED)
        where = f"{files} of https://huggingface.co/{model.repository}/tree/{model.revision}"
    else:
        where = printable(model.address)
    return (
        f"{printable(need.model)}: cannot be fetched ({printable(str(error))}). Pull it where "
        f"there is a network and copy the folder {folder}, or put into that folder: {where}"
    )
