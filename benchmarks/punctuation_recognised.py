"""Turns of held-out transcripts, said by synthesisers and heard by the bundled recogniser, with the
marks and cases that its words should get.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TypeAlias

import jiwer
import numpy as np
from numpy.typing import NDArray

from pipeline.records import Span, Word
from pipeline.stage import SAMPLE_RATE, Block, Inputs
from stages.asr.stage import CtcAsr, CtcParameters
from training.punctuation_text import MARKS, NONE, UNLABELLED, Labelled, label
from training.voices import VOICES, Speech, VoiceError, missing, say

Condition: TypeAlias = tuple[tuple[Word, ...], NDArray[np.int64], NDArray[np.int64]]
"""Words, and the mark after each and its case, UNLABELLED where that is not known."""

SHORTEST, LONGEST = 6, 60  # words of a turn
WORDS = 6000  # in all turns
GAP_MS = 300  # between them
PER_MS = SAMPLE_RATE // 1000


class Joined:
    """Speech one after the other, as one recording; `segments` are where each lies."""

    def __init__(self, said: Sequence[Speech]) -> None:
        self._said = [np.pad(each.samples, (0, GAP_MS * PER_MS)) for each in said]
        self.starts = np.cumsum([0, *map(len, self._said)]).tolist()
        bounds = [start // PER_MS for start in self.starts]
        self.segments = tuple(Span(a, b - GAP_MS) for a, b in pairwise(bounds))

    def blocks(self) -> Iterator[Block]:
        for start, samples in zip(self.starts, self._said, strict=False):
            yield Block(start, samples)


def installed() -> bool:
    """Whether any of the synthesisers is."""
    return not all(map(missing, VOICES))


def label_turns(documents: Sequence[list[str]]) -> list[Labelled]:
    """Turns that are not broken off, spread over all documents; WORDS words in all."""
    labelled = [label([[turn]]) for turns in documents for turn in turns]
    whole = [
        turn
        for turn in labelled
        if SHORTEST <= len(turn.words) <= LONGEST and UNLABELLED not in turn.marks
    ]
    count = round(WORDS / np.mean([len(turn.words) for turn in whole]))
    return whole[:: max(1, len(whole) // count)]


def recognised(turns: Sequence[Labelled]) -> tuple[Condition, Condition, float]:
    """The words as they were said and as they were heard, and the word error rate."""
    voices = [voice for voice in VOICES if not missing(voice)]
    said: list[tuple[Labelled, Speech]] = []
    for index, turn in enumerate(turns):
        marked = (
            word + MARKS[mark].strip("_") for word, mark in zip(turn.words, turn.marks, strict=True)
        )
        try:
            said.append((turn, say(voices[index % len(voices)], " ".join(marked))))
        except (VoiceError, ValueError):  # a text that the engine cannot time
            continue
    audio = Joined([speech for _, speech in said])
    text = [word for turn, _ in said for word in turn.words]
    marks = np.array([mark for turn, _ in said for mark in turn.marks])
    cases = np.array([case for turn, _ in said for case in turn.cases])
    true = tuple(
        Word(word, start + time.start, start + time.end, 1.0)
        for (turn, speech), start in zip(said, (s.start for s in audio.segments), strict=True)
        for word, time in zip(turn.words, speech.words, strict=True)
    )
    stage = CtcAsr(CtcParameters())
    stage.load()
    heard = stage.run(Inputs(audio, {"vad": audio.segments}))
    aligned = jiwer.process_words(" ".join(text), " ".join(word.text for word in heard))
    return (true, marks, cases), (heard, *carried(aligned, marks, cases, len(heard))), aligned.wer


def carried(
    aligned: jiwer.WordOutput, marks: NDArray[np.int64], cases: NDArray[np.int64], count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The marks and cases of the words that were heard, [count]. A wrong word keeps the mark and
    has no case; the mark of a word that is missing goes to the one before, if that has none."""
    moved, known = np.full(count, NONE), np.full(count, UNLABELLED)
    for chunk in aligned.alignments[0]:
        here = slice(chunk.hyp_start_idx, chunk.hyp_end_idx)
        there = slice(chunk.ref_start_idx, chunk.ref_end_idx)
        if chunk.type in ("equal", "substitute"):
            moved[here] = marks[there]
        if chunk.type == "equal":
            known[here] = cases[there]
        last = chunk.hyp_start_idx - 1
        if chunk.type == "delete" and last >= 0 and moved[last] == NONE:
            moved[last] = marks[there].max()
    return moved, known
