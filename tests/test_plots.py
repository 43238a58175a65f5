"""Plots say what the tables say, also where the tables are awkward."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from dataclasses import replace

import matplotlib
import pandas as pd
import pytest

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from PIL import Image
from pyannote.core import notebook

from benchmarks.tables import simulated
from jobs import plots, tables_of
from jobs.tables.load import Tables
from pipeline.errors import UsageError
from pipeline.records import Transcript
from pipeline.transcript import speakers_of

PLOTS = {
    plots.timeline: "turns",
    plots.talk_shares: "speakers",
    plots.moods: "turns",
    plots.interruptions: "turns",
}


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def transcript() -> Transcript:
    return simulated("/m.wav", 2000, 7)


@pytest.fixture(scope="module")
def tables(transcript: Transcript) -> Tables:
    return tables_of(transcript)


def rows(axes: plt.Axes) -> list[str]:
    return [label.get_text() for label in axes.get_yticklabels()]


def test_the_timeline_has_every_turn_in_its_speakers_row(tables: Tables) -> None:
    axes = plots.timeline(tables.turns)
    assert rows(axes) == list(tables.speakers.speaker)
    drawn = {
        (round(box.x0), round(box.x1), round((box.y0 + box.y1) / 2))
        for bars in axes.collections
        for box in (path.get_extents() for path in bars.get_paths())
    }
    row = {speaker: at for at, speaker in enumerate(rows(axes))}
    turns = tables.turns
    assert drawn == {
        (start, end, row[speaker])
        for start, end, speaker in zip(turns.start_ms, turns.end_ms, turns.speaker, strict=True)
    }


def test_talk_shares_are_those_of_the_table(tables: Tables) -> None:
    axes = plots.talk_shares(tables.speakers)
    widths = [bar.get_width() for bar in axes.patches]
    assert widths == pytest.approx((100 * tables.speakers.share).tolist())


def test_moods_of_each_stretch_add_up_and_follow_the_turns(tables: Tables) -> None:
    axes = plots.moods(tables.turns, parts=10)
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["neutral", "positive", "angry", "sad"]
    heights = [[bar.get_height() for bar in bars] for bars in axes.containers]
    assert [sum(parts) for parts in zip(*heights, strict=True)] == pytest.approx([100] * 10, abs=1)
    angry = heights[labels.index("angry")]
    assert sum(angry[-3:]) > 2 * sum(angry[:3])  # as simulated


def test_interruptions_are_counted_by_pair(tables: Tables) -> None:
    axes = plots.interruptions(tables.turns)
    shown = {
        (rows(axes)[text.get_position()[1]], rows(axes)[text.get_position()[0]]): text.get_text()
        for text in axes.texts
    }
    turns = tables.turns.dropna(subset=["interrupts"])
    assert len(turns) > 3
    counts = turns.groupby(["speaker", "interrupts"], observed=True).size()
    assert {pair: int(count) for pair, count in shown.items() if count} == counts.to_dict()


@pytest.mark.parametrize("plot", PLOTS, ids=lambda plot: plot.__name__)
@pytest.mark.parametrize("kind", ["silent", "crowded", "odd names", "no emotion"])
def test_awkward_recordings_are_drawn_without_complaint(
    transcript: Transcript, plot: object, kind: str
) -> None:
    turns = transcript.turns
    if kind == "silent":
        turns = ()
    elif kind == "crowded":
        turns = tuple(replace(turn, speaker=f"S{n % 30}") for n, turn in enumerate(turns))
    elif kind == "odd names":
        turns = tuple(replace(turn, speaker=f"$x_{{ {turn.speaker} {'n' * 80}") for turn in turns)
    else:
        turns = tuple(replace(turn, emotion={}, mood="") for turn in turns)
    made = tables_of(replace(transcript, turns=turns, speakers=speakers_of(turns)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        axes = plot(made.frames[PLOTS[plot]])  # type: ignore[operator, index]
        axes.figure.savefig(io.BytesIO(), format="png")


@pytest.mark.parametrize("plot", PLOTS, ids=lambda plot: plot.__name__)
def test_a_plot_is_of_one_recording(tables: Tables, plot: object) -> None:
    other = tables_of(simulated("/other.wav", 100, 1))
    name = PLOTS[plot]  # type: ignore[index]
    both = pd.concat([tables.frames[name], other.frames[name]])
    with pytest.raises(UsageError, match="one recording was given 2"):
        plot(both)  # type: ignore[operator]


def test_pyannote_draws_our_timeline(transcript: Transcript) -> None:
    annotation = plots.annotation(transcript)
    assert annotation.labels() == [speaker.label for speaker in transcript.speakers]
    for speaker in transcript.speakers:
        heard = sum(s.end - s.start for s in transcript.timeline if s.label == speaker.label)
        assert annotation.label_duration(speaker.label) == pytest.approx(heard / 1000, abs=0.01)
    notebook.reset()
    picture = Image.open(io.BytesIO(annotation._repr_png_())).convert("RGB")
    assert len(picture.getcolors(1 << 24)) > len(transcript.speakers)
