"""`make demo` on the whole bundled meeting: what it prints, and that it is as good as it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from jobs.evaluation import Evaluation, evaluate
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What the demo printed, and its output folder."""
    out = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "benchmarks.demo", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    return done.stdout, out


@pytest.fixture(scope="module")
def scores(demo: tuple[str, Path]) -> Evaluation:
    return evaluate(ROOT / "demo", demo[1])


def test_every_speaker_is_found(scores: Evaluation) -> None:
    counts = scores.overall.speakers
    assert (counts.hypothesis, counts.reference) == (5, 5)


def test_diarization_error_is_under_5_percent(scores: Evaluation) -> None:
    value = scores.overall.der_at(250).value
    assert value is not None and value < 0.05


def test_word_error_is_as_measured(scores: Evaluation) -> None:
    """Measured at 9.4 %; what is on top leaves room for rounding, not for a bug."""
    assert scores.overall.wer is not None and scores.overall.wer.value is not None
    assert scores.overall.wer.value < 0.12


def test_it_prints_transcript_scores_and_speed_and_writes_the_files(
    demo: tuple[str, Path],
) -> None:
    printed, out = demo
    for expected in ("S1", "S5", "cpWER", "DER", "RTF", "synthetic"):
        assert expected in printed
    for pattern in ("transcripts/*.json", "exports/*.srt", "exports/*.txt"):
        assert len(list(out.glob(pattern))) == 1
