"""Log-mel features against Kaldi's, and FunASR's frontend against its rule and its output."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import kaldi_native_fbank
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from stages.audio.cutting import pad
from stages.audio.features import Cmvn, Fbank, FbankOptions, load_cmvn, save_cmvn, stack_frames
from tests.audio_files import read

SEVENTY_DB = 7 * np.log(10)
SPEECH = "asr-en-dev-clean/ls-1673/*.opus"


@pytest.fixture(scope="module")
def speech(shared_data: Path) -> list[NDArray[np.float32]]:
    """Three real utterances of different lengths, one of them cut to an odd number of samples."""
    found = [read(path)[0] for path in sorted(shared_data.glob(SPEECH))[:3]]
    return [found[0][:50_123], found[1], found[2]]


def kaldi(samples: NDArray[np.float32], window: str, snip_edges: bool) -> NDArray[np.float32]:
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.window_type = window
    options.frame_opts.snip_edges = snip_edges
    options.mel_opts.num_bins = 80
    computer = kaldi_native_fbank.OnlineFbank(options)
    computer.accept_waveform(16000, (samples * 32768).tolist())
    computer.input_finished()
    return np.stack([computer.get_frame(i) for i in range(computer.num_frames_ready)])


@pytest.mark.parametrize("snip_edges", [True, False])
@pytest.mark.parametrize("window", ["hamming", "povey"])
def test_equal_to_kaldi(
    window: Literal["hamming", "povey"], snip_edges: bool, speech: list[NDArray[np.float32]]
) -> None:
    fbank = Fbank(FbankOptions(window=window, snip_edges=snip_edges))
    features, frames = fbank(*pad(list(enumerate(speech))))
    for row, samples in enumerate(speech):
        expected = kaldi(samples, window, snip_edges)
        assert int(frames[row]) == len(expected)
        difference = np.abs(features[row, : len(expected)].numpy() - expected)
        audible = expected > expected.max(axis=1, keepdims=True) - SEVENTY_DB
        assert difference[audible].max() < 1e-3
        # Further down, both are what float32 leaves of a difference of large numbers: against
        # double precision, kaldi-native-fbank is as far off as this is.
        assert (difference > 1e-3).mean() < 2e-4
        assert difference.max() < 0.1


@pytest.mark.parametrize("snip_edges", [True, False])
def test_digital_silence_is_at_kaldis_floor(snip_edges: bool) -> None:
    silence = np.zeros(16000, dtype=np.float32)
    fbank = Fbank(FbankOptions(snip_edges=snip_edges))
    features, _ = fbank(*pad([(0, silence)]))
    assert np.abs(features[0].numpy() - kaldi(silence, "hamming", snip_edges)).max() < 1e-3


@pytest.mark.parametrize("snip_edges", [True, False])
def test_a_batch_gives_what_each_row_gives_alone(
    snip_edges: bool, speech: list[NDArray[np.float32]]
) -> None:
    fbank = Fbank(FbankOptions(snip_edges=snip_edges))
    rows = [*speech, speech[0][:400], speech[0][:399], speech[0][:1]]
    features, frames = fbank(*pad(list(enumerate(rows))))
    stacked, counts = stack_frames(features, frames, 7, 6)
    for row, samples in enumerate(rows):
        alone, count = fbank(*pad([(0, samples)]))
        assert int(frames[row]) == int(count[0])
        assert torch.allclose(features[row, : int(count[0])], alone[0], atol=1e-4)
        assert not features[row, int(count[0]) :].any()
        alone, count = stack_frames(alone, count, 7, 6)
        assert int(counts[row]) == int(count[0])
        assert torch.allclose(stacked[row, : int(count[0])], alone[0], atol=1e-4)


def test_dc_offset_makes_no_difference(speech: list[NDArray[np.float32]]) -> None:
    fbank = Fbank()
    plain, _ = fbank(*pad([(0, speech[0])]))
    moved, _ = fbank(*pad([(0, speech[0] + np.float32(0.125))]))
    # Where a band holds next to nothing, the rounding of the larger samples is heard.
    assert float((plain - moved).abs().mean()) < 1e-2


def stacked_by_rule(features: NDArray[np.float32], m: int, n: int) -> NDArray[np.float32]:
    """FunASR's rule, frame by frame: (m - 1) // 2 copies of the first frame go in front, the
    last frame fills up the end, and every n-th window of m frames is one output frame."""
    left = (m - 1) // 2
    out = []
    for number in range(-(-len(features) // n)):
        window = [number * n + k - left for k in range(m)]
        out.append(np.concatenate([features[min(max(at, 0), len(features) - 1)] for at in window]))
    return np.stack(out)


@pytest.mark.parametrize(("m", "n"), [(7, 6), (5, 1), (1, 1), (4, 3)])
@pytest.mark.parametrize("frames", [1, 2, 6, 7, 50])
def test_low_frame_rate(m: int, n: int, frames: int) -> None:
    features = np.random.default_rng(frames).standard_normal((frames, 3)).astype(np.float32)
    stacked, counts = stack_frames(torch.from_numpy(features)[None], torch.tensor([frames]), m, n)
    expected = stacked_by_rule(features, m, n)
    assert counts.tolist() == [len(expected)]
    assert np.array_equal(stacked[0].numpy(), expected)


def test_cmvn_file_there_and_back(tmp_path: Path) -> None:
    cmvn = Cmvn(shift=torch.randn(400), scale=torch.rand(400) + 0.1)
    save_cmvn(tmp_path / "am.mvn", cmvn)
    again = load_cmvn(tmp_path / "am.mvn")
    features = torch.randn(2, 5, 400)
    assert torch.allclose(again(features), (features + cmvn.shift) * cmvn.scale, atol=1e-5)
    (tmp_path / "am.mvn").write_text("not a model")
    with pytest.raises(ValueError, match=r"am\.mvn"):
        load_cmvn(tmp_path / "am.mvn")


def test_frontend_equals_funasr(shared_data: Path) -> None:
    """The first 100 frames of the published VAD's example: fbank, stacking and CMVN at once."""
    folder = shared_data / "fsmn-vad"
    samples, _ = read(folder / "vad_example.wav")
    reference = np.load(folder / "vad_example.reference.npz")
    features, frames = Fbank()(*pad([(0, samples)]))
    stacked, counts = stack_frames(features, frames, 5, 1)
    normalised = load_cmvn(folder / "am.mvn")(stacked)
    assert counts.tolist() == [len(reference["silence_posterior"])]
    expected = reference["features_first_100"]
    assert np.abs(normalised[0, :100].numpy() - expected).max() < 1e-3
