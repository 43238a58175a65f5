"""Language models of other tools: an ARPA file gives the probabilities that it states."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import ModelError
from stages.asr.arpa import read_arpa
from stages.asr.ngram import BEGIN, END, NgramModel
from stages.asr.stage import CtcAsr, CtcParameters

ARPA = """\\data\\
ngram 1=6
ngram 2=4
ngram 3=2

\\1-grams:
-1.2\tthere\t-0.3
-99\t<s>\t-0.4
-1.0\tover\t-0.2
-0.9\t</s>
-1.5\t<unk>
-1.1\the's

\\2-grams:
-0.5\tover there\t-0.1
-0.6\t<s> over\t-0.7
-0.2\tthere </s>
-0.8\t<s> he's\t0

\\3-grams:
-0.11\t<s> over there
-0.12\tover there </s>

\\end\\
"""


def score(model: NgramModel, *words: str) -> float:
    """log10 of the last word's probability after the others, from a beginning."""
    history = np.array([BEGIN])
    gained = np.zeros(1)
    for word in words:
        number = END if word == "</s>" else model.words.index(word)
        gained, history = model.score(history, np.array([number]))
    return float(gained[0]) / math.log(10)


@pytest.fixture(params=[".arpa", ".arpa.gz"])
def model(tmp_path: Path, request: pytest.FixtureRequest) -> NgramModel:
    path = tmp_path / f"model{request.param}"
    path.write_bytes(gzip.compress(ARPA.encode()) if path.suffix == ".gz" else ARPA.encode())
    return read_arpa(path)


def test_stated_probabilities_are_found(model: NgramModel) -> None:
    assert score(model, "over") == pytest.approx(-0.6, abs=1e-5)
    assert score(model, "over", "there") == pytest.approx(-0.11, abs=1e-5)
    assert score(model, "over", "there", "</s>") == pytest.approx(-0.12, abs=1e-5)


def test_what_is_not_stated_backs_off(model: NgramModel) -> None:
    assert score(model, "there") == pytest.approx(-0.4 - 1.2, abs=1e-5)
    assert score(model, "he's", "there") == pytest.approx(0 + 0 - 1.2, abs=1e-5)
    # The weight of "<s> over", then of "over".
    assert score(model, "over", "he's") == pytest.approx(-0.7 - 0.2 - 1.1, abs=1e-5)


def test_the_stage_takes_a_folder_with_an_arpa_file(tmp_path: Path) -> None:
    (tmp_path / "mine.arpa").write_text(ARPA)
    one = CtcAsr(CtcParameters(language_model=str(tmp_path)))
    one.load()
    assert one.weights_digest() != CtcAsr(CtcParameters()).weights_digest()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (ARPA.replace("3-grams", "4-grams"), r"model.arpa:20: 4-grams"),
        (ARPA.replace("-0.5\tover there", "-0.5\tover"), r"'over -0.1': no 1-gram of '-0.1'"),
        (ARPA.replace("-0.11", "x"), r"model.arpa:21: not a 3-gram"),
        ("I am not a model\n", "no 1-grams"),
    ],
)
def test_what_is_no_arpa_file_is_named(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "model.arpa").write_text(text)
    with pytest.raises(ModelError, match=reason):
        read_arpa(tmp_path / "model.arpa")
