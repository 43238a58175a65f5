"""Overlapped speech: who speaks when with and without the stages `segmentation` and `overlap`, how
well overlaps are found, and what it costs. On the recordings of `benchmarks.diarization`.

    python -m benchmarks.overlap --data ../shared/data --work DIR [--sets ami short]

Prints two tables and writes DIR/overlap.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from benchmarks.clustering import NoAudio
from benchmarks.diarization_rates import COLUMNS, Rates, speech_scores
from benchmarks.diarization_sets import SETS, Recording, Sets
from jobs.references import Scored
from jobs.scoring import Scores
from pipeline.profile import load_profile
from pipeline.records import Span, SpeakerSegment
from pipeline.stage import Inputs
from stages.clustering.stage import SpeakerClustering
from stages.segmentation.chunks import over_time
from stages.segmentation.overlap import STEP_MS, OverlapParameters, OverlappedSpeech, united
from stages.segmentation.second import Exclusive, second_speakers

BEFORE = "one speaker at a time"
CUT = "pauses cut"
ADDED = "second speakers added"
BOTH = "both: the stage `overlap`"
TRUE = "true overlaps, nearest speaker"


@dataclass(frozen=True)
class Row:
    """One of the ways to lay out who speaks when."""

    set: str
    timeline: str
    rates: Rates


class Found(NamedTuple):
    """Where two are likely to speak at once, where they do (both [n], a value every STEP_MS),
    and the CPU time of the stage."""

    likely: NDArray[np.float32]
    real: NDArray[np.bool_]
    seconds: float


def overlaps(reference: Scored, count: int) -> NDArray[np.bool_]:
    """In which of `count` steps two or more speak."""
    real = np.zeros(count, dtype=bool)
    for span in _true_overlaps(reference):
        real[span.start // STEP_MS : span.end // STEP_MS] = True
    return real


def _true_overlaps(reference: Scored) -> list[Span]:
    return [
        Span(round(1000 * span.start), round(1000 * span.end))
        for span in reference.speech.get_overlap()
    ]


def timelines(
    recording: Recording, clustering: SpeakerClustering, parameters: OverlapParameters
) -> Iterator[tuple[str, Sequence[SpeakerSegment]]]:
    """The recording's timeline in each of the ways that are compared."""
    inputs = Inputs(NoAudio(), {"embedding": recording.embeddings, "vad": recording.speech})
    single = clustering.run(inputs)
    yield BEFORE, single
    ways: dict[str, dict[str, float]] = {
        CUT: {"threshold": 1.0},
        ADDED: {"speech_threshold": 0.0},
        BOTH: {},
    }
    given = Inputs(NoAudio(), {"clustering": single, "segmentation": recording.segmentation})
    for name, changed in ways.items():
        stage = OverlappedSpeech(parameters.model_copy(update=changed))
        yield name, stage.run(given)
    nobody = np.full((len(over_time(recording.segmentation, STEP_MS)[0]), 2), -1)
    real = _true_overlaps(recording.reference)
    second = second_speakers(Exclusive(single), real, nobody, STEP_MS) if single else []
    yield TRUE, united([*single, *second])


def measure(
    sets: Sets, name: str, clustering: SpeakerClustering, parameters: OverlapParameters
) -> tuple[list[Row], list[Found]]:
    scores: dict[str, list[Scores]] = {}
    heard: list[Found] = []
    for recording in sets.recordings(name):
        likely = over_time(recording.segmentation, STEP_MS)[1]
        real = overlaps(recording.reference, len(likely))
        heard.append(Found(likely, real, recording.seconds))
        for timeline, segments in timelines(recording, clustering, parameters):
            scores.setdefault(timeline, []).append(speech_scores(recording.reference, segments))
    return [Row(name, timeline, Rates.over(own)) for timeline, own in scores.items()], heard


def detection(name: str, heard: Sequence[Found], threshold: float) -> dict[str, object]:
    """Precision and recall of the overlapped time, and seconds of work a second of audio."""
    likely = np.concatenate([one.likely for one in heard])
    real = np.concatenate([one.real for one in heard])
    claimed = likely >= threshold
    right = np.count_nonzero(claimed & real)
    return {
        "set": name,
        "overlapped": float(real.mean()),
        "precision": right / max(1, np.count_nonzero(claimed)),
        "recall": right / max(1, np.count_nonzero(real)),
        "seconds": sum(one.seconds for one in heard) / (len(real) * STEP_MS / 1000),
    }


def _table(rows: Sequence[Row]) -> Table:
    table = Table("set", "timeline", box=MARKDOWN)
    for column in COLUMNS:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(row.set, row.timeline, *row.rates.cells())
    return table


def _detection_table(found: Sequence[Mapping[str, object]]) -> Table:
    table = Table("set", box=MARKDOWN)
    for column in ("overlapped", "precision", "recall", "s of CPU a second of audio"):
        table.add_column(column, justify="right")
    for row in found:
        share = [f"{100 * float(str(row[k])):.1f} %" for k in ("overlapped", "precision", "recall")]
        table.add_row(str(row["set"]), *share, f"{float(str(row['seconds'])):.4f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=("ami", "short", "medium"))
    parser.add_argument("--pool", choices=["test", "tuning"], default="test")
    parser.add_argument("--set", nargs="*", default=[], help="stage.key=value, as of transcribe")
    arguments = parser.parse_args()
    graph = load_profile("default", arguments.set)
    stages = {node.name: node.stage for node in graph.nodes}
    sets = Sets(arguments.data, arguments.work, graph, arguments.pool)
    parameters = stages["overlap"].parameters
    rows: list[Row] = []
    found: list[dict[str, object]] = []
    for name in arguments.sets:
        own, heard = measure(sets, name, stages["clustering"], parameters)
        rows += own
        found.append(detection(name, heard, parameters.threshold))
    console = Console(width=130)
    console.print(_table(rows))
    console.print(_detection_table(found))
    report = {"timelines": [asdict(row) for row in rows], "overlaps": found}
    (arguments.work / "overlap.json").write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
