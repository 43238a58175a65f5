"""Models from the Hugging Face hub: its own library says what there is at a revision and where
each file lies; only the files that a model is made of are fetched, and each is held against what
the hub lists.

The library's own download (2.4) begins a file anew in each process; hence `fetch`.
"""

from __future__ import annotations

import hashlib
import os
from fnmatch import fnmatch
from pathlib import Path

import httpx2
from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoSibling
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

from jobs.models.fetch import fetch
from jobs.models.record import digest_of
from pipeline.errors import ModelError, printable
from stages.model_cache import HubModel

WANTED = (
    *("*.pt", "*.bin", "*.safetensors", "*.ckpt", "*.yaml", "*.json"),
    *("*.mvn", "*.model", "seg_dict", "jieba_usr_dict"),
)
"""Files of a repository's first level that a model is made of; the rest is examples, figures, code
and other formats."""


_UNREACHED = (httpx2.TransportError, HfHubHTTPError, OfflineModeIsEnabled)


def pull_hub(model: HubModel, revision: str, folder: Path) -> str:
    """Puts the model's files at `revision` into `folder` and gives the commit. What is there
    already from an earlier try is not fetched again. ConnectionError where the hub cannot be
    reached, ModelError where it has no such model or a file is not what the hub says it is."""
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    name = f"hub:{model.repository}@{revision}"
    try:
        info = api.model_info(model.repository, revision=revision, files_metadata=True)
        wanted = [file for file in info.siblings or () if is_wanted(file.rfilename)]
        if not wanted or not info.sha:
            raise ModelError(f"{printable(name)}: no model in it ({', '.join(WANTED)})")
        for file in wanted:
            address = hf_hub_url(
                model.repository, file.rfilename, revision=info.sha, endpoint=api.endpoint
            )
            _pull_file(file, address, folder / file.rfilename, name)
        names = {file.rfilename for file in wanted}
        for stray in [path for path in folder.iterdir() if path.name not in names]:
            stray.unlink()  # of an earlier try, at another revision
    except GatedRepoError:
        raise ModelError(
            f"{printable(name)}: its terms have to be accepted at {api.endpoint}/"
            f"{model.repository}, and a token given in HF_TOKEN"
        ) from None
    except (RepositoryNotFoundError, RevisionNotFoundError):
        raise ModelError(
            f"{printable(name)}: {api.endpoint} knows no such repository or revision, or it is "
            "private: then give a token in HF_TOKEN"
        ) from None
    except _UNREACHED as error:
        raise ConnectionError(" ".join(str(error).split())[:200]) from None
    return info.sha


def is_wanted(name: str) -> bool:
    """Whether a file of the repository belongs to the model."""
    return "/" not in name and any(fnmatch(name, pattern) for pattern in WANTED)


def _pull_file(file: RepoSibling, address: str, path: Path, name: str) -> None:
    """ModelError, and the file thrown away, where what arrives is not what the hub lists: large
    files are listed by their SHA-256, small ones by git's own hash."""
    listed = file.lfs.sha256 if file.lfs else file.blob_id or ""
    if path.is_file() and _hash(path, bool(file.lfs)) == listed:
        return
    where = get_hf_file_metadata(address).location
    # Large files lie in a store elsewhere, which the token is none of the business of.
    headers = build_hf_headers() if where == address else {}
    fetch(where, path, listed, headers)
    found = _hash(path, bool(file.lfs))
    if listed and found != listed:
        path.unlink()
        raise ModelError(
            f"{printable(name)}: {printable(file.rfilename)} arrived damaged ({found}, and "
            f"{listed} is listed): it was thrown away; pull again"
        )


def _hash(path: Path, large: bool) -> str:
    """As the hub lists a file."""
    if large:
        return digest_of(path).sha256
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
