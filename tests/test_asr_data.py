"""The recogniser's training speech: kept in files, disturbed, and transcribed by the recogniser."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jiwer
import numpy as np
import pytest
import soundfile

from tests.conftest import ROOT
from training.asr_data import Rooms, load_audio, read_items, spoken, write_items
from training.splits import read_manifest


def test_utterances_are_read_as_they_were_written(tmp_path: Path) -> None:
    said = [(np.full(1600, 0.5, np.float32), "one"), (np.full(800, -2.0, np.float32), "two")]
    write_items(said, tmp_path / "new")
    items = read_items([tmp_path / "new" / "recorded.pcm"])
    assert [(item.text, item.samples, item.recorded) for item in items] == [
        ("one", 1600, True),
        ("two", 800, True),
    ]
    raw = np.fromfile(tmp_path / "new" / "recorded.pcm", np.int16)
    assert raw[items[0].offset] == 16383
    assert raw[items[1].offset] == -32767, "clipped, not wrapped"


def test_one_in_four_has_somebody_talking_behind() -> None:
    rooms = Rooms([np.ones(8, np.float32)], np.random.default_rng(0))
    rng = np.random.default_rng(1)
    voice, other = rng.standard_normal((2, 16000)).astype(np.float32)
    behind = [rooms.overhear(voice, other) - voice for _ in range(200)]
    levels = [10 * np.log10(np.mean(b**2) / np.mean(voice**2)) for b in behind if b.any()]
    assert 30 < len(levels) < 75
    assert -30.1 < min(levels) < -25 and -15 < max(levels) < -7.9


@pytest.fixture
def untranscribed(shared_data: Path, tmp_path: Path) -> Path:
    """A held-in speaker's sentence, the same of a test speaker, and noise."""
    folder = tmp_path / "data" / "speakers-librispeech"
    folder.mkdir(parents=True)
    utterance = next(iter(read_manifest(shared_data / "asr-en-train-clean-5")))
    noise = np.random.default_rng(0).standard_normal(32000) * 0.05
    soundfile.write(folder / "voice.flac", load_audio(utterance.audio), 16000)
    soundfile.write(folder / "noise.flac", noise, 16000)
    rows = [("a", "voice", "train"), ("b", "voice", "test"), ("c", "noise", "train")]
    lines = [
        json.dumps(
            {"id": f"lb-{n}", "speaker": n, "seconds": 2.0, "audio": f"{f}.flac", "split": s}
        )
        for n, f, s in rows
    ]
    (folder / "manifest.jsonl").write_text("\n".join(lines))
    (tmp_path / "text").write_text(spoken(utterance.text))
    return tmp_path


def test_only_what_is_heard_well_is_learned_from(untranscribed: Path) -> None:
    arguments = ["--data", untranscribed / "data", "--out", untranscribed / "more"]
    command = [sys.executable, "-m", "training.pseudo_labels", *map(str, arguments)]
    subprocess.run(command, cwd=ROOT, check=True)
    (item,) = read_items([untranscribed / "more" / "recorded.pcm"])
    assert jiwer.wer((untranscribed / "text").read_text(), item.text) < 0.3
