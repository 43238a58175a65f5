"""The progress display: recordings done, and where the current one is. Nothing is drawn where
standard error is not a terminal."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class ProgressDisplay:
    """A context manager whose `hook` is given to the executor."""

    def __init__(self, console: Console, recordings: int) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._recordings = self._progress.add_task("recordings", total=recordings)
        self._stage = self._progress.add_task("starting", total=None)
        self._shown = ("", "")

    def __enter__(self) -> ProgressDisplay:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def hook(self, recording: str, stage: str, completed: int, total: int) -> None:
        """See `pipeline.stage.Hook`. Milliseconds of audio are shown as seconds."""
        if (recording, stage) != self._shown:
            self._shown = (recording, stage)
            self._progress.reset(self._stage, description=f"{recording}: {stage}", total=None)
        if total > 1:
            self._progress.update(self._stage, completed=completed // 1000, total=total // 1000)

    def recording_done(self) -> None:
        self._progress.advance(self._recordings)
