"""A run as it goes on: a view on a terminal, or now and then a line where there is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from jobs.periodic import Periodic
from jobs.progress import Progress, Utilisation, hms, hours
from pipeline.load import StageLoad

_REFRESHES = 2  # a second


class LiveView:
    """A context manager whose `hook` is given to the executor. `loads` tells how busy the stages
    are, where many work at once; else the view shows where the one recording is. Where `console`
    is no terminal nothing is drawn; a line is written every `seconds`, if any."""

    def __init__(self, console: Console, progress: Progress, seconds: float | None = None) -> None:
        self.loads: Callable[[], Mapping[str, StageLoad]] = dict
        self._console = console
        self._progress = progress
        self._used = Utilisation()
        self._at = ("", "", 0, 0)
        self._lines = Periodic(self._write_line, seconds) if seconds is not None else None
        self._live = Live(
            console=console,
            get_renderable=self.render,
            refresh_per_second=_REFRESHES,
            transient=True,
        )

    def __enter__(self) -> LiveView:
        if self._console.is_terminal:
            self._live.start()
        elif self._lines is not None:
            self._lines.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()
        elif self._lines is not None:
            self._lines.stop()

    def hook(self, recording: str, stage: str, completed: int, total: int) -> None:
        """See `pipeline.stage.Hook`."""
        self._at = (recording, stage, completed, total)

    def render(self) -> RenderableType:
        """The view at this moment."""
        loads = self.loads()
        self._used.add(loads)
        return Group(self._counts(), self._stages(loads) if loads else self._current())

    def _counts(self) -> RenderableType:
        progress = self._progress
        bar = Table.grid(padding=(0, 1), expand=False)
        count = f"{progress.ended:,} of {progress.recordings:,} recordings"
        failed = Text(f"{progress.failed:,} failed" if progress.failed else "", style="red")
        bar.add_row(_bar(progress.ended, progress.recordings, 40), count, failed)
        left = "" if progress.left is None else f", {hms(progress.left)} left"
        facts = (
            f"{hours(progress.audio_ms)} of audio, RTFx {progress.rtfx:.0f}, "
            f"{hms(progress.seconds)} elapsed{left}"
        )
        return Group(bar, Text(facts))

    def _stages(self, loads: Mapping[str, StageLoad]) -> RenderableType:
        table = Table(box=None, pad_edge=False)
        table.add_column("stage")
        for column in ("waiting", "running", "workers"):
            table.add_column(column, justify="right")
        table.add_column("at work", justify="right")
        table.add_column("")
        for stage, load in loads.items():
            share = self._used.of(stage)
            counts = (f"{n:,}" for n in (load.waiting, load.running, load.workers))
            table.add_row(stage, *counts, f"{share:.0%}", _bar(share, 1, 20))
        return table

    def _current(self) -> RenderableType:
        recording, stage, completed, total = self._at
        row = Table.grid(padding=(0, 1))
        if recording:
            row.add_row(_bar(completed, max(total, 1), 40), Text(f"{recording}: {stage}"))
        return row

    def _write_line(self) -> None:
        self._console.print(f"progress {self._progress.line()}", markup=False)


def _bar(completed: float, total: float, width: int) -> ProgressBar:
    style = "cyan"
    return ProgressBar(
        total=max(total, 1e-9),
        completed=completed,
        width=width,
        complete_style=style,
        finished_style=style,
    )
