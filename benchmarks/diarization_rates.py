"""What a timeline of who speaks when is worth: the error rates that the tables of
`benchmarks.diarization` and `benchmarks.overlap` have in common.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from jobs.references import Scored
from jobs.scoring import Scores, overall, score
from pipeline.records import SpeakerSegment
from stages.clustering.timeline import to_annotation

COLUMNS = ("DER", "missed + false alarm + confusion", "DER 0.25", "JER")


@dataclass(frozen=True)
class Rates:
    """Fractions of the speech, all overlapped speech scored: DER and its parts at collar 0,
    `der_250` with 250 ms; and JER."""

    der: float
    missed: float
    false_alarm: float
    confusion: float
    der_250: float
    jer: float

    @classmethod
    def over(cls, scores: Sequence[Scores]) -> Rates:
        """Those of all recordings together."""
        total = overall(scores)
        der = total.der_at(0)
        return cls(
            der=der.value or 0.0,
            missed=der.missed / der.total,
            false_alarm=der.false_alarm / der.total,
            confusion=der.confusion / der.total,
            der_250=total.der_at(250).value or 0.0,
            jer=total.jer.value or 0.0,
        )

    def cells(self) -> tuple[str, ...]:
        """Per cent, as COLUMNS."""
        parts = (self.missed, self.false_alarm, self.confusion)
        return (
            f"{100 * self.der:.1f}",
            " + ".join(f"{100 * part:.1f}" for part in parts),
            f"{100 * self.der_250:.1f}",
            f"{100 * self.jer:.1f}",
        )


def speech_scores(reference: Scored, found: Iterable[SpeakerSegment]) -> Scores:
    """Without words: of who speaks when alone."""
    annotation = to_annotation(list(found), reference.name)
    return score(replace(reference, words=None), Scored(reference.name, annotation))
