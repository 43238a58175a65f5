"""Punctuation read on from each full stop, as FunASR reads: against its loop, and from a folder in
the published layout. `test_funasr.py` holds it against FunASR itself."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.folders.ct_transformer import FULL_STOP, MARKS, make_folder
from pipeline.errors import ModelError
from pipeline.records import Word
from pipeline.stage import Inputs
from stages.punctuation.segmenting import tokenise
from stages.punctuation.sentence_cache import read_on
from stages.punctuation.stage import CtTransformerPunctuation, PunctuationParameters
from tests.speech import spoken

ENDS = np.array([mark in "。？" for mark in MARKS])
COMMAS = np.array([mark == "，" for mark in MARKS])


def loop_of_funasr(marks_of: Any, rows: NDArray[np.int64]) -> list[int]:
    """Step by step what `CTTransformer.inference` does, on class numbers."""
    pieces = [rows[at : at + 20] for at in range(0, len(rows), 20)]
    cache, written = rows[:0], []
    for number, piece in enumerate(pieces):
        text = np.concatenate([cache, piece])
        marks = list(marks_of(text))
        if number < len(pieces) - 1:
            end = comma = -1
            for at in range(len(marks) - 2, 1, -1):
                if ENDS[marks[at]]:
                    end = at
                    break
                if comma < 0 and COMMAS[marks[at]]:
                    comma = at
            if end < 0 and len(text) > 200 and comma >= 0:
                end = comma
                marks[end] = FULL_STOP
            cache, marks = text[end + 1 :], marks[: end + 1]
        written += marks
    if not ENDS[written[-1]]:
        written[-1] = FULL_STOP
    return [int(mark) for mark in written]


@pytest.mark.parametrize("rare", [3, 30, 3000])
@pytest.mark.parametrize("count", [1, 2, 19, 20, 21, 40, 41, 1500])
def test_marks_are_those_of_the_loop(count: int, rare: int) -> None:
    """`rare`: how many other words come between two that would end a sentence."""

    def marks_of(rows: NDArray[np.int64]) -> NDArray[np.intp]:
        # A mark that depends on where the reading began and how far it went, as a network's does.
        mixed = (rows * 31 + rows[0] * 7 + len(rows) * 13 + np.arange(len(rows))) % (3 * rare)
        return np.select([mixed == 0, mixed == 1, mixed % 40 == 2], [3, 4, 2], default=1)

    rows = np.random.default_rng(count).integers(0, 10_000, count)
    found = read_on(marks_of, rows, ENDS, COMMAS, FULL_STOP)
    assert found.tolist() == loop_of_funasr(marks_of, rows)


def test_chinese_words_are_read_as_words() -> None:
    """The mark belongs to the last character of a word, and numbers are one word, too."""

    def segment(text: str) -> Any:
        assert text == "我们开会30分"
        return iter(["我们", "开会", "30", "分"])

    words = ["so", "我", "们", "开", "会", "3", "0", "分", "the", "end"]
    tokens, word_of = tokenise(words, segment)
    assert tokens == ["so", "我们", "开会", "30", "分", "the", "end"]
    assert [words[at] for at in word_of] == ["so", "们", "会", "0", "分", "the", "end"]


def test_without_jieba_a_model_that_needs_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jieba", None)
    folder = make_folder(tmp_path)
    (folder / "jieba_usr_dict").write_text("恒大会议 100\n", "utf-8")
    with pytest.raises(ModelError, match=r"pip install 'hansard\[zh\]'"):
        stage(folder).weights_digest()
    assert stage(folder, chinese_words=False).weights_digest()


def stage(folder: Path, **parameters: Any) -> CtTransformerPunctuation:
    return CtTransformerPunctuation(
        PunctuationParameters(model=str(folder), reading="sentences", **parameters)
    )


def test_sentences_of_a_recording(tmp_path: Path) -> None:
    made = stage(make_folder(tmp_path))
    made.load()
    words = tuple(Word(w, 300 * at, 300 * at + 200, 0.9) for at, w in enumerate(spoken(400)))
    sentences = made.run(Inputs(audio=None, artifacts={"asr": words}))  # type: ignore[arg-type]
    written = [word for sentence in sentences for word in sentence.words]
    assert [word.span for word in written] == [word.span for word in words]
    assert len(sentences) > 10
    assert all(s.words[-1].text[-1] in "。？.?" for s in sentences)
    assert all(word.text[-1] not in "。？.?" for s in sentences for word in s.words[:-1])
    assert "USA" in {word.text.rstrip("，,。.？?、") for word in written}
