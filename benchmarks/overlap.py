"""Overlapped speech: who speaks when with and without the stages `segmentation` and `overlap`, how
well overlaps are found, and what it costs. On the recordings of `benchmarks.diarization`.

    python -m benchmarks.overlap --data ../shared/data --work DIR [--sets ami short]

Prints two tables and writes DIR/overlap.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.clustering import NoAudio
from benchmarks.diarization_sets import SETS, Recording, recordings
from jobs.references import Scored
from jobs.scoring import Scores, overall, score
from pipeline.records import Segmentation, Span, SpeakerSegment
from pipeline.stage import Inputs
from stages.audio.decode import AudioParameters, AudioSource
from stages.clustering.stage import ClusteringParameters, SpeakerClustering
from stages.clustering.timeline import to_annotation
from stages.segmentation.chunks import over_time
from stages.segmentation.overlap import STEP_MS, OverlapParameters, OverlappedSpeech, united
from stages.segmentation.second import Exclusive, second_speakers
from stages.segmentation.stage import PyanNetSegmentation, SegmentationParameters

BEFORE = "one speaker at a time"
CUT = "pauses cut"
ADDED = "second speakers added"
BOTH = "both: the stage `overlap`"
TRUE = "true overlaps, nearest speaker"


@dataclass(frozen=True)
class Row:
    """Rates as fractions of the speech, collar 0 and `der_250` with 250 ms."""

    set: str
    timeline: str
    der: float
    missed: float
    false_alarm: float
    confusion: float
    der_250: float
    jer: float


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


def segmented(recording: Recording, stage: PyanNetSegmentation) -> tuple[Segmentation, float]:
    """What the network hears, and the CPU time that it took, decoding included."""
    source = AudioSource(str(recording.audio), AudioParameters.model_validate({}))
    began = time.process_time()
    found = stage.run(Inputs(source, {}))
    return found, time.process_time() - began


def timelines(
    recording: Recording, found: Segmentation, parameters: OverlapParameters
) -> Iterator[tuple[str, tuple[SpeakerSegment, ...]]]:
    """The recording's timeline in each of the ways that are compared."""
    inputs = Inputs(NoAudio(), {"embedding": recording.embeddings, "vad": recording.speech})
    single = SpeakerClustering(ClusteringParameters()).run(inputs)
    yield BEFORE, single
    ways: dict[str, dict[str, float]] = {
        CUT: {"threshold": 1.0},
        ADDED: {"speech_threshold": 0.0},
        BOTH: {},
    }
    given = Inputs(NoAudio(), {"clustering": single, "segmentation": found})
    for name, changed in ways.items():
        stage = OverlappedSpeech(parameters.model_copy(update=changed))
        yield name, stage.run(given)
    nobody = np.full((len(over_time(found, STEP_MS)[0]), 2), -1)
    real = _true_overlaps(recording.reference)
    second = second_speakers(Exclusive(single), real, nobody, STEP_MS) if single else []
    yield TRUE, united([*single, *second])


def measure(
    name: str,
    given: Sequence[Recording],
    stage: PyanNetSegmentation,
    parameters: OverlapParameters,
) -> tuple[list[Row], list[Found]]:
    scores: dict[str, list[Scores]] = {}
    heard: list[Found] = []
    for recording in given:
        found, seconds = segmented(recording, stage)
        likely = over_time(found, STEP_MS)[1]
        heard.append(Found(likely, overlaps(recording.reference, len(likely)), seconds))
        truth = replace(recording.reference, words=None)
        for timeline, segments in timelines(recording, found, parameters):
            annotation = to_annotation(segments, truth.name)
            scores.setdefault(timeline, []).append(score(truth, Scored(truth.name, annotation)))
    return [_row(name, timeline, own) for timeline, own in scores.items()], heard


def _row(name: str, timeline: str, scores: Sequence[Scores]) -> Row:
    total = overall(scores)
    der = total.der_at(0)
    return Row(
        set=name,
        timeline=timeline,
        der=der.value or 0.0,
        missed=der.missed / der.total,
        false_alarm=der.false_alarm / der.total,
        confusion=der.confusion / der.total,
        der_250=total.der_at(250).value or 0.0,
        jer=total.jer.value or 0.0,
    )


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
    table = Table("set", "timeline", box=None)
    for column in ("DER", "missed + false alarm + confusion", "DER 0.25", "JER"):
        table.add_column(column, justify="right")
    for row in rows:
        parts = (row.missed, row.false_alarm, row.confusion)
        table.add_row(
            row.set,
            row.timeline,
            f"{100 * row.der:.1f}",
            " + ".join(f"{100 * part:.1f}" for part in parts),
            f"{100 * row.der_250:.1f}",
            f"{100 * row.jer:.1f}",
        )
    return table


def _detection_table(found: Sequence[Mapping[str, object]]) -> Table:
    table = Table("set", box=None)
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
    parser.add_argument("--model", default=SegmentationParameters().model)
    parser.add_argument("--step", type=int, default=SegmentationParameters().step_ms, help="ms")
    parser.add_argument("--set", nargs="*", default=[], help="parameters of the stage overlap")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pairs = (pair.split("=", 1) for pair in arguments.set)
    parameters = OverlapParameters.model_validate({k: yaml.safe_load(v) for k, v in pairs})
    stage = PyanNetSegmentation(
        SegmentationParameters(model=arguments.model, step_ms=arguments.step)
    )
    stage.load()
    rows: list[Row] = []
    found: list[dict[str, object]] = []
    for name in arguments.sets:
        given = list(recordings(name, arguments.data, arguments.work, arguments.pool))
        own, heard = measure(name, given, stage, parameters)
        rows += own
        found.append(detection(name, heard, parameters.threshold))
    console = Console(width=130)
    console.print(_table(rows))
    console.print(_detection_table(found))
    report = {"timelines": [asdict(row) for row in rows], "overlaps": found}
    (arguments.work / "overlap.json").write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
