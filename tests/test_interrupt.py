"""Being told to end, and running out of time, while C code turns what a signal raised into an
error of its own (torch's does: a ValueError about a shape was seen), or Python drops it."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from pipeline.records import SpeakerSegment
from pipeline.stage import Inputs
from stages.clustering.stage import SpeakerClustering
from tests.conftest import ROOT, hansard


def tell_this_process_to_end() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(10)


class TellsItsProcessToEnd(SpeakerClustering):
    """Gets SIGTERM while it works, and makes a ValueError of it."""

    def run(self, inputs: Inputs) -> tuple[()]:
        try:
            tell_this_process_to_end()
        except BaseException:
            raise ValueError("could not determine the shape of object type") from None
        return ()


class DropsTheSignal(SpeakerClustering):
    """Gets SIGTERM while it works, and goes on, as where an object is being disposed of."""

    def run(self, inputs: Inputs) -> tuple[SpeakerSegment, ...]:
        try:
            tell_this_process_to_end()
        except BaseException:
            return super().run(inputs)
        return ()


class TakesTooLong(SpeakerClustering):
    """Is stopped while it works, and makes a ValueError of it."""

    def run(self, inputs: Inputs) -> tuple[()]:
        try:
            time.sleep(60)
        except BaseException:
            raise ValueError("could not determine the shape of object type") from None
        return ()


def profile_with(stage: str, folder: Path) -> Path:
    profile = folder / "mine.yaml"
    default = (ROOT / "configs" / "default.yaml").read_text()
    profile.write_text(
        default.replace(
            "stages.clustering.stage:SpeakerClustering", f"tests.test_interrupt:{stage}"
        )
    )
    return profile


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    """A folder in which all but the clustering is done."""
    return Path(shutil.copytree(finished, tmp_path / "out"))


@pytest.mark.parametrize("stage", ["TellsItsProcessToEnd", "DropsTheSignal"])
def test_a_signal_that_was_swallowed_still_ends_the_run(
    stage: str, meeting: Path, out: Path, tmp_path: Path
) -> None:
    profile = profile_with(stage, tmp_path)
    call = hansard("transcribe", meeting, "--out", out, "--profile", profile)
    assert call.code == 130, call.stderr
    assert call.stderr.splitlines()[-1].endswith("the same command goes on from here")
    assert not list(out.glob("failures/*")) and not list(out.glob("claims/*"))


def test_a_time_limit_that_was_swallowed_is_named_as_the_reason(
    meeting: Path, out: Path, tmp_path: Path
) -> None:
    profile = profile_with("TakesTooLong", tmp_path)
    limit = ("--time-limit", "5")
    call = hansard("transcribe", meeting, "--out", out, "--profile", profile, *limit)
    assert call.code == 1, call.stderr
    (line,) = (line for line in call.stderr.splitlines() if line.startswith("FAILED"))
    assert line.endswith("stopped in stage clustering: it took longer than the time limit of 5 s")
