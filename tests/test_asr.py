"""Speech recognition: decoding, independence of batches, odd segments, and real speech."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import jiwer
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.errors import ModelError
from pipeline.records import Span, Word
from pipeline.stage import Inputs
from stages.asr.decoding import Decoded, along, greedy, words
from stages.asr.segments import placed
from stages.asr.stage import CtcAsr, CtcParameters, Recogniser
from stages.models import locate
from tests.audio_files import Samples
from training.asr_data import load_audio, spoken
from training.splits import is_held_out, read_manifest

VOCABULARY = ("<blank>", " ", "a", "b", "c")
WORST_WER = 0.32  # measured: 0.21 to 0.23; a bug gives 1


@pytest.fixture(scope="module")
def stage() -> CtcAsr:
    stage = CtcAsr(CtcParameters())
    stage.load()
    return stage


@pytest.fixture(scope="module")
def held_out(shared_data: Path) -> list[tuple[NDArray[np.float32], str]]:
    """Forty utterances of four speakers of LibriSpeech that were never trained on."""
    rows = [r for r in read_manifest(shared_data / "asr-en-dev-clean") if is_held_out(r.speaker)]
    rows = [row for row in rows if row.seconds < 12]
    return [(load_audio(row.audio), spoken(row.text)) for row in rows[:: len(rows) // 40][:40]]


def posterior(best: str, certain: float = 0.9) -> NDArray[np.float32]:
    """Log posteriors [1, T, V] whose best token is written by a character a frame, - blank."""
    ids = [0 if c == "-" else VOCABULARY.index(c) for c in best]
    probs = np.full((1, len(ids), len(VOCABULARY)), (1 - certain) / 4, np.float32)
    probs[0, np.arange(len(ids)), ids] = certain
    return np.log(probs)


def spelled(log_probs: NDArray[np.float32], *lengths: int) -> list[Decoded]:
    return along(greedy(log_probs, np.array(lengths)), log_probs, VOCABULARY)


def recognise(stage: CtcAsr, samples: NDArray[np.float32], *segments: Span) -> tuple[Word, ...]:
    return stage.run(Inputs(Samples(samples), {"vad": segments}))


def test_decoding_gives_text_tokens_and_frames_together() -> None:
    best = "--aab-bb- -c--"
    decoded = spelled(posterior(best), len(best))[0]
    assert decoded.text == "abb c"
    assert decoded.tokens.tolist() == [2, 3, 3, 1, 4]
    assert decoded.starts.tolist() == [2, 4, 6, 9, 11]
    assert decoded.ends.tolist() == [4, 5, 8, 10, 12]
    assert decoded.posteriors == pytest.approx([0.9] * 5, abs=1e-5)


def test_words_end_before_the_silence_and_before_the_next_word() -> None:
    best = "--aab-bb c-----"
    decoded = spelled(posterior(best), len(best))[0]
    found = words(decoded, VOCABULARY, tail=2)
    assert [(w.text, w.start, w.end) for w in found] == [("abb", 2, 9), ("c", 9, 12)]
    assert all(w.confidence == pytest.approx(0.9, abs=1e-3) for w in found)


def test_decoding_reads_no_frame_past_a_length() -> None:
    log_probs = np.concatenate([posterior("ab-c"), posterior("ccab")])
    decoded = spelled(log_probs, 2, 4)
    assert [row.text for row in decoded] == ["ab", "cab"]
    assert words(spelled(posterior("----"), 4)[0], VOCABULARY, 2) == []
    assert words(spelled(posterior("-  -"), 4)[0], VOCABULARY, 2) == []


def test_a_doubtful_letter_lowers_the_confidence_of_its_word() -> None:
    log_probs = np.concatenate([posterior("ab ", 0.95), posterior("c", 0.4)], axis=1)
    found = words(spelled(log_probs, 4)[0], VOCABULARY, 1)
    assert [word.text for word in found] == ["ab", "c"]
    assert [w.confidence for w in found] == pytest.approx([0.95, 0.4], abs=1e-3)


def test_placed_words_stay_inside_the_segment_and_apart() -> None:
    found = [Word("a", -30, 80, 1.0), Word("b", 80, 900, 1.0), Word("c", 890, 990, 1.0)]
    spans = [word.span for word in placed(found, Span(5000, 5300))]
    assert spans[0].start == 5000 and spans[-1].end == 5300
    assert all(span.duration > 0 for span in spans)
    assert all(a.end <= b.start for a, b in pairwise(spans))


def test_a_segment_alone_gives_what_it_gives_in_a_batch(
    stage: CtcAsr, held_out: list[tuple[NDArray[np.float32], str]]
) -> None:
    recogniser = Recogniser.read(locate("bundled/en-ctc", "stages.asr"), CtcParameters())
    torch.manual_seed(0)
    rows = [torch.from_numpy(samples) for samples, _ in held_out[:4]] + [torch.randn(700)]
    lengths = torch.tensor([len(row) for row in rows])
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    with torch.inference_mode():
        together, counts = recogniser.network(*recogniser.fbank(padded, lengths))
        for row, count, one in zip(rows, counts, together, strict=True):
            features = recogniser.fbank(row[None], torch.tensor([len(row)]))
            alone, frames = recogniser.network(*features)
            assert int(frames[0]) == int(count)
            torch.testing.assert_close(alone[0], one[:count], atol=2e-3, rtol=0)


def test_held_out_speakers_are_understood(
    stage: CtcAsr, held_out: list[tuple[NDArray[np.float32], str]]
) -> None:
    pause = np.zeros(16000, np.float32)
    segments: list[Span] = []
    parts: list[NDArray[np.float32]] = []
    position = 0
    for samples, _ in held_out:
        samples = samples[: len(samples) // 16 * 16]
        segments.append(Span(position // 16, (position + len(samples)) // 16))
        parts += [samples, pause]
        position += len(samples) + len(pause)
    found = recognise(stage, np.concatenate(parts), *segments)
    assert list(found) == sorted(found, key=lambda word: word.start)
    heard = []
    for segment in segments:
        inside = [w for w in found if segment.start <= w.start and w.end <= segment.end]
        heard.append(" ".join(word.text for word in inside))
    assert sum(map(len, (text.split() for text in heard))) == len(found)
    assert jiwer.wer([text for _, text in held_out], heard) < WORST_WER
    assert all(0 < word.confidence <= 1 for word in found)


def test_no_segments_give_no_words(stage: CtcAsr) -> None:
    assert recognise(stage, np.zeros(16000, np.float32)) == ()


@pytest.mark.parametrize("length_ms", [1, 10, 30, 30_000])
def test_segments_of_any_length(stage: CtcAsr, length_ms: int) -> None:
    noise = np.random.default_rng(0).standard_normal(31 * 16000).astype(np.float32) * 0.05
    for word in recognise(stage, noise, Span(500, 500 + length_ms)):
        assert word.end > word.start >= 500


def test_a_segment_past_the_end_of_the_audio_is_no_error(stage: CtcAsr) -> None:
    assert recognise(stage, np.zeros(1600, np.float32), Span(90, 400), Span(5000, 6000)) == ()


def test_another_kind_of_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config.yaml"):
        CtcAsr(CtcParameters(model=str(tmp_path))).load()
    (tmp_path / "config.yaml").write_text("model: Paraformer\n")
    with pytest.raises(ModelError, match="not a CtcNetwork model"):
        CtcAsr(CtcParameters(model=str(tmp_path))).load()
