"""The turns of a transcript, cut into pieces of speech to be tagged, and the pieces' probabilities
put back together: what every model of emotion has in common."""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.records import Span, Turn
from pipeline.stage import BatchedStage, Inputs, Parameters
from stages.audio.cutting import Cut
from stages.models import WithModel

NEUTRAL = "neutral"
BRIDGED_PAUSE = 300


class TaggingParameters(Parameters):
    """Parameters that every model has."""

    confidence: float = Field(
        0.6, ge=0, le=1, description='probability that a mood needs to be shown; below: "neutral"'
    )
    longest_ms: int = Field(3000, ge=500, description="longer speech is tagged in pieces, in ms")
    shortest_ms: int = Field(
        300, ge=200, description="what is shorter is not tagged: neutral, without scores; in ms"
    )


TaggingParametersT = TypeVar("TaggingParametersT", bound=TaggingParameters)


class Piece(NamedTuple):
    """A stretch of one turn's speech."""

    turn: int
    span: Span


class Tagged(NamedTuple):
    """The probabilities of a piece, float32 [classes]; `piece` is its number."""

    piece: int
    probabilities: NDArray[np.float32]


class TurnTagging(
    WithModel, BatchedStage[TaggingParametersT, tuple[Turn, ...], list[Cut], list[Tagged]]
):
    """Gives every turn the probabilities of its pieces, averaged by their length."""

    package = "stages.emotion"
    needs = ("audio", "attribution")
    artifact_type = tuple[Turn, ...]

    @abstractmethod
    def labels(self) -> Sequence[str]:
        """The names of the classes, in order; before `load`, too."""

    def merge(self, results: Iterable[list[Tagged]], inputs: Inputs) -> tuple[Turn, ...]:
        turns: tuple[Turn, ...] = inputs.artifacts["attribution"]
        pieces = self.pieces(inputs)
        tagged = sorted((t for batch in results for t in batch), key=lambda t: t.piece)
        sums: defaultdict[int, NDArray[np.float64]] = defaultdict(lambda: np.zeros(1))
        for number, probabilities in tagged:
            turn, span = pieces[number]
            sums[turn] = sums[turn] + span.duration * probabilities.astype(np.float64)
        untagged = len(turns) - len(sums)
        if untagged:
            inputs.notes.append(f"{untagged} turns too short to be tagged: neutral, no scores")
        labels = self.labels()
        return tuple(
            self._with_emotion(turn, dict(zip(labels, sums[at] / sums[at].sum(), strict=True)))
            if at in sums
            else replace(turn, emotion={}, mood=NEUTRAL)
            for at, turn in enumerate(turns)
        )

    def pieces(self, inputs: Inputs) -> list[Piece]:
        """What is to be tagged, by turn and time."""
        turns: tuple[Turn, ...] = inputs.artifacts["attribution"]
        return [
            Piece(at, span)
            for at, turn in enumerate(turns)
            for speech in stretches(turn)
            for span in split(speech, self.parameters.longest_ms)
            if span.duration >= self.parameters.shortest_ms
        ]

    def _with_emotion(self, turn: Turn, probabilities: Mapping[str, float]) -> Turn:
        emotion = {label: round(float(p), 4) for label, p in probabilities.items()}
        likeliest = max(emotion, key=emotion.__getitem__)
        sure = emotion[likeliest] >= self.parameters.confidence
        return replace(turn, emotion=emotion, mood=likeliest if sure else NEUTRAL)


def stretches(turn: Turn) -> list[Span]:
    """When the turn's speaker speaks: its sentences, without longer pauses between them, in
    which others may be heard."""
    joined: list[Span] = []
    for sentence in turn.sentences:
        span = sentence.span
        if joined and span.start - joined[-1].end <= BRIDGED_PAUSE:
            joined[-1] = Span(joined[-1].start, max(joined[-1].end, span.end))
        else:
            joined.append(span)
    return joined


def split(speech: Span, longest: int) -> list[Span]:
    """Pieces of equal length, none above `longest` ms.

    >>> split(Span(0, 700), 300)
    [Span(start=0, end=233), Span(start=233, end=466), Span(start=466, end=700)]
    """
    count = max(1, -(-speech.duration // longest))
    edges = [speech.start + speech.duration * at // count for at in range(count + 1)]
    return [Span(start, end) for start, end in pairwise(edges)]
