"""Sentences of a recogniser that writes its own marks and case (GigaAM's e2e versions), or of a
language without a punctuation model: no word is changed."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.records import Sentence, Word
from pipeline.stage import Inputs, Parameters, Stage
from pipeline.transcript import SENTENCE_ENDS
from stages.punctuation.stage import pauses_after

_CLOSING = "\"'\u00bb\u201d\u2019)]"


class AsWrittenParameters(Parameters):
    """The names of the punctuation models' stage."""

    sentence_pause: int = Field(
        1500, ge=0, description="a pause of at least this many ms always ends a sentence"
    )
    max_words: int = Field(60, ge=4, description="a longer sentence is cut at its longest pauses")


class AsWritten(Stage[AsWrittenParameters, tuple[Sentence, ...]]):
    """A sentence ends after a full stop, a question or exclamation mark, or a long pause."""

    needs = ("asr",)
    version = 1
    parameters_type = AsWrittenParameters
    artifact_type = tuple[Sentence, ...]

    def run(self, inputs: Inputs) -> tuple[Sentence, ...]:
        words: tuple[Word, ...] = inputs.artifacts["asr"]
        if not words:
            return ()
        pauses = pauses_after(words)
        ends = pauses >= self.parameters.sentence_pause
        ends |= np.array([word.text.rstrip(_CLOSING)[-1:] in SENTENCE_ENDS for word in words])
        ends[-1] = True
        bounds = [0, *(np.flatnonzero(ends) + 1).tolist()]
        sentences = [span for pair in pairwise(bounds) for span in self._short(*pair, pauses)]
        return tuple(Sentence(words[start:end]) for start, end in sentences)

    def _short(self, start: int, end: int, pauses: NDArray[np.int64]) -> list[tuple[int, int]]:
        """[start, end) cut until no part is longer than `max_words`, each time at the longest
        pause that is at least a quarter of `max_words` from both ends."""
        if end - start <= self.parameters.max_words:
            return [(start, end)]
        margin = self.parameters.max_words // 4
        inside = pauses[start + margin - 1 : end - margin]
        at = start + margin + int(inside.argmax())
        return [*self._short(start, at, pauses), *self._short(at, end, pauses)]
