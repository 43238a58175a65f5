"""Stage results on disk, `artifacts/<recording>/<stage>-<key>`: what exists is not made again."""

from __future__ import annotations

import io
from dataclasses import dataclass, fields
from types import GenericAlias
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from pipeline.records import Embeddings, Segmentation, StageRun
from pipeline.storage import Folder

_ARRAYS = (Embeddings, Segmentation)


@dataclass(frozen=True)
class Made:
    """An artifact and the run that made it."""

    artifact: Any
    run: StageRun


class ArtifactStore:
    """The artifacts of one recording. JSON for records, npz (no pickles) for arrays."""

    def __init__(self, folder: Folder, recording: str) -> None:
        self._folder = folder
        self._recording = recording

    def load(self, stage: str, key: str, kind: Any) -> Made | None:
        """The artifact of type `kind`; None where it does not exist."""
        data = self._folder.read(self._name(stage, key, kind))
        if data is None:
            return None
        if kind in _ARRAYS:
            return _arrays_from(data, kind)
        run, artifact = _codec(kind).validate_json(data)
        return Made(artifact, run)

    def save(self, stage: str, key: str, kind: Any, made: Made) -> None:
        """Atomic; OutputError where it cannot be written."""
        if kind in _ARRAYS:
            data = _arrays_to(made)
        else:
            data = _codec(kind).dump_json((made.run, made.artifact))
        self._folder.write(self._name(stage, key, kind), data)

    def count(self) -> int:
        """How many there are; OutputError where that cannot be seen."""
        return len(self._folder.names(f"artifacts/{self._recording}"))

    def _name(self, stage: str, key: str, kind: Any) -> str:
        suffix = "npz" if kind in _ARRAYS else "json"
        return f"artifacts/{self._recording}/{stage}-{key}.{suffix}"


def _codec(kind: Any) -> TypeAdapter[Any]:
    """JSON codec of an artifact with its run: `[run, artifact]`."""
    pair: Any = GenericAlias(tuple, (StageRun, kind))
    return TypeAdapter(pair)


def _arrays_to(made: Made) -> bytes:
    stream = io.BytesIO()
    run = np.frombuffer(TypeAdapter(StageRun).dump_json(made.run), dtype=np.uint8)
    arrays = {field.name: getattr(made.artifact, field.name) for field in fields(made.artifact)}
    np.savez(stream, run=run, **arrays)
    return stream.getvalue()


def _arrays_from(data: bytes, kind: Any) -> Made:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        run = TypeAdapter(StageRun).validate_json(arrays["run"].tobytes())
        return Made(kind(**{field.name: arrays[field.name] for field in fields(kind)}), run)
