"""Where the recordings of a run are, and how many helpers each could use."""

from __future__ import annotations

import math
import time
from collections.abc import Container
from typing import NamedTuple

_START = 5.0  # seconds that a helper takes to start: it comes where it has more than that to do


class Report(NamedTuple):
    """Of a conductor: where its recording is (see `pipeline.stage.Hook`; stage "" once it has
    ended), the node that it runs on, and the seconds that it worked since its last report."""

    recording: str
    stage: str
    completed: int
    total: int
    node: str
    seconds: float


class Place(NamedTuple):
    """The latest report, and when the stage began."""

    report: Report
    began: float

    def goes_on(self, report: Report) -> bool:
        """Whether it is of the same run of the stage: after a death, a stage begins again."""
        before = self.report
        return report.stage == before.stage and report.completed >= before.completed

    @property
    def left(self) -> float:
        """Seconds of the stage to come, as fast as it went so far; 0 where nothing is known."""
        _, _, completed, total, *_ = self.report
        if not completed:
            return 0.0
        return (time.monotonic() - self.began) / completed * (total - completed)


class Places:
    """`expected`: how many recordings are under way or about to be, as the driver knows."""

    def __init__(self) -> None:
        self.expected = math.inf
        self._places: dict[str, Place] = {}

    def tell(self, report: Report) -> None:
        """Of one after the other, of any recording."""
        before = self._places.get(report.recording)
        if not report.stage:
            self._places.pop(report.recording, None)
        elif before and before.goes_on(report):
            self._places[report.recording] = Place(report, before.began)
        else:
            self._places[report.recording] = Place(report, time.monotonic())

    def stage(self, recording: str) -> str:
        """The one that the recording is at; "" where that is not known."""
        place = self._places.get(recording)
        return place.report.stage if place else ""

    def nodes(self) -> list[str]:
        """Where conductors are at work."""
        return [place.report.node for place in self._places.values()]

    def at(self, stage: str) -> int:
        """How many recordings are at the stage."""
        return sum(place.report.stage == stage for place in self._places.values())

    def spare(self, cpus: int) -> int:
        """CPUs that no conductor needs: each keeps one busy."""
        return int(max(0, cpus - max(self.expected, len(self._places))))

    def share(self, recording: str, count: int) -> int:
        """Of `count` helpers, those of the recording: all have as many, or one more."""
        each, over = divmod(count, len(self._places))
        return each + (list(self._places).index(recording) < over)

    def helpers(self, spare: int, own: Container[str]) -> int:
        """How many of the `spare` CPUs are worth a helper. Stages with workers of their `own` need
        none."""
        some = (place for place in self._places.values() if place.report.stage not in own)
        return min(spare, sum(int(place.left / _START) for place in some))

    def reports(self) -> list[Report]:
        """The latest of each recording."""
        return [place.report for place in self._places.values()]
