"""A training's curves: every number that its log.jsonl holds, over the steps, as one PNG.

python -m training.curves RUN/log.jsonl     # writes RUN/curves.png
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

from matplotlib.figure import Figure

_CLOCKS = ("step", "seconds", "audio_hours")


def read_log(path: Path) -> dict[str, list[tuple[float, float]]]:
    """(step, value) by name, in the order of the log. A line that is still being written, or
    has no step, is left out."""
    curves: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        for name, value in row.items():
            if "step" in row and name not in _CLOCKS:
                curves[name].append((float(row["step"]), float(value)))
    return dict(curves)


def plot(curves: dict[str, list[tuple[float, float]]], out: Path) -> None:
    """A panel for each curve, one below the other."""
    figure = Figure(figsize=(8, 2.2 * len(curves)), layout="constrained")
    panels = figure.subplots(len(curves), 1, sharex=True, squeeze=False)[:, 0]
    for panel, (name, points) in zip(panels, curves.items(), strict=True):
        panel.plot(*zip(*points, strict=True), linewidth=1)
        panel.set_ylabel(name)
        panel.grid(alpha=0.3)
    panels[-1].set_xlabel("step")
    figure.savefig(out, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("log", type=Path)
    arguments = parser.parse_args()
    curves = read_log(arguments.log)
    if not curves:
        parser.error(f"{arguments.log}: no row with a step in it")
    plot(curves, arguments.log.with_name("curves.png"))
    print(arguments.log.with_name("curves.png"))


if __name__ == "__main__":
    main()
