"""Output folders with simulated recordings, and what their tables hold."""

from __future__ import annotations

from pathlib import Path

from benchmarks.tables import simulated
from jobs import load_tables
from jobs.ledger import Ledger
from jobs.tables.update import Summary, update_tables
from pipeline.records import Transcript
from pipeline.storage import Folder
from pipeline.transcript import encode, to_json


def update(out: Path | str) -> Summary:
    return update_tables(Ledger(Folder(str(out))), lambda *_: None)


def keep(out: Path | str, *transcripts: Transcript) -> None:
    for each in transcripts:
        Folder(str(out)).write(f"transcripts/{each.id}.json", encode(to_json(each)))


def some(count: int, words: int = 40, first: int = 0) -> list[Transcript]:
    return [
        simulated(f"/a/2024-{1 + n % 12:02}-03/{n}.wav", words, n)
        for n in range(first, first + count)
    ]


def held(out: Path | str) -> dict[str, int]:
    """Words by recording, as the words table has them; no word twice."""
    words = load_tables(str(out), ["words"]).words
    assert not words.duplicated(["recording", "position"]).any()
    return words.groupby("recording").size().to_dict()


def words_of(*transcripts: Transcript) -> dict[str, int]:
    return {t.id: sum(len(turn.words) for turn in t.turns) for t in transcripts}
