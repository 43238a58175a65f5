"""Speaker embeddings: the network's layout, the windows, and voices told apart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from benchmarks.speakers import GROUPS, held_out_trials
from pipeline.errors import ModelError
from pipeline.records import Span
from pipeline.stage import Block, Inputs
from stages.models import ModelFolder, save_model
from stages.speakers.campplus import CamPlusPlus, CamPlusPlusSizes
from stages.speakers.embedder import load_embedder
from stages.speakers.stage import CamPlusPlusParameters, CamPlusPlusStage, windows


class Samples:
    """Audio from memory, in blocks of `block` samples."""

    def __init__(self, samples: np.ndarray, block: int = 16000) -> None:
        self.samples, self.block = samples, block
        self.notes: list[str] = []

    def blocks(self) -> Iterator[Block]:
        for start in range(0, len(self.samples), self.block):
            yield Block(start, self.samples[start : start + self.block])


@pytest.fixture(scope="module")
def two_voices(shared_data: Path) -> np.ndarray:
    """10 s of one held-out speaker, then 10 s of another."""
    folder = shared_data / "speakers-librispeech"
    clips = [sorted(folder.glob(f"lb-{name}/*.opus"))[:2] for name in ("1688", "2414")]
    pairs = [
        np.concatenate([soundfile.read(c, dtype="float32")[0] for c in pair]) for pair in clips
    ]
    return np.concatenate([voice[:160000] for voice in pairs])


def embed(
    samples: np.ndarray, segments: tuple[Span, ...], batch_size: int = 64, block: int = 16000
):
    stage = CamPlusPlusStage(CamPlusPlusParameters(batch_size=batch_size))
    stage.load()
    return stage.run(Inputs(Samples(samples, block), {"vad": segments}))


def test_published_sizes_have_the_published_parameters() -> None:
    network = CamPlusPlus()
    state = network.state_dict()
    assert sum(p.numel() for p in network.parameters()) == 6848544
    assert state["head.layer2.0.shortcut.0.weight"].shape == (32, 32, 1, 1)
    assert state["xvector.tdnn.linear.weight"].shape == (128, 320, 5)
    assert state["xvector.block2.tdnnd24.cam_layer.linear_local.weight"].shape == (32, 128, 3)
    assert state["xvector.transit3.linear.weight"].shape == (512, 1024, 1)
    assert state["xvector.dense.linear.weight"].shape == (192, 1024, 1)
    assert "xvector.dense.nonlinear.batchnorm.running_mean" in state
    assert "xvector.dense.nonlinear.batchnorm.weight" not in state


def test_a_folder_of_3d_speaker_needs_no_config(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = CamPlusPlus(CamPlusPlusSizes(embedding_size=512))
    torch.save(network.state_dict(), tmp_path / "campplus_voxceleb.bin")
    loaded = load_embedder(ModelFolder(tmp_path))
    assert loaded(torch.randn(2, 24_000)).shape == (2, 512)
    torch.save({"another.weight": torch.zeros(3)}, tmp_path / "campplus_voxceleb.bin")
    with pytest.raises(ModelError, match="neither a CAM"):
        load_embedder(ModelFolder(tmp_path))


@pytest.mark.parametrize(
    ("segment", "expected"),
    [
        (Span(0, 200), [(0, 200)]),
        (Span(40, 1539), [(40, 1539)]),
        (Span(0, 1500), [(0, 1500)]),
        (Span(0, 1501), [(0, 1500), (1, 1501)]),
        (Span(100, 2350), [(100, 1600), (850, 2350)]),
        (Span(0, 10000), [(s, s + 1500) for s in (*range(0, 8500, 750), 8500)]),
    ],
)
def test_windows_cover_a_segment_and_end_with_it(
    segment: Span, expected: list[tuple[int, int]]
) -> None:
    assert windows([segment], 1500, 750) == expected


def test_embeddings_of_real_speech(two_voices: np.ndarray) -> None:
    segments = (Span(0, 150), Span(300, 900), Span(1000, 7800), Span(10200, 12000))
    result = embed(two_voices, segments)
    assert result.spans.tolist() == [list(w) for w in windows(segments, 1500, 750)]
    assert result.spans.dtype == np.int32
    assert result.vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(result.vectors, axis=1), 1, atol=1e-5)
    again = embed(two_voices, segments)
    assert np.array_equal(result.vectors, again.vectors)


def test_batches_and_blocks_do_not_change_the_result(two_voices: np.ndarray) -> None:
    segments = (Span(0, 700), Span(1000, 6000), Span(12200, 14000))
    whole = embed(two_voices, segments)
    for batch_size, block in ((1, 5000), (7, 160001)):
        parts = embed(two_voices, segments, batch_size, block)
        assert np.array_equal(whole.spans, parts.spans)
        np.testing.assert_allclose(whole.vectors, parts.vectors, atol=2e-5)


def test_a_voice_is_nearer_to_itself_than_to_another(two_voices: np.ndarray) -> None:
    result = embed(two_voices, (Span(0, 10000), Span(10000, 20000)))
    similar = result.vectors @ result.vectors.T
    first = result.spans[:, 1] <= 10000
    within = (similar[np.ix_(first, first)].mean() + similar[np.ix_(~first, ~first)].mean()) / 2
    assert within > similar[np.ix_(first, ~first)].mean() + 0.3


def test_level_hardly_matters(two_voices: np.ndarray) -> None:
    segments = (Span(0, 20000),)
    loud, quiet = embed(two_voices, segments), embed(two_voices * 0.1, segments)
    assert np.median((loud.vectors * quiet.vectors).sum(axis=1)) > 0.8


def test_no_speech_gives_no_embeddings() -> None:
    result = embed(np.zeros(16000, np.float32), ())
    assert result.spans.shape == (0, 2)
    assert result.vectors.shape == (0, 192)
    assert (result.spans.dtype, result.vectors.dtype) == (np.int32, np.float32)


@pytest.mark.parametrize("samples", [0, 1, 8000])
def test_a_segment_past_the_end_still_gets_a_vector(samples: int) -> None:
    result = embed(np.zeros(samples, np.float32), (Span(0, 600),))
    assert result.vectors.shape == (1, 192)
    assert np.isfinite(result.vectors).all()


def test_held_out_speakers_are_told_apart(shared_data: Path, bundled: ModelFolder) -> None:
    trials = held_out_trials(shared_data, next(iter(GROUPS.values())))
    embedder = load_embedder(bundled)
    with torch.inference_mode():
        assert trials.equal_error_rate(embedder) < 7


@pytest.fixture(scope="module")
def bundled() -> ModelFolder:
    root = Path(__file__).resolve().parents[1]
    return ModelFolder(root / "stages" / "speakers" / "bundled" / "campplus-en")


def test_a_published_folder_loads_and_a_wrong_one_says_why(tmp_path: Path) -> None:
    small = CamPlusPlusSizes(
        growth_rate=8, init_channels=16, head_channels=4, block_layers=(2, 2, 2)
    )
    conf = {"embedding_size": 192, "growth_rate": 8, "init_channels": 16, "head_channels": 4}
    conf |= {"block_layers": [2, 2, 2], "config_str": "batchnorm-relu", "memory_efficient": True}
    state = CamPlusPlus(small).state_dict()
    save_model(tmp_path / "good", state, {"model": "CAMPPlus", "model_conf": conf})
    assert load_embedder(ModelFolder(tmp_path / "good")).network.sizes == small
    save_model(tmp_path / "sizes", state, {"model": "CAMPPlus", "model_conf": {}})
    with pytest.raises(ModelError, match="not these sizes"):
        load_embedder(ModelFolder(tmp_path / "sizes"))
    save_model(tmp_path / "kind", state, {"model": "ERes2Net"})
    with pytest.raises(ModelError, match="ERes2Net"):
        load_embedder(ModelFolder(tmp_path / "kind"))
    save_model(tmp_path / "key", state, {"model": "CAMPPlus", "model_conf": {"growth": 8}})
    with pytest.raises(ModelError, match="growth"):
        load_embedder(ModelFolder(tmp_path / "key"))
