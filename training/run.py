"""A training under way: its clock over all its starts, its checkpoint, its log and its curves. It
may be one of several workers (see training/distributed.py), of which the first one writes.

    run = Run(out, budget_s, {"network": network, "optimizer": optimizer}, export)
    for done in run.steps():
        ...
        run.note(loss=loss.item())
"""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from training import distributed
from training.curves import plot, read_log

_SAVE_S = 300.0


class Part(Protocol):
    """A network, an optimizer: what a checkpoint is made of."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any: ...


class Run:
    """Goes on from `out`/checkpoint.pt where that is. `seconds` of training, over all starts, are
    to be at most `budget`, `step` at most `most_steps`. `export` writes the model as it is, and
    may return scores for the log; it is called with each checkpoint: every five minutes, and at
    the end. A line with the mean of what was noted goes to standard output and `out`/log.jsonl
    every `report_steps`."""

    def __init__(
        self,
        out: Path,
        budget: float,
        parts: Mapping[str, Part],
        export: Callable[[], Mapping[str, float] | None],
        report_steps: int = 100,
        most_steps: float = math.inf,
    ) -> None:
        self.step = 0
        self.seconds = 0.0
        self._out = out
        self._budget = budget
        self._parts = parts
        self._export = export
        self._report_steps = report_steps
        self._most_steps = most_steps
        self._noted: defaultdict[str, list[float]] = defaultdict(list)
        self._checkpoint = out / "checkpoint.pt"
        if self._checkpoint.is_file():
            state = torch.load(self._checkpoint, weights_only=True)
            self.step, self.seconds = state["step"], state["seconds"]
            for name, part in parts.items():
                part.load_state_dict(state[name])

    def steps(self) -> Iterator[float]:
        """The share of the training that is over, once before each step. All workers do the same
        number of steps, by the clock of the first."""
        saved = last = time.monotonic()
        while (done := distributed.agree(self._done())) < 1:
            yield done
            now = time.monotonic()
            self.step += 1
            self.seconds += now - last
            last = now
            if not distributed.first():
                continue
            if self.step % self._report_steps == 0:
                self._report()
            if now - saved > _SAVE_S:
                self._save()
                saved = time.monotonic()
        if distributed.first():
            if self._noted:
                self._report()
            self._save()
            plot(read_log(self._out / "log.jsonl"), self._out / "curves.png")

    def note(self, **values: float) -> None:
        """Numbers of this step, for the log."""
        for name, value in values.items():
            self._noted[name].append(value)

    def log(self, values: Mapping[str, float]) -> None:
        """A line of its own."""
        row = {"step": self.step, "seconds": round(self.seconds), **values}
        line = json.dumps({name: _short(value) for name, value in row.items()})
        print(line, flush=True)
        with (self._out / "log.jsonl").open("a") as log:
            log.write(line + "\n")

    def _done(self) -> float:
        return max(self.step / self._most_steps, self.seconds / self._budget)

    def _report(self) -> None:
        self.log({name: sum(values) / len(values) for name, values in self._noted.items()})
        self._noted.clear()

    def _save(self) -> None:
        """Written aside, then renamed: a kill leaves the old checkpoint whole."""
        state: dict[str, Any] = {name: part.state_dict() for name, part in self._parts.items()}
        aside = self._checkpoint.with_suffix(".new")
        torch.save(state | {"step": self.step, "seconds": self.seconds}, aside)
        aside.replace(self._checkpoint)
        if scores := self._export():
            self.log(scores)


def warm_cosine(step: int, done: float, warm_up: int) -> float:
    """The share of the highest learning rate: a straight rise over `warm_up` steps, and half a
    cosine over the training, to a two hundredth."""
    fall = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return min(1.0, (step + 1) / warm_up) * max(fall, 0.005)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def _short(value: float) -> float:
    return value if isinstance(value, int) else float(f"{value:.5g}")
