"""Segments in which no voice sounds: what is periodic is told from what is not, whatever the
windows, and paper, clothes and keys are no speech."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from scipy.signal import lfilter

from pipeline.records import Span
from stages.audio.features import Fbank
from stages.models import locate
from stages.vad.fsmn import load_fsmn
from stages.vad.posteriors import posteriors, windows
from stages.vad.voicing import VOICED, voiced_frames, voicing, with_voices
from tests.test_vad import BUNDLED, RATE, Memory, Samples, detect


@pytest.mark.parametrize(
    ("level", "silence", "voiced", "counts"),
    [
        (-30.0, 0.1, 0, False),  # paper
        (-30.0, 0.005, 0, True),  # a whisper
        (-62.0, 0.1, 0, True),  # nothing can be known in such noise
        (-30.0, 0.1, 20, True),  # "mm"
    ],
)
def test_what_has_no_voice_has_to_be_surer(
    level: float, silence: float, voiced: int, counts: bool
) -> None:
    decibel = np.repeat([-70.0, level, -70.0], 300).astype(np.float32)
    posterior = np.repeat([0.99, silence, 0.99], 300).astype(np.float32)
    sounds = np.zeros(900, bool)
    sounds[400 : 400 + voiced] = True
    span = Span(3000, 6000)
    assert list(with_voices([span], posterior, decibel, sounds, 0.98)) == [span] * counts
    assert list(with_voices([span], posterior, decibel, sounds, -1)) == [span]


def tone(pitch: float) -> Samples:
    """A second of a voice's overtones, 6 dB less an octave, and hiss 30 dB below."""
    time = np.arange(RATE) / RATE
    overtones = range(1, int(4000 / pitch))
    voice = sum(np.sin(2 * np.pi * n * pitch * time + n * n) / n for n in overtones)
    return (0.1 * voice + 0.002 * np.random.default_rng(1).standard_normal(RATE)).astype("f4")


@pytest.mark.parametrize("pitch", [75, 110, 210, 390, 600])
def test_voices_of_any_pitch_are_voiced(pitch: float) -> None:
    found = voicing(torch.from_numpy(tone(pitch)), torch.arange(3, 95))
    assert (found > VOICED).all()
    assert found.max() < 1.1


@pytest.mark.parametrize("slope", [0.0, 0.9, 0.995], ids=["hiss", "paper", "rumble"])
def test_noise_of_any_colour_is_not(slope: float) -> None:
    noise = np.random.default_rng(2).standard_normal(20 * RATE)
    coloured = torch.from_numpy(lfilter([1.0], [1.0, -slope], noise).astype("f4"))
    assert (voicing(coloured, torch.arange(1990)) > VOICED).float().mean() < 0.02


def test_voices_do_not_depend_on_windows(shared_data: Path) -> None:
    example = soundfile.read(shared_data / "fsmn-vad" / "vad_example.wav", dtype="float32")[0]
    model = load_fsmn(locate(BUNDLED, "stages.vad"))
    fbank = Fbank(model.config.fbank)
    samples = Memory(example[: 20 * RATE + 77])
    found = [
        np.concatenate(
            [
                voiced_frames(window, posteriors(window, model, fbank))
                for window in windows(samples.blocks(), model.config, frames)
            ]
        )
        for frames in (37, 700, 10**6)
    ]
    assert found[0].any() and not found[0].all()
    assert all((each == found[0]).all() for each in found)


def test_clothes_and_keys_are_no_speech(shared_data: Path) -> None:
    """Half a minute of a meeting in which there is more of them than of talk."""
    path = shared_data / "meetings-ami" / "trn02.flac"
    samples = soundfile.read(path, dtype="float32")[0]
    rows = map(json.loads, path.with_suffix(".words.jsonl").read_text().splitlines())
    spoken = [row for row in rows if not row["punctuation"]]
    words = [Span(round(1000 * w["start"]), round(1000 * w["end"])) for w in spoken]
    told, plain = detect(samples), detect(samples, voiceless_threshold=-1)
    assert sum(span.duration for span in told) < 2000 < 5000 < sum(s.duration for s in plain)
    assert all(any(span.overlap(word) > 0.8 * word.duration for span in told) for word in words)
