"""Who said what: every word under a speaker, sentences cut where the speaker changes,
consecutive sentences of one speaker as turns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from pydantic import Field

from pipeline.records import Sentence, SpeakerSegment, Turn
from pipeline.stage import Inputs, Parameters, Stage
from stages.attribution.cut import cut
from stages.attribution.words import Indices, attribute, smooth_flips, snap_changes


class AttributionParameters(Parameters):
    """Parameters of the attribution stage."""

    snap_ms: int = Field(
        600, ge=0, description="a change of speaker moves to a sentence end so near, in ms"
    )
    flip_words: int = Field(
        1, ge=0, description="so many words inside a sentence between words of another speaker..."
    )
    flip_ms: int = Field(300, ge=0, description="...that last no longer than this go to that one")
    turn_pause_ms: int = Field(
        5000, ge=0, description="a longer pause between sentences starts a new turn"
    )


class WordAttribution(Stage[AttributionParameters, tuple[Turn, ...]]):
    """Turns by start; S1 is the first to speak a word."""

    needs = ("punctuation", "clustering")
    version = 2
    parameters_type = AttributionParameters
    artifact_type = tuple[Turn, ...]

    def run(self, inputs: Inputs) -> tuple[Turn, ...]:
        sentences: tuple[Sentence, ...] = inputs.artifacts["punctuation"]
        segments: tuple[SpeakerSegment, ...] = inputs.artifacts["clustering"]
        words = [word for sentence in sentences for word in sentence.words]
        if not words:
            return ()
        if not segments:
            inputs.notes.append("attribution: no speaker segments: all words are given to S1")
            speakers: Indices = np.zeros(len(words), dtype=np.int64)
        else:
            found = attribute(words, sorted(segments))
            speakers = found.speakers
            outside = int(np.count_nonzero(found.distances))
            if outside:
                inputs.notes.append(
                    f"attribution: {outside} of {len(words)} words lie outside every speaker "
                    f"segment and went to the nearest, at most {found.distances.max()} ms away"
                )
            last_words = np.cumsum([len(sentence.words) for sentence in sentences]) - 1
            speakers = snap_changes(words, speakers, last_words, self.parameters.snap_ms)
        return self._turns(sentences, speakers)

    def _turns(self, sentences: Sequence[Sentence], speakers: Indices) -> tuple[Turn, ...]:
        names: dict[int, str] = {}
        turns: list[tuple[int, list[Sentence]]] = []
        for speaker, sentence in self._by_speaker(sentences, speakers):
            if turns and turns[-1][0] == speaker:
                pause = sentence.span.start - turns[-1][1][-1].span.end
                if pause <= self.parameters.turn_pause_ms:
                    turns[-1][1].append(sentence)
                    continue
            names.setdefault(speaker, f"S{len(names) + 1}")
            turns.append((speaker, [sentence]))
        return tuple(Turn(names[speaker], tuple(said)) for speaker, said in turns)

    def _by_speaker(
        self, sentences: Sequence[Sentence], speakers: Indices
    ) -> Iterator[tuple[int, Sentence]]:
        """The sentences, cut where the speaker changes."""
        first = 0
        for sentence in sentences:
            own = speakers[first : first + len(sentence.words)]
            first += len(sentence.words)
            own = smooth_flips(
                sentence.words, own, self.parameters.flip_words, self.parameters.flip_ms
            )
            bounds = [0, *(np.flatnonzero(np.diff(own)) + 1).tolist(), len(own)]
            for start, end in pairwise(bounds):
                if end > start:
                    yield int(own[start]), cut(sentence, start, end)
