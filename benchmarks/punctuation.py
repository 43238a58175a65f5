"""Accuracy and speed of the punctuation stage on transcripts that no training has seen.

    python -m benchmarks.punctuation --data ../shared/data [--model bundled/ct-transformer-en]

The whole stage runs; its written words are scored. F1 of each mark over words whose mark is known;
case over words that came through. Court arguments and meetings (QMSum) are words without times;
"AMI" are meetings with times, as one recogniser of the room would have heard them, of people who
are in no training text, and the same words without their times. With errors: 10 % of the words
replaced by random ones, 5 % dropped. Recognised: turns of the court arguments, said by the demo's
synthesisers (where they are installed), as our recogniser hears them, with its times.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.punctuation_recognised import Condition, installed, label_turns, recognised
from pipeline.records import Word
from pipeline.stage import Block, Inputs
from stages.punctuation.pauses import usual_ms
from stages.punctuation.stage import CtTransformerPunctuation, PunctuationParameters
from training.punctuation_text import (
    LOWER,
    MARKS,
    UNLABELLED,
    Labelled,
    case_of,
    documents,
    misrecognise,
    part,
)
from training.punctuation_timed import Timed, transcripts, without_times

SUBSTITUTED, DELETED = 0.10, 0.05


class NoAudio:
    """The stage reads words only."""

    def blocks(self) -> list[Block]:
        return []


@dataclass(frozen=True)
class Scores:
    """F1 by mark; share of words in the right case; F1 of the words not in lower case."""

    marks: dict[str, float]
    case: float
    raised: float
    words: int
    seconds: float


def condition(timed: Timed) -> Condition:
    """Words, marks and cases. A word ends when it usually does, or where the next one begins."""
    words, intervals = timed.text.words, np.array(timed.intervals)
    starts = np.cumsum(intervals) - intervals
    ends = starts + np.minimum(intervals, usual_ms(words))
    times = zip(words, starts.tolist(), ends.tolist(), strict=True)
    said = tuple(Word(word, start, end, 1.0) for word, start, end in times)
    return said, np.array(timed.text.marks), np.array(timed.text.cases)


def punctuate(stage: CtTransformerPunctuation, spoken: tuple[Word, ...]) -> list[str]:
    """The words as the stage writes them."""
    sentences = stage.run(Inputs(audio=NoAudio(), artifacts={"asr": spoken}))
    return [word.text for sentence in sentences for word in sentence.words]


def score(
    stage: CtTransformerPunctuation, words: tuple[Word, ...], marks: NDArray, cases: NDArray
) -> Scores:
    """`marks` and `cases` are what was written, int [N], UNLABELLED where that is not known."""
    began = time.perf_counter()
    texts = punctuate(stage, words)
    seconds = time.perf_counter() - began
    predicted = np.array([MARKS.index(text[-1]) if text[-1] in MARKS else 0 for text in texts])
    known = marks != UNLABELLED
    cased = np.array([case_of(text.rstrip("".join(MARKS))) for text in texts])
    heard = cases != UNLABELLED
    return Scores(
        marks={
            mark: f1(predicted[known] == index, marks[known] == index)
            for index, mark in enumerate(MARKS[1:], start=1)
        },
        case=float((cased[heard] == cases[heard]).mean()),
        raised=f1(cased[heard] != LOWER, cases[heard] != LOWER),
        words=len(words),
        seconds=seconds,
    )


def f1(predicted: NDArray[np.bool_], true: NDArray[np.bool_]) -> float:
    return 2 * float((predicted & true).sum()) / max(1, int(predicted.sum() + true.sum()))


def with_errors(timed: Timed, seed: int) -> Timed:
    """What simulated recognition errors leave."""
    rng, text = np.random.default_rng(seed), timed.text
    heard = misrecognise(np.array(text.marks), SUBSTITUTED, DELETED, rng)
    others = rng.integers(len(text.words), size=len(heard.kept))
    sources = np.where(heard.replaced, others, heard.kept)
    cases = np.where(heard.replaced, UNLABELLED, np.array(text.cases)[heard.kept])
    words = [text.words[index] for index in sources]
    left = Labelled(words, heard.marks.tolist(), cases.tolist())
    return Timed(left, heard.merged(np.array(timed.intervals)).tolist())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder shared/data")
    parser.add_argument("--model", default="bundled/ct-transformer-en")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    stage = CtTransformerPunctuation(PunctuationParameters(model=arguments.model))
    stage.load()
    print(f"{arguments.model}, {torch.get_num_threads()} threads")
    print(f"{'held-out text':31}    comma  period question  case   raised     words   words/s")
    texts = transcripts(arguments.data, "held-out")
    texts["AMI, without times"] = without_times(texts["AMI"].text)
    for name, text in texts.items():
        show(name, score(stage, *condition(text)))
        noisy = with_errors(text, arguments.seed)
        show(f"{name}, with errors", score(stage, *condition(noisy)))
    turns = label_turns(part(documents(arguments.data, "oral-arguments"), "held-out"))
    if installed():
        print("recognised from synthetic speech:", flush=True)
        said, heard, rate = recognised(turns)
        show("oral-arguments, as said", score(stage, *said))
        show(f"recognised, WER {rate:.1%}", score(stage, *heard))


def show(name: str, result: Scores) -> None:
    marks = "  ".join(f"{value:7.3f}" for value in result.marks.values())
    speed = result.words / result.seconds
    print(
        f"{name:31}  {marks}  {result.case:6.4f} {result.raised:6.3f} "
        f"{result.words:9d} {speed:9.0f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
