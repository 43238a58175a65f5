"""Plots of the result tables for people who look rather than read, with matplotlib (the extra
`plots`). Each takes DataFrames of `load_tables` or `tables_of`, draws on `axes` or on new ones,
and gives them back. Colours are those of Okabe and Ito, told apart by colour-blind people too
(https://jfly.uni-koeln.de/color/).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from jobs.exports.text import clock
from jobs.tables.schema import EMOTIONS
from pipeline.errors import UsageError
from pipeline.records import Transcript
from stages.clustering.timeline import to_annotation

try:
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes
except ImportError:
    raise UsageError("plots need matplotlib: pip install matplotlib") from None

if TYPE_CHECKING:
    import pandas as pd
    from pyannote.core import Annotation

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
MOOD_COLOURS = dict(
    zip(
        EMOTIONS,
        (
            "#CCCCCC",
            "#009E73",
            "#F0E442",
            "#D55E00",
            "#0072B2",
            "#CC79A7",
            "#E69F00",
            "#56B4E9",
            "#000000",
        ),
        strict=True,
    )
)
ROW_INCHES = 0.4
NAME = 24  # characters
TICKS = 10
STEPS_MS = [1000 * s for s in (1, 5, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600)]


def annotation(transcript: Transcript) -> Annotation:
    """Who is heard when, as pyannote's own type, which a notebook draws; seconds. pyannote draws
    all that follows at the scale of the first, until `pyannote.core.notebook.reset()`."""
    return to_annotation(transcript.timeline, transcript.uri)


def timeline(turns: pd.DataFrame, axes: Axes | None = None) -> Axes:
    """Who speaks when in one recording: a row a speaker, the first to speak on top."""
    _one_recording(turns)
    speakers = list(dict.fromkeys(turns.speaker))
    axes = axes or _axes(len(speakers))
    for row, speaker in enumerate(speakers):
        own = turns[turns.speaker == speaker]
        spans = list(zip(own.start_ms, own.end_ms - own.start_ms, strict=True))
        axes.broken_barh(spans, (row - 0.4, 0.8), color=COLOURS[row % len(COLOURS)])
    _rows(axes, speakers)
    _clock(axes)
    axes.set_title("Who speaks when")
    return axes


def talk_shares(speakers: pd.DataFrame, axes: Axes | None = None) -> Axes:
    """Each speaker's share of the speaking time of one recording, in the timeline's colours."""
    _one_recording(speakers)
    names = list(speakers.speaker)
    axes = axes or _axes(len(names))
    colours = [COLOURS[row % len(COLOURS)] for row in range(len(names))]
    bars = axes.barh(range(len(names)), 100 * speakers.share, color=colours)
    axes.bar_label(bars, [f"{share:.0%}" for share in speakers.share], padding=3)
    _rows(axes, names)
    axes.set_xlim(0, max(1, 115 * speakers.share.max()) if names else 1)
    axes.set_xlabel("share of the speaking time, per cent")
    axes.set_title("Who speaks most")
    return axes


def moods(turns: pd.DataFrame, axes: Axes | None = None, parts: int = 20) -> Axes:
    """How the mood of one recording changes: the mean probability of each emotion in each of
    `parts` equally long stretches, turns weighted by how long they reach into it. A stretch in
    which nobody speaks stays white."""
    _one_recording(turns)
    axes = axes or _axes(6)
    names = [name for name in EMOTIONS if turns[f"emotion_{name}"].notna().any()]
    scored = turns.dropna(subset=[f"emotion_{name}" for name in names], how="all")
    edges = np.linspace(0, max(turns.end_ms.max(), 1) if len(turns) else 1, parts + 1)
    inside = np.minimum(scored.end_ms.to_numpy(), edges[1:, None])  # [parts, turns], ms
    inside = np.maximum(0, inside - np.maximum(scored.start_ms.to_numpy(), edges[:-1, None]))
    total = inside.sum(axis=1)
    bottom = np.zeros(parts)
    for name in names:
        weighted = inside @ scored[f"emotion_{name}"].fillna(0).to_numpy()
        share = np.divide(100 * weighted, total, out=np.zeros(parts), where=total > 0)
        colour = MOOD_COLOURS[name]
        widths = np.diff(edges)
        axes.bar(edges[:-1], share, widths, bottom, align="edge", color=colour, label=name)
        bottom += share
    axes.set(xlim=(0, edges[-1]), ylim=(0, 100), title="Mood", ylabel="mean probability, per cent")
    _clock(axes)
    if names:
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return axes


def interruptions(turns: pd.DataFrame, axes: Axes | None = None) -> Axes:
    """Who interrupts whom in one recording, how often: rows interrupt columns."""
    _one_recording(turns)
    speakers = list(dict.fromkeys(turns.speaker))
    made = turns.dropna(subset=["interrupts"])
    counts = np.array(
        [
            [((made.speaker == one) & (made.interrupts == other)).sum() for other in speakers]
            for one in speakers
        ]
    ).reshape(len(speakers), len(speakers))
    axes = axes or _axes(len(speakers) + 2, width=4.5)
    most = counts.max(initial=1)
    if speakers:
        axes.imshow(counts, cmap="Blues", vmin=0, vmax=most)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if count > most / 2 else "black"
        axes.text(column, row, str(count) if count else "", ha="center", va="center", color=colour)
    _rows(axes, speakers)
    axes.set_xticks(range(len(speakers)), _shown(speakers), rotation=45, ha="right")
    axes.set(xlabel="is interrupted", ylabel="interrupts", title="Interruptions")
    axes.spines[:].set_visible(False)
    return axes


def _one_recording(rows: pd.DataFrame) -> None:
    count = rows.recording.nunique()
    if count > 1:
        raise UsageError(
            f"a plot of one recording was given {count}: "
            'choose one with filters={"recordings": [("recording", "==", ...)]}'
        )


def _axes(rows: int, width: float = 9) -> Axes:
    height = 1.2 + ROW_INCHES * max(rows, 3)
    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def _rows(axes: Axes, names: list[str]) -> None:
    axes.set_yticks(range(len(names)), _shown(names))
    axes.set_ylim(max(len(names), 1) - 0.5, -0.5)
    axes.spines[["top", "right"]].set_visible(False)


def _shown(names: Iterable[str]) -> list[str]:
    """Short enough for an axis; a name with dollar signs is no formula."""
    short = (name if len(name) <= NAME else name[: NAME - 1] + "…" for name in names)
    return [name.replace("$", r"\$") for name in short]


def _clock(axes: Axes) -> None:
    longest = axes.get_xlim()[1]
    step = next((s for s in STEPS_MS if longest / s <= TICKS), STEPS_MS[-1])
    axes.set_xlim(0)
    axes.set_xticks(range(0, round(longest) + 1, step))
    axes.xaxis.set_major_formatter(lambda ms, _: clock(round(ms)))
    axes.set_xlabel("time")
    axes.spines[["top", "right"]].set_visible(False)
