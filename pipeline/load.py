"""How busy the stages of a run are, as executors tell those who watch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StageLoad:
    """One stage at one moment. `waiting` and `running` count units of work; `workers` is how many
    units could run at once; `busy` is the seconds of work done since the start, all workers
    together."""

    waiting: int = 0
    running: int = 0
    workers: int = 0
    busy: float = 0.0
