"""Paraformer beside what `test_funasr.py` holds against FunASR: where Hansard does the right thing
instead, batches, odd segments, hotwords, folders that are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks.folders import ct_transformer
from benchmarks.folders.paraformer import SMALL, make_folder
from pipeline.errors import ModelError, UsageError
from pipeline.records import Span, Word
from pipeline.stage import Inputs
from stages.asr.cif import ALMOST_ONE, fire_frames, integrate, token_times
from stages.asr.paraformer_stage import (
    ParaformerAsr,
    ParaformerParameters,
    ParaformerRecogniser,
    read_hotwords,
)
from stages.asr.pieces import join_tokens
from stages.models import ModelFolder
from tests import audio_files
from tests.conftest import hansard
from tests.speech import FEW_HOTWORDS, MANY_HOTWORDS, batch, segments

Samples = NDArray[np.float32]


@pytest.fixture(scope="module")
def seaco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("seaco"), "SeacoParaformer", SMALL)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("plain"), "Paraformer", SMALL)


def stage(folder: Path, **parameters: Any) -> Any:
    made = ParaformerAsr(ParaformerParameters(model=str(folder), **parameters))
    made.weights_digest()
    made.load()
    return made


def recogniser(folder: Path, hotwords: str = "") -> ParaformerRecogniser:
    made = ParaformerAsr(ParaformerParameters(model=str(folder), hotwords=hotwords))
    made.load()
    assert isinstance(made._recogniser, ParaformerRecogniser)
    return made._recogniser


def numbered(tokens: list[str]) -> list[Word]:
    return [Word(text, 100 * at, 100 * at + 90, 0.5) for at, text in enumerate(tokens)]


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        # FunASR: the piece waits for the next English word, behind the Chinese one: 你 hello.
        (["hel@@", "你", "lo"], [("hel", 0, 90), ("你", 100, 190), ("lo", 200, 290)]),
        # FunASR: a piece at the end of a segment is lost.
        (["so", "hel@@"], [("so", 0, 90), ("hel", 100, 190)]),
        # FunASR: the word after an unknown one gets the time of the unknown one.
        (["so", "<unk>", "well"], [("so", 0, 90), ("well", 200, 290)]),
        # FunASR: what is neither letter nor number has no time, and those after it lag behind.
        (["so", "+", "well"], [("so", 0, 90), ("+", 100, 190), ("well", 200, 290)]),
        # FunASR: numbers end a word in the middle.
        (["mp@@", "3"], [("mp3", 0, 190)]),
        (["u", "s", "a", "我", "b"], [("USA", 0, 290), ("我", 300, 390), ("b", 400, 490)]),
    ],
)
def test_every_token_keeps_its_place_and_time(
    tokens: list[str], words: list[tuple[str, int, int]]
) -> None:
    assert [(w.text, w.start, w.end) for w in join_tokens(numbered(tokens))] == words


# integrate and fire -----------------------------------------------------------------------


def test_tokens_are_shares_of_frames() -> None:
    alphas = torch.tensor([[0.5, 0.25, 0.5, 0.75, 0.45], [0.5, 0.45, 0.0, 0.0, 0.0]])
    frames = torch.eye(5).expand(2, 5, 5)
    embeddings, counts = integrate(frames, alphas)
    assert counts.tolist() == [2, 0]
    assert embeddings[0].tolist() == [[0.5, 0.25, 0.25, 0, 0], [0, 0, 0.25, 0.75, 0]]
    assert not embeddings[1].any()


def test_a_row_fires_once_more_than_it_has_tokens() -> None:
    alphas = torch.tensor([[0.6, 0.6, 0.6, 0.6, 0.6], [0.1, 0.1, 0.1, 0.1, 0.0]])
    assert fire_frames(alphas, torch.tensor([2, 1]), ALMOST_ONE).tolist() == [[1, 3, 4], [1, 3, 5]]


def test_more_weight_than_a_frame_can_take_fires_in_the_next_ones() -> None:
    alphas = torch.tensor([[0.1, 2.4, 0.5, 0.0, 0.0, 0.1]])
    assert fire_frames(alphas, torch.tensor([2]), ALMOST_ONE).tolist() == [[1, 2, 3]]


def test_a_token_ends_before_a_long_pause() -> None:
    times = token_times(np.array([4, 10, 40, 44]), frames=60, frame_ms=20.0)
    assert times.tolist() == [[50, 170], [170, 410], [770, 1025]]
    assert token_times(np.array([7]), frames=9, frame_ms=20.0).shape == (0, 2)


# independence -----------------------------------------------------------------------------


@pytest.mark.parametrize("hotwords", ["", FEW_HOTWORDS, MANY_HOTWORDS])
def test_a_segment_alone_gives_what_it_gives_in_a_batch(seaco: Path, hotwords: str) -> None:
    """FunASR: padding reaches the predictor and the times, and all segments of a batch share the
    hotwords that the first of them attends to."""
    model = recogniser(seaco, hotwords)
    rows = [*segments(5), np.zeros(50, np.float32)]
    together = model.tokens(*batch(*rows))
    for row, found in zip(rows, together, strict=True):
        alone = model.tokens(*batch(row))[0]
        assert [(t.text, t.start, t.end) for t in alone] == [
            (t.text, t.start, t.end) for t in found
        ]
        assert [t.confidence for t in alone] == pytest.approx([t.confidence for t in found], 1e-2)


@pytest.mark.parametrize(
    ("precision", "most"), [("float16", 0.05), ("bfloat16", 0.2), ("int8", 0.4)]
)
def test_lower_precision_changes_few_tokens(seaco: Path, precision: str, most: float) -> None:
    """Random weights decide many tokens narrowly: trained ones change fewer."""
    heard = []
    for p in ("float32", precision):
        made = stage(seaco, hotwords=FEW_HOTWORDS, precision=p)
        found = made._recogniser.tokens(*batch(*segments(5)))
        heard.append([" ".join(token.text for token in row) for row in found])
    assert 0 < jiwer.wer(*heard) <= most


def run(made: ParaformerAsr, samples: Samples, *spans: Span) -> tuple[tuple[Word, ...], list[str]]:
    inputs = Inputs(audio_files.Samples(samples), {"vad": spans})
    return made.run(inputs), inputs.notes


def test_words_come_in_the_order_of_the_recording_whatever_the_batches(seaco: Path) -> None:
    samples = np.concatenate(segments(5))
    spans = [Span(0, 8000), Span(8000, 8400), Span(8400, 10_400), Span(10_400, 21_000)]
    usual, _ = run(stage(seaco), samples, *spans)
    assert list(usual) == sorted(usual, key=lambda word: word.start)
    assert {next(s for s in spans if s.start <= w.start < s.end) for w in usual} == set(spans)
    one_by_one, _ = run(stage(seaco, batch_size_s=1), samples, *spans)
    alone, _ = run(stage(seaco, batch_size_threshold_s=1), samples, *spans)
    assert [w.span for w in usual] == [w.span for w in one_by_one] == [w.span for w in alone]
    assert [w.text for w in usual] == [w.text for w in one_by_one] == [w.text for w in alone]
    assert all(0 < word.confidence <= 1 for word in usual)


def test_a_long_segment_goes_alone(seaco: Path) -> None:
    made = stage(seaco, batch_size_threshold_s=3, batch_size_s=100)
    spans = (Span(0, 2900), Span(3000, 5900), Span(6000, 9000), Span(9000, 12_100))
    batches = made.batches(
        Inputs(audio_files.Samples(np.zeros(13 * 16000, np.float32)), {"vad": spans})
    )
    assert sorted([index for index, _ in group] for group in batches) == [[0, 1], [2], [3]]


@pytest.mark.parametrize("length_ms", [1, 20, 61, 200])
@pytest.mark.parametrize("folder", ["plain", "seaco"])
def test_segments_of_any_length(
    folder: str, length_ms: int, request: pytest.FixtureRequest
) -> None:
    noise = np.random.default_rng(0).standard_normal(16000).astype(np.float32) * 0.05
    made = stage(request.getfixturevalue(folder))
    found, _ = run(made, noise, Span(500, 500 + length_ms), Span(5000, 6000))
    assert all(word.end > word.start >= 500 for word in found)


def test_a_segment_without_words_does_not_take_those_of_the_others(plain: Path) -> None:
    """FunASR: one segment without a token, and the recording has no text at all."""
    samples = np.concatenate([np.zeros(800, np.float32), segments(1)[0]])
    found, _ = run(stage(plain), samples, Span(0, 50), Span(50, 4150))
    assert len(found) > 3
    assert found[0].start >= 50
    assert run(stage(plain), samples)[0] == ()


# hotwords ---------------------------------------------------------------------------------


def test_hotwords_change_what_is_heard_and_unknown_ones_are_told(seaco: Path) -> None:
    samples = np.concatenate(segments(5))
    span = Span(0, 20_000)
    without, notes = run(stage(seaco), samples, span)
    assert notes == []
    biased, notes = run(stage(seaco, hotwords="banter torres kur zürich"), samples, span)
    assert notes == ["hotwords left out, the model has no tokens for them: torres, zürich"]
    assert [w.text for w in biased] != [w.text for w in without]
    known, notes = run(stage(seaco, hotwords=["banter", "kur"]), samples, span)
    assert known == biased
    assert notes == []
    only_unknown, notes = run(stage(seaco, hotwords="zürich"), samples, span)
    assert only_unknown == without
    assert len(notes) == 1


@pytest.mark.parametrize("nothing", ["", "   ", [], [" "]])
def test_no_hotwords_are_none(seaco: Path, plain: Path, nothing: Any) -> None:
    digest = stage(seaco).weights_digest()
    assert stage(seaco, hotwords=nothing).weights_digest() == digest
    assert recogniser(plain, nothing).hotwords is None


def test_a_file_of_hotwords_counts_by_its_content(seaco: Path, tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("banter kur\n\n一並\n", "utf-8")
    assert read_hotwords(str(path)) == ["banter kur", "一並"]
    before = stage(seaco, hotwords=str(path)).weights_digest()
    path.write_text("banter\n", "utf-8")
    assert stage(seaco, hotwords=str(path)).weights_digest() != before
    with pytest.raises(UsageError, match=r"asr\.hotwords: .*gone\.txt: cannot be read"):
        stage(seaco, hotwords="gone.txt")


def test_a_model_without_hotwords_says_so(plain: Path) -> None:
    with pytest.raises(ModelError, match="knows no hotwords"):
        stage(plain, hotwords="banter")


# wrong folders ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["config.yaml", "tokens.json", "am.mvn"])
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    folder = make_folder(tmp_path, "BiCifParaformer", SMALL)
    (folder / name).unlink()
    with pytest.raises(ModelError, match=f"no {name} in it"):
        stage(folder)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, "BiCifParaformer", SMALL)
    (folder / "model.pt").unlink()
    with pytest.raises(ModelError, match=r"no model\.safetensors or model\.pt"):
        stage(folder)


def test_a_folder_without_a_seg_dict_spells_by_its_tokens(seaco: Path, tmp_path: Path) -> None:
    folder = make_folder(tmp_path, "SeacoParaformer", SMALL)
    (folder / "seg_dict").unlink()
    known, unknown = stage(folder, hotwords="kur 一並 banter")._spelt()
    assert (len(known), unknown) == (2, ["banter"])
    assert known == stage(seaco, hotwords="kur 一並")._spelt()[0]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("model: Paraformer", "model: ContextualParaformer", "model ContextualParaformer"),
        ("predictor: CifPredictorV2", "predictor: CifPredictor", "predictor CifPredictor"),
        ("tail_threshold: 0.45", "tail_threshold: 0.0", "tail_threshold above 0"),
        ("linear_units: 96", "linear_units: 80", "does not fit config.yaml: size mismatch"),
        ("lfr_n: 6", "lfr_k: 6", "'lfr_n' is missing"),
    ],
)
def test_another_kind_of_model_is_named(old: str, new: str, said: str, tmp_path: Path) -> None:
    folder = make_folder(tmp_path, "Paraformer", SMALL)
    config = (folder / "config.yaml").read_text()
    assert old in config
    (folder / "config.yaml").write_text(config.replace(old, new))
    with pytest.raises(ModelError, match=said):
        stage(folder)
    assert ModelFolder(folder).weights.name == "model.pt"


# the profile ------------------------------------------------------------------------------


def test_a_recording_through_the_profile(meeting: Path, seaco: Path, tmp_path: Path) -> None:
    marks = ct_transformer.make_folder(tmp_path / "punctuation")
    call = hansard(
        "transcribe",
        meeting,
        *("--out", tmp_path / "out", "--profile", "paraformer-zh"),
        *("--set", f"asr.model={seaco}", "--set", "asr.hotwords=banter zürich"),
        *("--set", f"punctuation.model={marks}", "--set", "vad.model=bundled/fsmn-en"),
        *("--set", "embedding.model=bundled/campplus-en", "--json"),
    )
    assert call.code == 0, call.stderr
    (path,) = (tmp_path / "out" / "transcripts").iterdir()
    record = json.loads(path.read_text("utf-8"))
    assert record["language"] == "zh"
    words = [word for turn in record["turns"] for word in turn["words"]]
    assert len(words) > 50
    stages = {run["stage"]: run for run in record["provenance"]["stages"]}
    assert stages["asr"]["notes"] == ["hotwords left out, the model has no tokens for them: zürich"]


def test_a_profile_whose_models_are_not_here_says_how_to_get_them(
    meeting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANSARD_MODELS", str(tmp_path / "none"))
    call = hansard("transcribe", meeting, "--out", tmp_path / "out", "--profile", "paraformer-en")
    assert call.code == 2
    assert "hansard models pull" in call.stderr
