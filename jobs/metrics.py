"""A run as Ray metrics, which every node of a cluster exports for Prometheus.
https://docs.ray.io/en/latest/cluster/metrics.html

ray_hansard_recordings_total{end="done"|"failed"|"skipped"}   recordings that ended in this run
ray_hansard_audio_seconds_total                               duration of those that are done
ray_hansard_recordings_left                                   recordings still to come
ray_hansard_stage_waiting, _running, _workers{stage=...}      units of work, and workers
ray_hansard_stage_busy_seconds_total{stage=...}               work done, all workers together
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType

from ray.util.metrics import Counter, Gauge

from jobs.periodic import Periodic
from jobs.progress import Progress
from pipeline.load import StageLoad

_EVERY = 5.0  # seconds; Ray itself reports every 10
_ENDS = ("done", "failed", "skipped")


class RayMetrics:
    """A context manager that keeps the metrics up to date from a thread. Ray must be running."""

    def __init__(self, progress: Progress, loads: Callable[[], Mapping[str, StageLoad]]) -> None:
        self._progress = progress
        self._loads = loads
        self._recordings = _Total("hansard_recordings", "Recordings ended", "end")
        self._audio = _Total("hansard_audio_seconds", "Audio done, in seconds")
        self._busy = _Total("hansard_stage_busy_seconds", "Work done, in seconds", "stage")
        self._left = Gauge("hansard_recordings_left", "Recordings to come")
        self._gauges = {
            what: Gauge(f"hansard_stage_{what}", description, ("stage",))
            for what, description in {
                "waiting": "Units of work that wait",
                "running": "Units of work that run",
                "workers": "Units of work that could run at once",
            }.items()
        }
        self._often = Periodic(self._publish, _EVERY)

    def __enter__(self) -> RayMetrics:
        self._publish()
        self._often.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._often.stop()
        self._publish()

    def _publish(self) -> None:
        progress = self._progress
        for end in _ENDS:
            self._recordings.reach(getattr(progress, end), end)
        self._audio.reach(progress.audio_ms / 1000)
        self._left.set(progress.recordings - progress.ended)
        for stage, load in self._loads().items():
            for what, gauge in self._gauges.items():
                gauge.set(getattr(load, what), {"stage": stage})
            self._busy.reach(load.busy, stage)


class _Total:
    """A counter that is told totals. `tag` is the name of its one tag, if it has one."""

    def __init__(self, name: str, description: str, tag: str = "") -> None:
        self._tag = tag
        self._counter = Counter(name, description, (tag,) if tag else ())
        self._reached: dict[str, float] = {}

    def reach(self, total: float, value: str = "") -> None:
        more = total - self._reached.get(value, 0.0)
        if more > 0:
            self._counter.inc(more, {self._tag: value} if self._tag else {})
            self._reached[value] = total
