"""`hansard status`: what is done, failed and claimed in an output folder, by its listing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from jobs.claims import Claims
from jobs.ledger import Failed, Ledger, reason_of
from pipeline.errors import printable

if TYPE_CHECKING:
    from rich.console import Group

_SHOWN = 20


@dataclass(frozen=True)
class Reason:
    """Failures with the same stage and error. `attempts`: the most of any; `ids` are sorted."""

    stage: str
    error: str
    count: int
    attempts: int
    ids: tuple[str, ...]


@dataclass(frozen=True)
class Running:
    """A recording that somebody works on; `expired`: or worked on, and is gone."""

    id: str
    worker: str
    expired: bool


@dataclass(frozen=True)
class Status:
    """A recording that failed and is tried again counts as failed and as running. `audio_ms` is the
    duration of what is done."""

    done: int
    audio_ms: int
    failed: int
    running: int
    expired: int
    failures: tuple[Reason, ...]
    claims: tuple[Running, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    def table(self) -> Group:
        """The counts, then the failures by error, then who works on what."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        counts = Table(box=None, pad_edge=False, show_header=False)
        for what in ("done", "failed", "running", "expired"):
            if what != "expired" or self.expired:
                hours = f"{self.audio_ms / 3_600_000:,.1f} hours of audio" if what == "done" else ""
                counts.add_row(what, Text(f"{getattr(self, what):,}", justify="right"), hours)
        parts: list[Any] = [counts]
        if self.failures:
            table = Table(box=None, pad_edge=False, title_justify="left")
            for column in ("failed", "stage", "attempts", "error"):
                right = column in ("failed", "attempts")
                table.add_column(column, justify="right" if right else "left", overflow="fold")
            for reason in self.failures[:_SHOWN]:
                error = Text(printable(reason.error))
                table.add_row(f"{reason.count:,}", reason.stage, str(reason.attempts), error)
            parts += ["", table, *_more(self.failures)]
        if self.claims:
            table = Table(box=None, pad_edge=False)
            for column in ("claimed", "worker", ""):
                table.add_column(column, overflow="fold")
            for claim in self.claims[:_SHOWN]:
                table.add_row(claim.id, claim.worker, "gone" if claim.expired else "")
            parts += ["", table, *_more(self.claims)]
        return Group(*parts)


def status(ledger: Ledger) -> Status:
    """Reads the listings, the failures and the claims; no transcript."""
    done, failed = ledger.ids("transcripts"), ledger.ids("failures")
    failures = _reasons(ledger.failures()) if failed else ()
    owners = sorted(Claims(ledger.folder).owners().items())
    claims = tuple(Running(name, owner.worker, owner.gone()) for name, owner in owners)
    expired = sum(claim.expired for claim in claims)
    audio = sum(marks[-1].duration for name, marks in ledger.marks().items() if name in done)
    return Status(len(done), audio, len(failed), len(claims) - expired, expired, failures, claims)


def _reasons(failures: Iterable[tuple[str, Failed | None]]) -> tuple[Reason, ...]:
    """The most frequent first."""
    alike: dict[tuple[str, str], list[tuple[str, int]]] = defaultdict(list)
    for recording, failed in failures:
        if failed is None:
            alike["", "a failure that cannot be read"].append((recording, 0))
        else:
            key = failed.failure.stage, reason_of(failed.failure)
            alike[key].append((recording, failed.failure.attempt))
    reasons = (
        Reason(
            stage,
            error,
            len(found),
            max(attempt for _, attempt in found),
            tuple(sorted(recording for recording, _ in found)),
        )
        for (stage, error), found in alike.items()
    )
    return tuple(sorted(reasons, key=lambda reason: (-reason.count, reason.stage, reason.error)))


def _more(rows: tuple[object, ...]) -> list[str]:
    hidden = len(rows) - _SHOWN
    return [f"and {hidden:,} more: see --json"] if hidden > 0 else []
