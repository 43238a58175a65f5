"""A recording is decoded once for all stages, as long as it is short enough to be kept."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline.errors import InputError
from pipeline.kept_audio import KeptAudio
from pipeline.stage import SAMPLE_RATE, Audio
from stages.audio.decode import AudioParameters, AudioSource

SECONDS = 5


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "noise.wav"
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, SECONDS * SAMPLE_RATE)
    soundfile.write(path, noise.astype(np.float32), SAMPLE_RATE, subtype="FLOAT")
    return path


def source(path: Path) -> AudioSource:
    return AudioSource(str(path), AudioParameters(block_ms=1000))


def heard(audio: Audio) -> list[tuple[int, bytes]]:
    return [(start, samples.tobytes()) for start, samples in audio.blocks()]


def test_after_one_pass_the_file_is_not_read_again(recording: Path) -> None:
    kept = KeptAudio(source(recording))
    first = heard(kept)
    assert first == heard(source(recording)) and len(first) == SECONDS
    recording.unlink()
    assert heard(kept) == first


def test_a_pass_that_ends_early_is_not_taken_for_the_whole(recording: Path) -> None:
    kept = KeptAudio(source(recording))
    assert len(list(islice(kept.blocks(), 2))) == 2
    assert heard(kept) == heard(source(recording))


@pytest.mark.parametrize("seconds", [1, SECONDS - 1])
def test_what_is_too_long_is_streamed_anew(recording: Path, seconds: int) -> None:
    kept = KeptAudio(source(recording), most=seconds * SAMPLE_RATE * 4)
    assert heard(kept) == heard(kept) == heard(source(recording))
    recording.unlink()
    with pytest.raises(InputError, match=r"noise\.wav"):
        heard(kept)
