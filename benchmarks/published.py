"""A real hour of speech through a profile of published models, from folders in their published
layouts: whether the record holds together, seconds of each stage, and peak memory.

    python -m benchmarks.published --data ../shared/data --profile paraformer-zh --minutes 60

The weights are random (`benchmarks.folders`) but for those of the VAD, which are the published
ones: as much work as with trained weights, words without sense, and voices that are not told apart,
so that the number of speakers is given.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import chain, pairwise, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.folders import campplus, ct_transformer, gigaam
from benchmarks.folders import paraformer as paraformer_folders
from pipeline.memory import release
from training.splits import read_manifest

ROOT = Path(__file__).resolve().parents[1]
RATE = 16_000
SPEECH = ("asr-zh-aishell-sample", "asr-en-dev-clean", "asr-en-commonvoice")
PAUSE = np.zeros(int(0.6 * RATE), np.float32)
PROFILES = ("paraformer-zh", "paraformer-en", "gigaam-ru")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder shared/data")
    parser.add_argument("--profile", choices=PROFILES, required=True)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--work", type=Path, default=Path("/tmp/hansard-published"))
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    speech = arguments.work / f"speech-{arguments.minutes:g}.wav"
    if not speech.exists():
        write_speech(speech, arguments.data, arguments.minutes * 60)
    models = make_models(arguments.profile, arguments.work, arguments.data)
    release()  # gigabytes of weights
    settings = [f"{stage}.model={folder}" for stage, folder in models.items()]
    out = arguments.work / f"out-{arguments.profile}"
    shutil.rmtree(out, ignore_errors=True)
    spent = transcribe(speech, out, arguments.profile, [*settings, *arguments.settings])
    (path,) = (out / "transcripts").glob("*.json")
    record = json.loads(path.read_text("utf-8"))
    check(record)
    show(record, arguments.profile, spent)


def write_speech(path: Path, data: Path, seconds: float) -> None:
    """Utterances of three corpora in turn, with pauses."""
    left = int(seconds * RATE)
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16") as sink:
        for samples in spoken(data):
            sink.write(np.concatenate([samples, PAUSE])[:left])
            left -= len(samples) + len(PAUSE)
            if left <= 0:
                return
    raise SystemExit(f"{data}: less than {seconds:g} s of speech in {', '.join(SPEECH)}")


def spoken(data: Path) -> Iterator[np.ndarray]:
    """The utterances of each corpus in turn, as samples."""
    corpora = [read_manifest(data / name) for name in SPEECH]
    for utterance in chain.from_iterable(zip_longest(*corpora)):
        if utterance is not None:
            yield soundfile.read(utterance.audio, dtype="float32")[0]


def make_models(profile: str, work: Path, data: Path) -> dict[str, Path]:
    """The model folder of each stage; those that are there from an earlier call stay."""
    shelf = work / "models"

    def made(name: str, make: Any, *sizes: Any, **more: Any) -> Path:
        folder: Path = shelf / name
        if not folder.exists():
            partial = shelf / f"{name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            make(partial, *sizes, **more).rename(folder)
        return folder

    found = {"vad": data / "fsmn-vad", "embedding": made("campplus", campplus.make_folder)}
    if profile == "gigaam-ru":
        excerpt = torch.from_numpy(next(spoken(data)))
        found["asr"] = made("gigaam-v3", gigaam.make_folder, "v3_e2e", excerpt)
        found["emotion"] = made("gigaam-emo", gigaam.make_folder, "emo")
        return found
    kind, tokens = ("SeacoParaformer", 8404) if profile.endswith("zh") else ("Paraformer", 10_020)
    large = paraformer_folders.LARGE
    found["asr"] = made(profile, paraformer_folders.make_folder, kind, large, tokens=tokens)
    found["punctuation"] = made("ct-punc-large", ct_transformer.make_folder, ct_transformer.LARGE)
    return found


class Spent(NamedTuple):
    """Of a whole command: seconds on the wall and of CPU, and its peak of memory in MB."""

    seconds: float
    cpu: float
    peak: float


def transcribe(speech: Path, out: Path, profile: str, settings: Iterable[str]) -> Spent:
    """As a user calls it."""
    command = [sys.executable, "-m", "jobs.cli", "transcribe", str(speech), "--out", str(out)]
    command += [
        "--profile",
        profile,
        "--speakers",
        "5",
        *chain.from_iterable(("--set", one) for one in settings),
    ]
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"hansard transcribe ended with {os.waitstatus_to_exitcode(status)}")
    seconds = time.perf_counter() - began
    return Spent(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def check(record: dict[str, Any]) -> None:
    """AssertionError where the record does not hold together."""
    assert record["status"] == "done"
    known = {speaker["label"] for speaker in record["speakers"]}
    turns = record["turns"]
    words = [word for turn in turns for word in turn["words"]]
    assert len(words) > record["duration"] / 6000, "ten words a minute, and more"
    assert all(turn["speaker"] in known for turn in turns)
    assert all(0 <= w["start"] < w["end"] <= record["duration"] for w in words)
    assert all(0 < w["confidence"] <= 1 for w in words)
    assert all(a["start"] <= b["start"] for a, b in pairwise(turns))
    for turn in turns:
        assert all(a["end"] <= b["start"] for a, b in pairwise(turn["words"]))
        assert turn["start"] <= turn["words"][0]["start"] and turn["text"]
    marks = sum(turn["text"].count(mark) for turn in turns for mark in "。？.?!")
    assert marks > len(words) / 100, "sentences end with marks"
    stages = record["provenance"]["stages"]
    assert {"vad", "asr", "punctuation", "embedding", "emotion"} <= {s["stage"] for s in stages}
    assert all(s["weights"].startswith("sha256:") for s in stages if s["model"])


def show(record: dict[str, Any], profile: str, spent: Spent) -> None:
    """Prints the table."""
    long = record["duration"] / 1000
    words = sum(len(turn["words"]) for turn in record["turns"])
    table = Table("stage", "seconds", "a second of audio", title=f"{profile}, {long / 60:.0f} min")
    for stage in record["provenance"]["stages"]:
        table.add_row(stage["stage"], f"{stage['seconds']:.1f}", f"{stage['seconds'] / long:.4f}")
    table.add_row("whole command", f"{spent.seconds:.1f}", f"{spent.seconds / long:.4f}")
    table.add_row("its CPU time", f"{spent.cpu:.1f}", f"{spent.cpu / long:.4f}")
    console = Console()
    console.print(table)
    console.print(
        f"{len(record['turns'])} turns, {words} words, {len(record['speakers'])} speakers, "
        f"peak memory {spent.peak:.0f} MB"
    )


if __name__ == "__main__":
    main()
