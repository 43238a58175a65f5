"""How long the result tables take to build, to bring up to date and to open:
`python -m benchmarks.tables --recordings 5000`. The records are simulated, see `simulated`.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import TypeVar

import numpy as np

from jobs import load_tables
from jobs.ledger import Ledger
from jobs.tables.update import update_tables
from pipeline.job import recording_id
from pipeline.records import (
    Provenance,
    Recording,
    Sentence,
    SpeakerSegment,
    Transcript,
    Turn,
    Word,
)
from pipeline.storage import Folder
from pipeline.transcript import assemble, encode, to_json

Result = TypeVar("Result")
MOODS = ("neutral", "positive", "angry", "sad")
TEXT = (
    "the and we to that is it of I in you for on have with this are not but they what can was "
    "all will so about if there do just think one more budget council water road school proposal "
    "meeting minutes agreed question number report"
)
VOCABULARY = TEXT.split()
PATTERNS = 200  # different records; the others differ from them in name and date


def simulated(uri: str, words: int, seed: int) -> Transcript:
    """A meeting of two to six people, unequally talkative, in turns of some twenty words; one
    turn in ten starts before the one before it has ended. The mood worsens over the meeting."""
    random = np.random.default_rng(seed)
    people = int(random.integers(2, 7))
    talkative = 1 / np.arange(1, people + 1)
    turns: list[Turn] = []
    end, left = 0, words
    while left > 0:
        count = min(left, int(random.integers(5, 36)))
        left -= count
        who = int(random.choice(people, p=talkative / talkative.sum()))
        early = random.random() < 0.1 and bool(turns) and turns[-1].speaker != str(who)
        pause = -random.integers(300, 900) if early else random.integers(200, 2000)
        turns.append(_turn(str(who), max(0, end + int(pause)), count, 1 - left / words, random))
        end = turns[-1].span.end
    return assemble(
        Recording(recording_id(uri), uri, str(seed), end, 1, 16000),
        "en",
        turns,
        [SpeakerSegment(*turn.span, turn.speaker) for turn in turns],
        Provenance("default", "0", str(seed)),
    )


def _turn(
    speaker: str, start: int, count: int, progress: float, random: np.random.Generator
) -> Turn:
    lengths = random.integers(120, 480, count)
    starts = start + np.concatenate([[0], np.cumsum(lengths + 40)[:-1]])
    texts = random.choice(VOCABULARY, count).tolist()
    texts[-1] += "."
    words = tuple(
        Word(text, int(at), int(at + length), round(float(confidence), 4))
        for text, at, length, confidence in zip(
            texts, starts, lengths, random.beta(8, 2, count), strict=True
        )
    )
    scores = random.dirichlet([4, 2 - progress, 0.3 + 2 * progress, 0.5]).round(4)
    emotion = dict(zip(MOODS, scores.tolist(), strict=True))
    return Turn(speaker, (Sentence(words),), emotion, max(emotion, key=emotion.__getitem__))


def write_archive(out: Path, first: int, count: int, words: int) -> None:
    """Records `first` to `first + count`, 100 a day from 2020 on, as `transcribe` leaves them."""
    folder = out / "transcripts"
    folder.mkdir(parents=True, exist_ok=True)
    patterns = [
        (made.id, made.uri, encode(to_json(made)).decode())
        for made in (simulated(f"/pattern/{n}.wav", words, n) for n in range(min(PATTERNS, count)))
    ]
    for number in range(first, first + count):
        day = date(2020, 1, 1) + timedelta(days=number // 100)
        uri = f"/archive/{day:%Y/%m/%d}/meeting-{number:06}.wav"
        old_id, old_uri, record = patterns[number % len(patterns)]
        record = record.replace(old_uri, uri, 1).replace(old_id, recording_id(uri), 1)
        (folder / f"{recording_id(uri)}.json").write_text(record)


def _timed(what: str, work: Callable[[], Result]) -> Result:
    began, worked = time.perf_counter(), time.process_time()
    result = work()
    wall, cpu = time.perf_counter() - began, time.process_time() - worked
    print(f"| {what} | {wall:.2f} s | {cpu:.2f} s |", flush=True)
    return result


def measure(out: Path, recordings: int, words: int) -> None:
    """Prints a row of a Markdown table for each thing that an archive's keeper waits for."""
    write_archive(out, 0, recordings, words)
    ledger = Ledger(Folder(str(out)))

    def update() -> str:
        done = update_tables(ledger, lambda *_: None)
        return f"{done.added} new, {done.changed} changed, {done.parts} parts, {done.rows}"

    print(f"\n| {recordings} recordings of {words} words | wall | CPU |\n| --- | --- | --- |")
    print(f"| | {_timed('first build', update)} | |")
    files = [path for path in (out / "tables").rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 1e6
    records = sum(path.stat().st_size for path in (out / "transcripts").iterdir()) / 1e6
    print(f"| files, size | {len(files)}, {size:.0f} MB of {records:.0f} MB of records | |")
    _timed("nothing to do", update)
    write_archive(out, recordings, 10, words)
    print(f"| | {_timed('10 new recordings', update)} | |")
    one = sorted((out / "transcripts").iterdir())[recordings // 2]
    os.utime(one)
    _timed("1 changed recording", update)

    found = _timed("open all recordings", lambda: load_tables(str(out), ["recordings"]))
    middle = found.recordings.recorded_at.median()
    only = {"recordings": [("recording", "==", one.stem)]}
    _timed("open one recording, all tables", lambda: load_tables(str(out), filters=only))
    day = {"recordings": [("recorded_at", "==", middle)]}
    _timed("open one day, all tables", lambda: load_tables(str(out), filters=day))
    unsure = {"words": [("confidence", "<", 0.4)]}
    text = {"words": ["recording", "text", "confidence"]}
    _timed(
        "open uncertain words, 3 columns",
        lambda: load_tables(str(out), ["words"], columns=text, filters=unsure),
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"| peak memory | {peak:.0f} MB | |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=int, default=5000)
    parser.add_argument("--words", type=int, default=300, help="words in a recording")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), arguments.recordings, arguments.words)


if __name__ == "__main__":
    main()
