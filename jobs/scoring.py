"""Scores transcripts against references: DER, JER, WER, CER, cpWER, tcpWER, speaker counts.
The arithmetic is that of pyannote.metrics, jiwer and meeteval; here is what is compared.
"""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from jobs.references import Scored, ScoredWord

if TYPE_CHECKING:
    from pyannote.core import Timeline

COLLARS = (0, 250)
"""ms on either side of a boundary of the reference that are not scored."""

TCP_COLLAR = 5000
"""ms by which a word may be off in time and still match, in tcpWER (meeteval's usual value)."""

OVERALL = "overall"


class Rate(Protocol):
    """Errors out of a total."""

    @property
    def value(self) -> float | None: ...


def _ratio(errors: float, total: float) -> float | None:
    return errors / total if total else None


@dataclass(frozen=True)
class DiarizationErrors:
    """DER and its parts, in seconds. `collar` in ms on either side of a boundary; without
    `overlap`, time in which several people of the reference speak is left out."""

    collar: int
    overlap: bool
    missed: float
    false_alarm: float
    confusion: float
    total: float

    @property
    def value(self) -> float | None:
        """The diarization error rate; None where the reference has no speech."""
        return _ratio(self.missed + self.false_alarm + self.confusion, self.total)

    def __add__(self, other: DiarizationErrors, /) -> DiarizationErrors:
        return DiarizationErrors(
            self.collar,
            self.overlap,
            self.missed + other.missed,
            self.false_alarm + other.false_alarm,
            self.confusion + other.confusion,
            self.total + other.total,
        )


@dataclass(frozen=True)
class JaccardErrors:
    """JER: the mean error over the speakers of the reference, each counting the same."""

    error: float
    total: int

    @property
    def value(self) -> float | None:
        return _ratio(self.error, self.total)

    def __add__(self, other: JaccardErrors, /) -> JaccardErrors:
        return JaccardErrors(self.error + other.error, self.total + other.total)


@dataclass(frozen=True)
class TokenErrors:
    """Errors over words (or characters); `total` of them in the reference."""

    insertions: int
    deletions: int
    substitutions: int
    total: int

    @property
    def value(self) -> float | None:
        """The error rate; None where the reference has no words."""
        return _ratio(self.insertions + self.deletions + self.substitutions, self.total)

    def __add__(self, other: TokenErrors, /) -> TokenErrors:
        return TokenErrors(
            self.insertions + other.insertions,
            self.deletions + other.deletions,
            self.substitutions + other.substitutions,
            self.total + other.total,
        )


@dataclass(frozen=True)
class SpeakerCounts:
    """How many people speak; `error` sums the absolute differences of the recordings."""

    reference: int
    hypothesis: int
    error: int

    def __add__(self, other: SpeakerCounts, /) -> SpeakerCounts:
        return SpeakerCounts(
            self.reference + other.reference,
            self.hypothesis + other.hypothesis,
            self.error + other.error,
        )


@dataclass(frozen=True)
class Scores:
    """A recording's scores, or the sum over several. Word scores are None where the reference
    has no words. `der` in the order of COLLARS, each with and then without overlap."""

    name: str
    der: tuple[DiarizationErrors, ...]
    jer: JaccardErrors
    speakers: SpeakerCounts
    wer: TokenErrors | None = None
    cer: TokenErrors | None = None
    cpwer: TokenErrors | None = None
    tcpwer: TokenErrors | None = None

    def der_at(self, collar: int, overlap: bool = True) -> DiarizationErrors:
        """The DER with one of the COLLARS, in ms."""
        return next(d for d in self.der if d.collar == collar and d.overlap == overlap)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON: each score with its value (a fraction) and its parts."""
        scores: dict[str, Any] = {
            "name": self.name,
            "speakers": vars(self.speakers),
            "der": [_rate_as_dict(der) for der in self.der],
            "jer": _rate_as_dict(self.jer),
        }
        for name in ("wer", "cer", "cpwer", "tcpwer"):
            rate: TokenErrors | None = getattr(self, name)
            scores[name] = _rate_as_dict(rate) if rate else None
        return scores


def _rate_as_dict(rate: Rate) -> dict[str, Any]:
    value = rate.value
    parts = {k: round(v, 3) if isinstance(v, float) else v for k, v in vars(rate).items()}
    return {"value": None if value is None else round(value, 6), **parts}


def score(reference: Scored, hypothesis: Scored) -> Scores:
    """Every score that the reference allows for."""
    ours, theirs = _inside(reference, hypothesis)
    der, jer, speakers = _speech_scores(reference, hypothesis)
    words = _NO_WORDS if ours is None else _word_scores(ours, theirs)
    return Scores(reference.name, der, jer, speakers, *words)


def overall(scores: Sequence[Scores]) -> Scores:
    """The scores of all recordings together: errors summed, then divided by summed totals."""
    return Scores(
        OVERALL,
        der=tuple(reduce(add, column) for column in zip(*(s.der for s in scores), strict=True)),
        jer=reduce(add, (s.jer for s in scores)),
        speakers=reduce(add, (s.speakers for s in scores)),
        wer=_sum(s.wer for s in scores),
        cer=_sum(s.cer for s in scores),
        cpwer=_sum(s.cpwer for s in scores),
        tcpwer=_sum(s.tcpwer for s in scores),
    )


def _sum(rates: Iterable[TokenErrors | None]) -> TokenErrors | None:
    there = [rate for rate in rates if rate is not None]
    return reduce(add, there) if there else None


def _speech_scores(
    reference: Scored, hypothesis: Scored
) -> tuple[tuple[DiarizationErrors, ...], JaccardErrors, SpeakerCounts]:
    from pyannote.metrics.diarization import DiarizationErrorRate, JaccardErrorRate

    # Stretches of one speaker that touch or overlap are one: their seams are no boundaries.
    truth, guess = reference.speech.support(), hypothesis.speech.support()
    extent = _extent(reference)
    der: list[DiarizationErrors] = []
    for collar in COLLARS:
        for overlap in (True, False):
            # The field's collar (NIST md-eval's -c) lies on either side of a boundary;
            # pyannote.metrics wants the width of the whole window centred on it.
            metric = DiarizationErrorRate(collar=2 * collar / 1000, skip_overlap=not overlap)
            parts = metric(truth, guess, uem=extent, detailed=True)
            der.append(
                DiarizationErrors(
                    collar,
                    overlap,
                    parts["missed detection"],
                    parts["false alarm"],
                    parts["confusion"],
                    parts["total"],
                )
            )
    parts = JaccardErrorRate()(  # type: ignore[no-untyped-call]
        truth, guess, uem=extent, detailed=True
    )
    counts = len(truth.labels()), len(guess.labels())
    return (
        tuple(der),
        JaccardErrors(float(parts["speaker error"]), int(parts["speaker count"])),
        SpeakerCounts(*counts, error=abs(counts[0] - counts[1])),
    )


def _extent(reference: Scored) -> Timeline:
    """What is scored: the UEM, or from the first to the last moment of the reference's speech
    (as md-eval does it), so that an excerpt can be scored against a whole recording."""
    from pyannote.core import Timeline

    if reference.extent is not None:
        return reference.extent
    extent = reference.speech.get_timeline().extent()
    return Timeline([extent] if extent else [])


def _inside(
    reference: Scored, hypothesis: Scored
) -> tuple[tuple[ScoredWord, ...] | None, tuple[ScoredWord, ...]]:
    """The words of both sides whose middle lies in the UEM; without a UEM, all words, since a
    recognised word may lie a little outside of the reference's speech."""
    if reference.words is None or reference.extent is None:
        return reference.words, hypothesis.words or ()
    extent = reference.extent

    def crop(words: Iterable[ScoredWord]) -> tuple[ScoredWord, ...]:
        return tuple(w for w in words if extent.overlapping((w.start + w.end) / 2000))

    return crop(reference.words), crop(hypothesis.words or ())


WordScores: TypeAlias = tuple[
    TokenErrors | None, TokenErrors | None, TokenErrors | None, TokenErrors | None
]
"""WER, CER, cpWER, tcpWER."""

_NO_WORDS: WordScores = (None, None, None, None)


def _word_scores(reference: Sequence[ScoredWord], hypothesis: Sequence[ScoredWord]) -> WordScores:
    truth, guess = normalised(reference), normalised(hypothesis)
    wer = _wer([w.text for w in truth], [w.text for w in guess])
    # Without spaces, so that it does not depend on how a script marks its words.
    cer = _wer([c for w in truth for c in w.text], [c for w in guess for c in w.text])
    if not truth:
        return wer, cer, wer, wer
    return wer, cer, *_speaker_word_scores(truth, guess)


def normalised(words: Iterable[ScoredWord]) -> list[ScoredWord]:
    """Words as they are compared, in order of their start, whoever speaks: a word said into
    another's turn stands where it began. See `normalise`; a word that falls into several
    shares its time out among them."""
    result: list[ScoredWord] = []
    for speaker, text, start, end in sorted(words, key=lambda word: (word.start, word.end)):
        tokens = normalise(text)
        step = (end - start) / max(1, len(tokens))
        for at, token in enumerate(tokens):
            span = round(start + at * step), round(start + (at + 1) * step)
            result.append(ScoredWord(speaker, token, *span))
    return result


def normalise(text: str) -> list[str]:
    """Lower case, NFKC, no punctuation but apostrophes inside a word; Chinese and Japanese
    characters stand alone. Numbers and spellings are left as they are.

    >>> normalise("Well\u2014that's \u201cforty-two\u201d, 'kay?")
    ['well', "that's", 'forty', 'two', 'kay']
    """
    plain = unicodedata.normalize("NFKC", text).lower().replace("\u2019", "'")
    spaced = "".join(_as_scored(character) for character in plain)
    return [word for word in (word.strip("'") for word in spaced.split()) if word]


def _as_scored(character: str) -> str:
    if "\u3040" <= character <= "\u30ff" or "\u3400" <= character <= "\u9fff":
        return f" {character} "
    letter = character == "'" or unicodedata.category(character)[0] in "LMN"
    return character if letter else " "


def _wer(reference: list[str], hypothesis: list[str]) -> TokenErrors:
    from jiwer import process_words

    if not reference:  # jiwer refuses an empty reference: all that was heard is inserted
        return TokenErrors(len(hypothesis), 0, 0, 0)
    result = process_words(" ".join(reference), " ".join(hypothesis))
    return TokenErrors(
        result.insertions, result.deletions, result.substitutions, total=len(reference)
    )


def _speaker_word_scores(
    reference: Sequence[ScoredWord], hypothesis: Sequence[ScoredWord]
) -> tuple[TokenErrors, TokenErrors]:
    """cpWER and tcpWER, under the best assignment of speakers to speakers."""
    from meeteval.wer import (
        cp_word_error_rate,
        time_constrained_minimum_permutation_word_error_rate,
    )

    truth, guess = _seglst(reference), _seglst(hypothesis)
    with warnings.catch_warnings():
        # One person's words may overlap by rounding; meeteval's warning helps nobody here.
        warnings.simplefilter("ignore")
        cp = cp_word_error_rate(truth, guess)
        tcp = time_constrained_minimum_permutation_word_error_rate(
            truth, guess, collar=TCP_COLLAR / 1000
        )
    return (
        TokenErrors(cp.insertions, cp.deletions, cp.substitutions, cp.length),
        TokenErrors(tcp.insertions, tcp.deletions, tcp.substitutions, tcp.length),
    )


def _seglst(words: Sequence[ScoredWord]) -> Any:
    """meeteval's segments: a word each, seconds."""
    from meeteval.io import SegLST

    return SegLST(
        [
            {
                "session_id": OVERALL,
                "speaker": word.speaker,
                "words": word.text,
                "start_time": word.start / 1000,
                "end_time": word.end / 1000,
            }
            for word in words
        ]
    )
