"""Which speakers are never trained on, for any model: scores that count are theirs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LIBRISPEECH_HELD_OUT = frozenset({"ls-1673", "ls-174", "ls-1919", "ls-1988"})


@dataclass(frozen=True)
class Utterance:
    """A row of a `manifest.jsonl`; `text` or `emotion` may be empty, `seconds` as stated."""

    id: str
    audio: Path
    speaker: str
    seconds: float
    text: str
    emotion: str
    split: str


def is_held_out(speaker: str, split: str = "train") -> bool:
    """One in ten of Common Voice's and speechocean762's speakers, four of LibriSpeech
    dev-clean, the whole kathleen voice, and whatever its corpus calls a test speaker."""
    corpus, _, number = speaker.partition("-")
    if split == "test" or speaker == "ka" or speaker in LIBRISPEECH_HELD_OUT:
        return True
    if corpus == "cv":
        return int(number, 16) % 10 == 0
    return corpus == "so" and int(number) % 10 == 0


def read_manifest(folder: Path) -> Iterator[Utterance]:
    """Every utterance of one folder of shared/data, in the manifest's order."""
    with (folder / "manifest.jsonl").open() as lines:
        for line in lines:
            row: dict[str, Any] = json.loads(line)
            yield Utterance(
                id=row["id"],
                audio=folder / row["audio"],
                speaker=row["speaker"],
                seconds=float(row["seconds"]),
                text=row.get("text", ""),
                emotion=row.get("emotion", ""),
                split=row.get("split", "train"),
            )
