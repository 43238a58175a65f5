"""`hansard evaluate`: which transcript belongs to which reference, and their scores together.
A recording without a transcript is named with its reason, never left out in silence.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.references import read_references, read_transcript, recording_stem
from jobs.scoring import Rate, Scores, overall, score
from pipeline.errors import OutputError, UsageError, printable

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Unscored:
    """A reference whose recording has no transcript, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Evaluation:
    """The scores of each recording, and of all together."""

    recordings: tuple[Scores, ...]
    overall: Scores
    unscored: tuple[Unscored, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON; rates are fractions, their totals beside them."""
        counts = self.speaker_counts()
        return {
            "recordings": [scores.as_dict() for scores in self.recordings],
            "overall": self.overall.as_dict(),
            "speaker_counts": {
                "exact": self._exact() / len(self.recordings),
                "mean_error": self.overall.speakers.error / len(self.recordings),
                "confusion": [
                    {"reference": real, "hypothesis": found, "recordings": number}
                    for (real, found), number in sorted(counts.items())
                ],
            },
            "unscored": [vars(unscored) for unscored in self.unscored],
        }

    def speaker_counts(self) -> Counter[tuple[int, int]]:
        """How many recordings have so many speakers in the reference and in the hypothesis."""
        return Counter((s.speakers.reference, s.speakers.hypothesis) for s in self.recordings)

    def _exact(self) -> int:
        return sum(not scores.speakers.error for scores in self.recordings)

    def write_csv(self, path: Path) -> None:
        """A row a recording, then all together; rates are fractions, empty where there is none.
        OutputError where it cannot be written."""
        rows = [_flat(scores) for scores in (*self.recordings, self.overall)]
        try:
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise OutputError(f"{printable(str(path))}: cannot be written: {reason}") from None

    def table(self) -> Table:
        """A row a recording, then all together; rates in per cent."""
        from rich.table import Table
        from rich.text import Text

        table = Table(
            box=None,
            pad_edge=False,
            padding=(0, 1, 0, 0),
            caption=Text(self._caption(), overflow="fold"),
            caption_justify="left",
        )
        table.add_column("recording", overflow="fold", min_width=10)
        for column in _COLUMNS:
            table.add_column(column, justify="right", no_wrap=True)
        for scores in self.recordings:
            table.add_row(printable(scores.name), *_cells(scores))
        if len(self.recordings) > 1:
            table.add_section()
            table.add_row(self.overall.name, *_cells(self.overall), style="bold")
        return table

    def _caption(self) -> str:
        error = self.overall.speakers.error / len(self.recordings)
        lines = [
            "per cent; DER with/without overlapped speech, at collar 0 and 0.25 s;",
            "m+f+c: missed+false+confused; spk: speakers found/real, their number right for "
            f"{self._exact()} of {len(self.recordings)}, mean error {error:.1f}",
        ]
        lines += [f"not scored: {printable(u.name)}: {u.reason}" for u in self.unscored]
        return "\n".join(lines)


_COLUMNS = ("spk", "DER", "m+f+c", "DER.25", "JER", "WER", "CER", "cpWER", "tcpWER")


def _cells(scores: Scores) -> list[str]:
    der = scores.der_at(0)
    parts = (der.missed, der.false_alarm, der.confusion)
    split = "+".join(f"{100 * part / der.total:.1f}" for part in parts) if der.total else "-"
    rates = (scores.jer, scores.wer, scores.cer, scores.cpwer, scores.tcpwer)
    return [
        f"{scores.speakers.hypothesis}/{scores.speakers.reference}",
        _with_and_without_overlap(scores, 0),
        split,
        _with_and_without_overlap(scores, 250),
        *map(_percent, rates),
    ]


def _with_and_without_overlap(scores: Scores, collar: int) -> str:
    return "/".join(_percent(scores.der_at(collar, overlap)) for overlap in (True, False))


def _flat(scores: Scores) -> dict[str, str | int | float | None]:
    """A row of the CSV."""
    row: dict[str, str | int | float | None] = {
        "recording": scores.name,
        "speakers_reference": scores.speakers.reference,
        "speakers_hypothesis": scores.speakers.hypothesis,
        "speakers_error": scores.speakers.error,
    }
    for der in scores.der:
        name = f"der_{der.collar}" + ("" if der.overlap else "_without_overlap")
        parts = {"missed": der.missed, "false_alarm": der.false_alarm, "confusion": der.confusion}
        row[name] = der.value
        row |= {f"{name}_{part}": v / der.total if der.total else None for part, v in parts.items()}
    for name in ("jer", "wer", "cer", "cpwer", "tcpwer"):
        rate: Rate | None = getattr(scores, name)
        row[name] = rate.value if rate else None
    return row


def _percent(rate: Rate | None) -> str:
    value = rate.value if rate else None
    return "-" if value is None else f"{100 * value:.1f}"


def evaluate(reference: Path, out: Path) -> Evaluation:
    """Scores the transcripts in `out` that have a reference; see `read_references` for what
    `reference` may be. A recording's reference has the name of its file: meeting.opus is
    scored against meeting.rttm. UsageError where nothing fits, or a file cannot be read."""
    transcripts = _transcripts(out)
    references = read_references(reference, transcripts)
    scores: list[Scores] = []
    unscored: list[Unscored] = []
    for name in sorted(references):
        found = transcripts.get(name, [])
        if not found:
            unscored.append(Unscored(name, _why_missing(name, out)))
        elif len(found) > 1:
            ids = ", ".join(sorted(file.stem for file in found))
            raise UsageError(
                f"{len(found)} transcripts are of a recording called {printable(name)!r} "
                f"({printable(ids)}): one reference cannot be for both"
            )
        else:
            scores.append(score(references[name], read_transcript(found[0])))
    if not scores:
        raise UsageError(
            f"no reference in {printable(str(reference))} has the name of a transcribed recording: "
            f"references {_some(references)}; recordings {_some(transcripts)}"
        )
    return Evaluation(tuple(scores), overall(scores), tuple(unscored))


def _transcripts(out: Path) -> dict[str, list[Path]]:
    """The transcript files by the stem of their recording."""
    found: dict[str, list[Path]] = {}
    for file, record in _records(out / "transcripts"):
        found.setdefault(recording_stem(record["uri"]), []).append(file)
    if not found:
        raise UsageError(
            f"no transcripts in {printable(str(out))}: "
            f"make them with: hansard transcribe SOURCE --out {printable(str(out))}"
        )
    return found


def _why_missing(name: str, out: Path) -> str:
    for _, record in _records(out / "failures"):
        if recording_stem(record["uri"]) == name:
            return f"failed in {record.get('stage')}: {printable(str(record.get('error')))}"
    return "no transcript"


def _records(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for file in sorted(folder.glob("*.json")):
        try:
            record = json.loads(file.read_bytes())
            recording_stem(record["uri"])
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UsageError(f"{printable(str(file))}: not one of Hansard's records") from error
        yield file, record


def _some(names: dict[str, Any]) -> str:
    shown = ", ".join(printable(name) for name in sorted(names)[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")
