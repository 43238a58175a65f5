"""Emotion tagging: how likely each turn sounds neutral, positive, angry or sad.

The classes of GigaAM-Emo; see the model's card for how little an acted corpus can promise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import ClassVar

from pydantic import Field

from pipeline.stage import Inputs
from stages.audio.cutting import Cut, cut
from stages.emotion.features import SHORTEST
from stages.emotion.head import EmotionHead, load_head
from stages.emotion.turns import Tagged, TaggingParameters, TurnTagging


class EmotionParameters(TaggingParameters):
    """Parameters of the bundled model's stage."""

    speed_only: ClassVar[frozenset[str]] = frozenset({"batch_size"})

    model: str = Field("bundled/emotion-emodb", description="bundled/NAME, or a model folder")
    batch_size: int = Field(32, ge=1, description="pieces tagged in one unit of work")


class EmotionTagging(TurnTagging[EmotionParameters]):
    """The bundled model: functionals of a piece and a linear layer."""

    version = 2
    parameters_type = EmotionParameters

    _head: EmotionHead | None = None

    def labels(self) -> Sequence[str]:
        named: Sequence[str] = self.folder.config()["labels"]
        return named

    def load(self) -> None:
        self._head = load_head(self.folder)

    def batches(self, inputs: Inputs) -> Iterator[list[Cut]]:
        spans = [piece.span for piece in self.pieces(inputs)]
        cuts = cut(inputs.audio, spans)
        while batch := list(islice(cuts, self.parameters.batch_size)):
            yield batch

    def compute(self, batch: list[Cut]) -> list[Tagged]:
        if self._head is None:
            raise RuntimeError("the stage has no weights yet: call load() first")
        return [
            Tagged(piece, self._head.probabilities(samples))
            for piece, samples in batch
            if len(samples) >= SHORTEST  # the audio may end before the last turn does
        ]
