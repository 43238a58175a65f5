"""Fine-tuning: a model of each kind learns a manifest, and what is written is a model folder in
the layout in which it came, which recognises better what it learnt."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks.folders import gigaam, paraformer
from tests.conftest import ROOT
from training.curves import read_log

ENGLISH = ("the budget", "who was there", "thank you all", "we begin again")
PIECES = ("banter torres", "it's banter", "kenbar a b", "torres torres")
RUSSIAN = ("да", "нет нет", "кто там", "год")


def bundled(folder: Path) -> Path:
    return ROOT / "stages" / "asr" / "bundled" / "en-ctc"


def small_paraformer(folder: Path) -> Path:
    return paraformer.make_folder(folder, "SeacoParaformer", paraformer.SMALL)


def small_gigaam(folder: Path) -> Path:
    return gigaam.make_folder(folder, "v3", layers=2, width=64)


def small_checkpoint(folder: Path) -> Path:
    return gigaam.make_folder(folder, "v2", layers=2, width=64)


def manifest(folder: Path, said: tuple[str, ...]) -> Path:
    """Clips of two seconds, of noise that is different in each, and what is "said" in them."""
    rows = []
    for at, text in enumerate(said):
        rng = np.random.default_rng(at)
        soundfile.write(folder / f"{at}.flac", 0.1 * rng.standard_normal(32000), 16000)
        rows.append(json.dumps({"audio": f"{at}.flac", "text": text}))
    (folder / "mine.jsonl").write_text("\n".join(rows) + "\n")
    return folder / "mine.jsonl"


def finetune(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "training.finetune", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400)


def losses(run: Path) -> list[tuple[float, float]]:
    return read_log(run / "log.jsonl")["loss"]


@pytest.mark.parametrize(
    ("make", "said", "rate", "steps"),
    [
        (bundled, ENGLISH, "3e-4", 20),
        (small_paraformer, PIECES, "2e-3", 40),
        (small_gigaam, RUSSIAN, "3e-3", 40),
        (small_checkpoint, RUSSIAN, "3e-3", 40),
    ],
)
def test_a_model_learns_a_manifest_and_keeps_its_layout(
    make: Callable[[Path], Path], said: tuple[str, ...], rate: str, steps: int, tmp_path: Path
) -> None:
    folder = make(tmp_path / "folder")
    run = tmp_path / "run"
    rows = manifest(tmp_path, said)
    asked = ("--model", folder, "--manifest", rows, "--rate", rate, "--steps", str(steps))
    call = finetune(*asked, "--out", run)
    assert call.returncode == 0, call.stderr
    (first, before), *_, (last, after) = losses(run)
    assert (first, last) == (10, steps)
    assert after < 0.6 * before
    files = {path.name for path in folder.iterdir() if path.is_file() and path.suffix != ".md"}
    assert {path.name for path in (run / "model").iterdir()} == files
    assert (run / "curves.png").stat().st_size > 5000


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return manifest(tmp_path, PIECES)


def test_what_was_interrupted_goes_on(tmp_path: Path, rows: Path) -> None:
    run = tmp_path / "run"
    asked = ("--model", small_paraformer(tmp_path / "m"), "--manifest", rows, "--out", run)
    assert finetune(*asked, "--steps", "10").returncode == 0
    call = finetune(*asked, "--steps", "30")
    assert call.returncode == 0, call.stderr
    assert [step for step, _ in losses(run)] == [10, 20, 30]


def test_two_workers_of_a_ray_cluster_learn_together(tmp_path: Path, rows: Path) -> None:
    run = tmp_path / "run"
    asked = ("--model", small_paraformer(tmp_path / "m"), "--manifest", rows, "--out", run)
    call = finetune(*asked, "--steps", "20", "--rate", "2e-3", "--workers", "2")
    assert call.returncode == 0, call.stderr
    assert [step for step, _ in losses(run)] == [10, 20]  # written by one of them
    assert (run / "model" / "model.pt").exists()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("not json", "mine.jsonl:1: not a line such as"),
        ('{"audio": "0.flac"}', "mine.jsonl:1: not a line such as"),
        ('{"audio": "0.flac", "text": "xylophone"}', "no utterance that the model can spell"),
        ('{"audio": "none.flac", "text": "banter"}', "none.flac"),
    ],
)
def test_a_manifest_that_is_none_is_named(
    tmp_path: Path, rows: Path, line: str, reason: str
) -> None:
    rows.write_text(line + "\n")
    model = small_paraformer(tmp_path / "m")
    call = finetune("--model", model, "--manifest", rows, "--out", tmp_path / "run")
    assert call.returncode == 2
    assert "Traceback" not in call.stderr and reason in call.stderr
