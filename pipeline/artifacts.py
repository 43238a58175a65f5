"""Stage results on disk, `artifacts/<recording>/<stage>-<key>`: what exists is not made again."""

from __future__ import annotations

import io
from dataclasses import dataclass
from types import GenericAlias
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from pipeline.records import Embeddings, StageRun
from pipeline.storage import Folder


@dataclass(frozen=True)
class Made:
    """An artifact and the run that made it."""

    artifact: Any
    run: StageRun


class ArtifactStore:
    """The artifacts of one recording. JSON for records, npz (no pickles) for embeddings."""

    def __init__(self, folder: Folder, recording: str) -> None:
        self._folder = folder
        self._recording = recording

    def load(self, stage: str, key: str, kind: Any) -> Made | None:
        """The artifact of type `kind`; None where it does not exist."""
        data = self._folder.read(self._name(stage, key, kind))
        if data is None:
            return None
        if kind is Embeddings:
            return _embeddings_from(data)
        run, artifact = _codec(kind).validate_json(data)
        return Made(artifact, run)

    def save(self, stage: str, key: str, kind: Any, made: Made) -> None:
        """Atomic; OutputError where it cannot be written."""
        if kind is Embeddings:
            data = _embeddings_to(made)
        else:
            data = _codec(kind).dump_json((made.run, made.artifact))
        self._folder.write(self._name(stage, key, kind), data)

    def _name(self, stage: str, key: str, kind: Any) -> str:
        suffix = "npz" if kind is Embeddings else "json"
        return f"artifacts/{self._recording}/{stage}-{key}.{suffix}"


def _codec(kind: Any) -> TypeAdapter[Any]:
    """JSON codec of an artifact with its run: `[run, artifact]`."""
    pair: Any = GenericAlias(tuple, (StageRun, kind))
    return TypeAdapter(pair)


def _embeddings_to(made: Made) -> bytes:
    embeddings: Embeddings = made.artifact
    stream = io.BytesIO()
    run = TypeAdapter(StageRun).dump_json(made.run)
    np.savez(
        stream,
        spans=embeddings.spans,
        vectors=embeddings.vectors,
        run=np.frombuffer(run, dtype=np.uint8),
    )
    return stream.getvalue()


def _embeddings_from(data: bytes) -> Made:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        run = TypeAdapter(StageRun).validate_json(arrays["run"].tobytes())
        return Made(Embeddings(arrays["spans"], arrays["vectors"]), run)
