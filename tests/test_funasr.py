"""Equal to FunASR on the same weights, at the sizes that are published: Paraformer-large in its
three kinds, CT-Transformer, CAM++ and FSMN-VAD, each from a folder as it is on the hub."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from benchmarks.folders import campplus, ct_transformer, fsmn_vad
from benchmarks.folders.paraformer import LARGE, SPECIAL, make_folder, vocabulary
from pipeline.memory import release
from pipeline.records import Word
from pipeline.stage import Inputs
from stages.asr.paraformer_stage import ParaformerAsr, ParaformerParameters, ParaformerRecogniser
from stages.asr.pieces import join_tokens
from stages.models import ModelFolder
from stages.punctuation.segmenting import tokenise
from stages.punctuation.stage import Punctuator
from stages.speakers.embedder import load_embedder
from stages.vad.stage import FsmnVad, FsmnVadParameters
from tests import audio_files, funasr_peer
from tests.funasr_peer import Samples
from tests.speech import FEW_HOTWORDS, MANY_HOTWORDS, batch, segments, spoken

CLOSE = 1e-4
KINDS = {"Paraformer": 10_020, "BiCifParaformer": 8404, "SeacoParaformer": 8404}
"""paraformer-en, and two of paraformer-zh's, with the size of their vocabularies."""


@pytest.fixture(scope="module")
def rows() -> list[Samples]:
    """Segments of the demo meeting, and odd ones: digital silence, one single frame, noise."""
    drawn = np.random.default_rng(3).standard_normal(16_000).astype(np.float32)
    odd = [np.zeros(9000, np.float32), 0.05 * drawn[:400], 0.1 * drawn[:977], np.clip(drawn, -1, 1)]
    return [*segments(5), *odd]


@pytest.fixture(scope="module")
def real(shared_data: Path) -> list[Samples]:
    """Segments of real meetings, in which people talk at once."""
    found = []
    for path in sorted((shared_data / "meetings-ami").glob("*.flac"))[:2]:
        samples = soundfile.read(path, dtype="float32")[0]
        for start, seconds in [(0, 5.0), (90_000, 2.7), (200_000, 9.1)]:
            found.append(samples[start : start + int(16000 * seconds)])
    return found


@dataclass(frozen=True)
class Pair:
    """FunASR and Hansard, with the weights of one folder."""

    kind: str
    peer: funasr_peer.Recogniser
    model: ParaformerRecogniser
    stage: ParaformerAsr

    def expecting(self, hotwords: str) -> ParaformerRecogniser:
        """Ours, with hotwords."""
        if not hotwords:
            return self.model
        expecting = self.stage.parameters.model_copy(update={"hotwords": hotwords})
        known, _ = ParaformerAsr(expecting)._spelt()
        assert known
        spelt = self.model.network.represent(known, self.model.layout.start)
        return replace(self.model, hotwords=spelt)


@pytest.fixture(scope="module", params=KINDS)
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp(request.param)
    make_folder(folder, request.param, LARGE, tokens=KINDS[request.param])
    release()  # a gigabyte, as each of the following is
    peer = funasr_peer.Recogniser(folder)
    release()
    stage = ParaformerAsr(ParaformerParameters(model=str(folder)))
    stage.load()
    assert isinstance(stage._recogniser, ParaformerRecogniser)
    yield Pair(request.param, peer, stage._recogniser, stage)
    shutil.rmtree(folder)


def test_features_encoder_and_predictor_are_funasr_s(pair: Pair, rows: list[Samples]) -> None:
    for row in rows:
        features, encoded, alphas = pair.peer.inside(row)
        with torch.inference_mode():
            found, frames = pair.model.features(*batch(row))
            ours = pair.model.network.encoder(found, frames)
            weights = pair.model.network.predictor(ours, frames)[0]
        torch.testing.assert_close(found[0], features, atol=CLOSE, rtol=0)
        torch.testing.assert_close(ours[0], encoded, atol=CLOSE, rtol=0)
        torch.testing.assert_close(weights[0], alphas, atol=CLOSE, rtol=0)


def heard(model: ParaformerRecogniser, *rows: Samples) -> list[list[Any]]:
    """As `Recogniser.hear` of the peer."""
    found = model.tokens(*batch(*rows))
    return [[[t.text for t in row], [[t.start, t.end] for t in row]] for row in found]


@pytest.mark.parametrize("hotwords", ["", FEW_HOTWORDS, MANY_HOTWORDS])
def test_tokens_and_times_are_funasr_s_alone_and_in_a_batch(
    pair: Pair, rows: list[Samples], hotwords: str
) -> None:
    """FunASR reads one segment at a time: in its batches, padding reaches the predictor and the
    times, and all segments share the hotwords that the first of them attends to."""
    if hotwords and pair.kind != "SeacoParaformer":
        pytest.skip("only SeACo knows hotwords")
    expected = [pair.peer.hear(row, hotwords) for row in rows]
    model = pair.expecting(hotwords)
    assert heard(model, *rows) == expected
    assert [heard(model, row)[0] for row in rows] == expected
    assert len({token for tokens, _ in expected for token in tokens}) > 20


def test_tokens_and_times_of_real_meetings_are_funasr_s(pair: Pair, real: list[Samples]) -> None:
    """FunASR's plain Paraformer swaps what it needs for times (issue 3723, mended after 1.4.16);
    the peer has them in order. Even so, once in some 70 segments its times differ: a sum that is
    0.0001 short of a whole number counts for it as a token, and the next frame, in which it is
    complete, as another. No such segment is among these."""
    hotwords = FEW_HOTWORDS if pair.kind == "SeacoParaformer" else ""
    expected = [pair.peer.hear(row, hotwords) for row in real]
    assert heard(pair.expecting(hotwords), *real) == expected


def test_tokens_are_joined_as_funasr_joins_them() -> None:
    known = [token for token in vocabulary(400) if token not in (*SPECIAL, "<unk>", "'")]
    for tokens in funasr_peer.spellings(known, 500):
        spoken_at = [Word(text, 100 * at, 100 * at + 90, 0.5) for at, text in enumerate(tokens)]
        found = join_tokens(spoken_at)
        spans = [[word.start, word.end] for word in found]
        assert [[word.text for word in found], spans] == funasr_peer.joined(tokens)


# punctuation ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "marks", "lengths"),
    [
        (ct_transformer.SMALL, 0.0, (1, 2, 20, 21, 41, 900)),
        (ct_transformer.SMALL, -1.5, (500,)),
        (ct_transformer.ZH_EN, 0.5, (20, 300)),
        (ct_transformer.LARGE, 0.5, (1, 130)),
    ],
)
def test_marks_are_funasr_s(
    sizes: tuple[int, tuple[int, ...]], marks: float, lengths: tuple[int, ...], tmp_path: Path
) -> None:
    folder = ct_transformer.make_folder(tmp_path / "punctuation", sizes, marks)
    punctuator = Punctuator.read(ModelFolder(folder))
    peer = funasr_peer.auto_model(folder)
    shutil.rmtree(folder)  # up to a gigabyte
    rows, counts = torch.randint(0, sizes[0], (3, 70)), torch.tensor([70, 41, 1])
    with torch.inference_mode():
        ours, _ = punctuator.network(rows, counts)
        theirs, _ = peer.model.punc_forward(rows, counts)
    for row, count in enumerate(counts.tolist()):
        torch.testing.assert_close(ours[row, :count], theirs[row, :count], atol=CLOSE, rtol=0)
    seen: set[int] = set()
    for length in lengths:
        words = spoken(length)
        found = punctuator.read_on(words).tolist()
        assert found == funasr_peer.marks(peer, words)
        seen |= set(found)
    assert {1, 3} < seen


def test_marks_of_chinese_words_are_funasr_s(tmp_path: Path) -> None:
    folder = ct_transformer.make_folder(tmp_path, marks=0.0)
    (folder / "jieba_usr_dict").write_text("恒大会议 100\n", "utf-8")
    punctuator = Punctuator.read(ModelFolder(folder))
    tokens, _ = tokenise(["so", *"我们的恒大会议时间"], punctuator.segment)
    assert tokens == ["so", "我们", "的", "恒大会议", "时间"]
    words = [*"我们的时间会议恒大会议" * 9, "the", "meeting"]
    found = punctuator.read_on(words).tolist()
    # FunASR's marks are those after each token; ours after each word as it was recognised.
    assert found == funasr_peer.marks(funasr_peer.auto_model(folder), words)


# speakers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dimensions", campplus.WEIGHTS)
def test_embeddings_are_funasr_s(dimensions: int, rows: list[Samples], tmp_path: Path) -> None:
    folder = campplus.make_folder(tmp_path, dimensions)
    peer, embedder = funasr_peer.auto_model(folder), load_embedder(ModelFolder(folder))
    windows = [np.resize(row, 24_000) for row in rows if row.any()]
    with torch.inference_mode():
        together = embedder(torch.from_numpy(np.stack(windows)))
        for window, found in zip(windows, together, strict=True):
            alone = peer.generate(input=torch.from_numpy(window.copy()))[0]["spk_embedding"][0]
            assert alone.shape == (dimensions,)
            assert torch.cosine_similarity(alone, found, dim=0) > 0.99999


def test_features_for_embeddings_are_funasr_s(rows: list[Samples], tmp_path: Path) -> None:
    """FunASR takes torchaudio's, whose filters are rounded to float32: where little is to be heard,
    that alone is up to 2e-4 away from Kaldi's formula."""
    folder = campplus.make_folder(tmp_path)
    funasr_peer.auto_model(folder)
    from funasr.models.campplus.utils import extract_feature

    embedder = load_embedder(ModelFolder(folder))
    for row in rows[:5]:
        expected = extract_feature([torch.from_numpy(row.copy())])[0]
        found = embedder.features(torch.from_numpy(row)[None])
        torch.testing.assert_close(found, expected, atol=3e-4, rtol=0)


# voice activity ---------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["random", "published"])
def vad(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FSMN-VAD as it is on the hub: random weights of its sizes, or its own."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "random":
        return fsmn_vad.make_folder(folder)
    published: Path = request.getfixturevalue("shared_data") / "fsmn-vad"
    for name in ("config.yaml", "am.mvn"):
        shutil.copyfile(published / name, folder / name)
    # FunASR wants its names back, which were shortened for that folder.
    state = torch.load(published / "model.pt", weights_only=True)
    named = {f"encoder.{name.removeprefix('encoder.')}": value for name, value in state.items()}
    torch.save(named, folder / "model.pt")
    return folder


def test_posteriors_and_segments_are_funasr_s(vad: Path, meeting: Path) -> None:
    """With `dynamic_silence=False`: its new default ends segments at shorter pauses the longer
    they are, and Hansard cuts long segments at their best pause instead."""
    peer = funasr_peer.auto_model(vad)
    seen: list[torch.Tensor] = []
    peer.model.encoder.register_forward_hook(lambda _, given, out: seen.append(out[0, :, 0]))
    stage = FsmnVad(
        FsmnVadParameters(
            model=str(vad),
            max_single_segment_time=60_000,
            faint_threshold=0.6,
            voiceless_threshold=-1,
        )
    )
    stage.load()
    samples = soundfile.read(meeting, dtype="float32")[0][: 50 * 16_000]
    for row in (samples, samples[: 4 * 16_000], 0.01 * samples[20_000:60_000]):
        seen.clear()
        found = peer.generate(input=torch.from_numpy(row.copy()), dynamic_silence=False)
        inputs = Inputs(audio_files.Samples(row), {})
        assert [[span.start, span.end] for span in stage.run(inputs)] == found[0]["value"]
        silence = np.concatenate(
            [stage.compute(window).frames.silence for window in stage.batches(inputs)]
        )
        torch.testing.assert_close(torch.from_numpy(silence), torch.cat(seen), atol=CLOSE, rtol=0)
