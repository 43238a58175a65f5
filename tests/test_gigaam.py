"""GigaAM recognition and GigaAM-Emo: equal to the reference on the same weights, whatever the
batch; published layouts; odd segments; what is no GigaAM."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from sentencepiece import SentencePieceProcessor

from benchmarks.folders import gigaam as published
from pipeline.errors import ModelError
from pipeline.memory import release
from pipeline.records import Sentence, Span, Turn, Word
from pipeline.stage import Inputs
from stages.asr.decoding import along, words
from stages.asr.gigaam import (
    GigaAmAsr,
    GigaAmParameters,
    GigaAmRecogniser,
)
from stages.emotion.gigaam import GigaAmEmotion, GigaAmEmotionParameters
from stages.models import ModelFolder
from stages.punctuation.as_written import AsWritten, AsWrittenParameters
from tests import gigaam_peer as peer
from tests.audio_files import Samples

CLOSE = 1e-4
VERSIONS = ("v1", "v2", "v3")
PUBLISHED = (*VERSIONS, "v3_e2e")


@pytest.fixture(scope="module")
def speech(meeting: Path) -> torch.Tensor:
    """The first seconds of the demo meeting."""
    return torch.from_numpy(soundfile.read(meeting, dtype="float32")[0][: 12 * 16000])


@dataclass(frozen=True)
class Pair:
    """The reference, and a folder with its weights as they would be published."""

    reference: Any
    folder: ModelFolder

    def encoded(self, row: torch.Tensor) -> tuple[torch.Tensor, int]:
        """What the reference's encoder gives for one row: [frames, width]."""
        with torch.inference_mode():
            encoded, lengths = self.reference(row[None].clone(), torch.tensor([len(row)]))
        return encoded[0].T, int(lengths[0])

    def labels(self, encoded: torch.Tensor) -> list[int]:
        """The reference's best token of each frame."""
        with torch.inference_mode():
            scores = self.reference.head(encoded.T[None])
        best: list[int] = scores[0].argmax(dim=-1).tolist()
        return best

    def text(self, encoded: torch.Tensor) -> str:
        """The reference's text."""
        count = torch.tensor([len(encoded)])
        text: str = self.reference.decoding.decode(self.reference.head, encoded.T[None], count)[0]
        return text

    def says_the_same(self, recogniser: GigaAmRecogniser, rows: Sequence[torch.Tensor]) -> int:
        """Features, encoder output, words and times of each row, alone and in one batch; gives
        the number of words."""
        names = list(recogniser.decoder.vocabulary[1:])
        together = recogniser.recognise(*padded(rows))
        for row, found in zip(rows, together, strict=True):
            length = torch.tensor([len(row)])
            with torch.inference_mode():
                expected, _ = self.reference.preprocessor(row[None].clone(), length)
                features, _ = recogniser.network.preprocessor(row[None], length)
                encoded, frames = recogniser.network(row[None], length)
            torch.testing.assert_close(features[0], expected[0].T, atol=CLOSE, rtol=0)
            reference, count = self.encoded(row)
            assert int(frames[0]) == count
            torch.testing.assert_close(encoded[0], reference, atol=CLOSE, rtol=0)
            times = [(word.text, word.start, word.end) for word in found]
            alone = recognise(recogniser, row)
            assert times == [(word.text, word.start, word.end) for word in alone]
            assert times == as_gigaam_times(self.labels(reference), names, len(row))
            text = "".join(word.text for word in found)
            assert text == self.text(reference).replace(" ", "")
            assert all(0 < word.confidence <= 1 for word in found)
        return sum(len(found) for found in together)


def padded(rows: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows as one batch [B, T], and their lengths [B]."""
    lengths = torch.tensor([len(row) for row in rows])
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True), lengths


def pair(version: Any, folder: Path, speech: torch.Tensor, layers: int, width: int) -> Pair:
    """v1 and v2 as the package's checkpoint, v3 as on the hub, in half precision as there."""
    cfg = published.config(version, layers, width)
    helped = [0]
    if version == "v3_e2e":
        model_file = published.train_pieces(folder)
        pieces = SentencePieceProcessor(model_file=str(model_file))
        cfg = published.with_pieces(cfg, model_file, len(pieces))
        helped = [pieces.piece_to_id(piece) for piece in ("▁", ".")]
    model = peer.reference(version, cfg)
    peer.make_talkative(model, speech[20000:56345], helped)
    if version.startswith("v3"):
        state = {name: value.half() for name, value in model.state_dict().items()}
        model.load_state_dict(state)  # the reference rounds its window and filters, too
        torch.save({f"model.{k}": v for k, v in state.items()}, folder / "pytorch_model.bin")
        (folder / "config.json").write_text(json.dumps(published.published(cfg)))
    else:
        peer.save_ckpt(model, cfg, folder / f"{version}_ctc.ckpt")
    return Pair(model, ModelFolder(folder))


@pytest.fixture(scope="module", params=VERSIONS)
def small(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, speech: torch.Tensor
) -> Pair:
    folder = tmp_path_factory.mktemp(request.param)
    return pair(request.param, folder, speech, layers=2, width=64)


def read(folder: ModelFolder, decoder: Any = "greedy") -> GigaAmRecogniser:
    return GigaAmRecogniser.read(folder, GigaAmParameters(decoder=decoder))


def recognise(recogniser: GigaAmRecogniser, row: torch.Tensor) -> list[Word]:
    return recogniser.recognise(row[None], torch.tensor([len(row)]))[0]


def as_gigaam_times(
    labels: Sequence[int], pieces: Sequence[str], samples: int
) -> list[tuple[str, int, int]]:
    """Words with times by the rules of GigaAM's `timestamps_utils`, token by token."""
    shift = samples / 16 / len(labels)
    found: list[tuple[str, int, int]] = []
    text, frames, before = "", [], len(pieces)
    for frame, label in enumerate([*labels, len(pieces)]):
        piece = "" if label == len(pieces) or label == before else pieces[label]
        before = label
        if (piece[:1] in (" ", "▁") or frame == len(labels)) and frames:
            if text:
                found.append((text, round(frames[0] * shift), round((frames[-1] + 1) * shift)))
            text, frames = "", []
        if piece and piece != " ":
            text += piece.removeprefix("▁")
            frames.append(frame)
    return found


@pytest.fixture(scope="module", params=PUBLISHED)
def full(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, speech: torch.Tensor
) -> Iterator[tuple[Pair, GigaAmRecogniser]]:
    """At the sizes that are published, and read by Hansard."""
    folder = tmp_path_factory.mktemp(request.param)
    both = pair(request.param, folder, speech, layers=16, width=768)
    release()
    yield both, read(both.folder)
    shutil.rmtree(folder)  # up to a gigabyte


def rows(speech: torch.Tensor) -> list[torch.Tensor]:
    """Speech, digital silence, noise, and the shortest that the reference can read."""
    noise = torch.randn(9000, generator=torch.Generator().manual_seed(1)).clamp(-1, 1)
    return [speech[20000:56345], torch.zeros(4000), noise, speech[30000:31000]]


def test_full_size_gives_what_the_reference_gives(
    full: tuple[Pair, GigaAmRecogniser], speech: torch.Tensor
) -> None:
    both, recogniser = full
    assert both.says_the_same(recogniser, rows(speech)) > 3, "saying nothing would prove nothing"


def test_real_meetings_give_what_the_reference_gives(
    full: tuple[Pair, GigaAmRecogniser], shared_data: Path
) -> None:
    both, recogniser = full
    found = []
    for path in sorted((shared_data / "meetings-ami").glob("*.flac"))[:2]:
        samples = torch.from_numpy(soundfile.read(path, dtype="float32")[0])
        found.append(samples[90_000:133_333])
    both.says_the_same(recogniser, found)


def test_a_row_does_not_depend_on_its_batch(small: Pair, speech: torch.Tensor) -> None:
    network = read(small.folder).network
    rows = [speech[:n] for n in (30000, 16007, 3200, 640, 320)]
    together = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    with torch.inference_mode():
        encoded, frames = network(together, torch.tensor([len(row) for row in rows]))
        for row, one, count in zip(rows, encoded, frames.tolist(), strict=True):
            alone, length = network(row[None], torch.tensor([len(row)]))
            assert int(length[0]) == count
            torch.testing.assert_close(one[:count], alone[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("samples", [1, 100, 319, 321, 401, 640])
def test_segments_of_any_length(small: Pair, speech: torch.Tensor, samples: int) -> None:
    recogniser = read(small.folder)
    for word in recognise(recogniser, speech[20000 : 20000 + samples]):
        assert 0 <= word.start < word.end
    least = recogniser.network.preprocessor.options.least
    if samples >= least:
        expected, count = small.encoded(speech[20000 : 20000 + samples])
        with torch.inference_mode():
            found, _ = recogniser.network(
                speech[None, 20000 : 20000 + samples], torch.tensor([samples])
            )
        torch.testing.assert_close(found[0, :count], expected[:count], atol=CLOSE, rtol=0)


def test_the_stage_puts_words_into_their_segments(small: Pair, speech: torch.Tensor) -> None:
    stage = GigaAmAsr(GigaAmParameters(model=str(small.folder.path)))
    stage.load()
    segments = (Span(100, 2600), Span(3000, 3040), Span(4000, 9000), Span(11900, 13000))
    found = stage.run(Inputs(Samples(speech.numpy()), {"vad": segments}))
    assert len(found) > 5
    assert all(a.end <= b.start for a, b in pairwise(found))
    for word in found:
        assert any(s.start <= word.start < word.end <= s.end for s in segments)
    alone = recognise(read(small.folder), speech[64000:144000])
    inside = [word for word in found if 4000 <= word.start < 9000]
    assert [word.text for word in inside] == [word.text for word in alone]
    silent = stage.run(Inputs(Samples(speech.numpy()), {"vad": ()}))
    assert silent == ()


def test_the_prefix_decoder_finds_likelier_text(small: Pair, speech: torch.Tensor) -> None:
    row = speech[20000:60000]
    greedy = " ".join(word.text for word in recognise(read(small.folder), row))
    likelier = " ".join(word.text for word in recognise(read(small.folder, "prefix"), row))
    scores, frames = read(small.folder).network.posteriors(row[None], torch.tensor([len(row)]))
    tokens = ["", *published.LETTERS]

    def log_likelihood(text: str) -> float:
        targets = torch.tensor([[tokens.index(letter) for letter in text]])
        loss = torch.nn.functional.ctc_loss(
            scores.detach().transpose(0, 1),
            targets,
            frames,
            torch.tensor([targets.shape[1]]),
            reduction="sum",
        )
        return -float(loss)

    assert log_likelihood(likelier) >= log_likelihood(greedy)


def test_e2e_words_carry_case_and_marks(
    full: tuple[Pair, GigaAmRecogniser], speech: torch.Tensor
) -> None:
    both, recogniser = full
    if not (both.folder.path / "tokenizer.model").exists():
        pytest.skip("letters have neither")
    found = recognise(recogniser, speech[20000:90000])
    assert any(not word.text[-1].isalnum() for word in found), "marks belong to their words"


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["▁Да", ",", "▁в", "сё", "."], ["Да,", "всё."]),
        (["▁", "Я", "▁", "▁тут"], ["Я", "тут"]),
        (["д", "а", " ", "т", "у", "т"], ["да", "тут"]),
        ([" ", "д", "а", " ", " "], ["да"]),
        ([], []),
    ],
)
def test_words_of_pieces_and_of_letters(pieces: list[str], expected: list[str]) -> None:
    vocabulary = ["<blank>", *pieces]
    path = np.array([[n for i in range(len(pieces)) for n in (i + 1, 0)] or [0]])
    decoded = along(path, np.zeros((1, path.shape[1], len(vocabulary)), np.float32), vocabulary)
    assert [word.text for word in words(decoded[0], vocabulary, 1)] == expected


def written(*texts: str, pause: int = 100) -> tuple[Word, ...]:
    return tuple(
        Word(t, i * (400 + pause), i * (400 + pause) + 400, 0.9) for i, t in enumerate(texts)
    )


def test_sentences_as_written() -> None:
    stage = AsWritten(AsWrittenParameters())
    said = written("Да,", "всё.", "«Правда?»", "Ну", "ладно")
    sentences = stage.run(Inputs(Samples(np.zeros(1, np.float32)), {"asr": said}))
    texts = [[word.text for word in sentence.words] for sentence in sentences]
    assert texts == [["Да,", "всё."], ["«Правда?»"], ["Ну", "ладно"]]
    assert stage.run(Inputs(Samples(np.zeros(1, np.float32)), {"asr": ()})) == ()


def test_speech_without_marks_is_cut_at_its_pauses() -> None:
    stage = AsWritten(AsWrittenParameters(max_words=8))
    said = [*written(*"абвгдежзик")]
    said[5:] = [Word(w.text, w.start + 300, w.end + 300, 0.9) for w in said[5:]]
    sentences = stage.run(Inputs(Samples(np.zeros(1, np.float32)), {"asr": tuple(said)}))
    assert ["".join(w.text for w in s.words) for s in sentences] == ["абвгд", "ежзик"]
    apart = stage.run(
        Inputs(Samples(np.zeros(1, np.float32)), {"asr": written("а", "б", pause=1500)})
    )
    assert len(apart) == 2


@pytest.fixture(scope="module")
def emo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """At the size that is published."""
    folder = tmp_path_factory.mktemp("emo")
    cfg = published.config("emo")
    model = peer.reference("emo", cfg)
    peer.save_ckpt(model, cfg, folder / "emo.ckpt")
    yield Pair(model, ModelFolder(folder))
    shutil.rmtree(folder)


def turn(start: int, end: int) -> Turn:
    return Turn("S1", (Sentence((Word("да", start, end, 0.9),)),))


def test_emotion_is_the_reference_s(emo: Pair, speech: torch.Tensor) -> None:
    stage = GigaAmEmotion(GigaAmEmotionParameters(model=str(emo.folder.path), confidence=0))
    stage.load()
    turns = (turn(0, 3000), turn(3500, 4100), turn(5000, 11000), turn(11990, 14000), turn(50, 90))
    inputs = Inputs(Samples(speech.numpy()), {"attribution": turns})
    tagged = stage.run(inputs)
    for before, after in zip(turns[:3], tagged, strict=False):
        row = speech[before.span.start * 16 : before.span.end * 16]
        encoded, _ = emo.encoded(row)
        with torch.inference_mode():
            expected = emo.reference.head(encoded.mean(dim=0)).softmax(dim=-1)
        assert list(after.emotion) == list(published.EMOTIONS)
        assert list(after.emotion.values()) == pytest.approx(expected.tolist(), abs=1e-4)
        assert after.mood == published.EMOTIONS[int(expected.argmax())]
    assert tagged[3].emotion, "10 ms of audio are left of this turn"
    assert tagged[4].emotion == {} and tagged[4].mood == "neutral"


class Harm:
    """What a hostile checkpoint would do."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("harmed"),))


def test_a_checkpoint_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {}, "cfg": Harm()}, tmp_path / "v2_ctc.ckpt")
    with pytest.raises(ModelError, match="not a GigaAM checkpoint"):
        read(ModelFolder(tmp_path))
    assert not (tmp_path / "harmed").exists()


def test_what_is_no_gigaam_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="in it"):
        read(ModelFolder(tmp_path))
    (tmp_path / "other.ckpt").write_bytes(pickle.dumps({"cfg": {}}))
    with pytest.raises(ModelError, match=r"other.ckpt: not a GigaAM checkpoint"):
        read(ModelFolder(tmp_path))
    cfg = published.config("v2", layers=1, width=64)
    state = {"encoder.layers.0.norm_out.weight": torch.ones(64)}
    (tmp_path / "other.ckpt").unlink()
    torch.save({"state_dict": state, "cfg": cfg}, tmp_path / "v2.ckpt")
    with pytest.raises(ModelError, match="weights are missing"):
        read(ModelFolder(tmp_path))
    cfg["head"]["_target_"] = "gigaam.decoder.RNNTHead"
    torch.save({"state_dict": state, "cfg": cfg}, tmp_path / "v2.ckpt")
    with pytest.raises(ModelError, match="only CTC models"):
        read(ModelFolder(tmp_path))
    (tmp_path / "v2.ckpt").unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelError, match="not a GigaAM"):
        read(ModelFolder(tmp_path))
