"""The output folder is the ledger: one record a recording, done or failed, and the exports."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from jobs.exports import EXPORTS
from pipeline.records import Failure, Transcript
from pipeline.storage import Folder
from pipeline.transcript import encode, failure_to_json, from_json, to_json


class Ledger:
    """Records in a folder: `transcripts/<id>.json`, `failures/<id>.json`, `exports/<id>.*`."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder

    def transcript(self, recording: str) -> Transcript | None:
        """The finished record; None where there is none."""
        record = self._read(f"transcripts/{recording}.json")
        return None if record is None else from_json(record)

    def transcripts(self) -> Iterable[Transcript]:
        """Every finished record, by id."""
        for name in self.folder.names("transcripts"):
            transcript = self.transcript(name.removesuffix(".json"))
            if name.endswith(".json") and transcript is not None:
                yield transcript

    def attempts(self, recording: str) -> int:
        """How often the recording has failed since it last succeeded."""
        record = self._read(f"failures/{recording}.json")
        return 0 if record is None else int(record["attempt"])

    def keep(self, outcome: Transcript | Failure, formats: Iterable[str]) -> None:
        """Writes the recording's one record: a success takes the place of an earlier failure,
        and a failure of what the same recording gave before its content changed."""
        if isinstance(outcome, Failure):
            record = encode(failure_to_json(outcome))
            self.folder.write(f"failures/{outcome.id}.json", record)
            self.folder.delete(f"transcripts/{outcome.id}.json")
        else:
            self.export(outcome, formats)
            self.folder.write(f"transcripts/{outcome.id}.json", encode(to_json(outcome)))
            self.folder.delete(f"failures/{outcome.id}.json")

    def export(self, transcript: Transcript, formats: Iterable[str]) -> None:
        """Writes the exports anew."""
        for name in formats:
            if name in EXPORTS:
                text = EXPORTS[name](transcript)
                self.folder.write(f"exports/{transcript.id}.{name}", text.encode())

    def _read(self, name: str) -> dict[str, Any] | None:
        data = self.folder.read(name)
        if data is None:
            return None
        record: dict[str, Any] = json.loads(data)
        return record
