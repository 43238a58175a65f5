"""Who spoke when: Hansard beside the baseline that people build themselves and beside the rules
of FunASR and 3D-Speaker on Hansard's own speech segments and embeddings; and the scale figures.

    python -m benchmarks.diarization --data ../shared/data --work DIR [--quick]

Prints a table and writes DIR/diarization.json and .csv. What the recordings need (audio, speech,
embeddings) is made on the first run and kept in DIR.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path

from pyannote.core import Annotation, Segment
from rich.console import Console
from rich.table import Table

from benchmarks.clustering import DENSE_MOST, NoAudio, meeting, scale_table
from benchmarks.diarization_sets import SETS, recordings
from benchmarks.peak import Peak
from benchmarks.peers import baseline
from benchmarks.peers.rules import (
    Labels,
    Stretch,
    Vectors,
    funasr,
    stretches,
    three_d_speaker_spectral,
    three_d_speaker_umap,
)
from jobs.references import Scored
from jobs.scoring import Scores, overall, score
from pipeline.records import Embeddings, Span
from pipeline.stage import Inputs
from stages.clustering.stage import ClusteringParameters, SpeakerClustering

HANSARD, HANSARD_UMAP = "Hansard", "Hansard, method umap-hdbscan"
BASELINE = "silero + resemblyzer + dense spectral"
HANSARD_ON_BASELINE = "silero + resemblyzer + Hansard's clustering"
DENSE_RULES = "3D-Speaker's rules, spectral"
RULES: dict[str, tuple[Callable[[Vectors], Labels], float]] = {
    "FunASR's rules": (funasr, 0.7),
    DENSE_RULES: (three_d_speaker_spectral, 0.0),
    "3D-Speaker's rules, UMAP-HDBSCAN": (three_d_speaker_umap, 0.0),
    BASELINE: (baseline.labels_of, 0.0),
}
PARAMETERS: dict[str, dict[str, object]] = {
    HANSARD: {},
    HANSARD_UMAP: {"method": "umap-hdbscan"},
    # What suits these embeddings, whose cosines are all high; the defaults suit the bundled ones.
    HANSARD_ON_BASELINE: {"blend": 0, "merge_doubt": 1.0, "neighbours": 10},
}
SYSTEMS = (*PARAMETERS, *RULES)
OTHER_EARS = (BASELINE, HANSARD_ON_BASELINE)
DENSE_SYSTEMS = (DENSE_RULES, BASELINE)
CAPTION = (
    "per cent; m+f+c: missed+false+confused; spk: speakers found/real, the mean error of their "
    "number and how often it is exact; s: CPU time of clustering; MB: added at the peak"
)


@dataclass(frozen=True)
class Row:
    """One system on one set; rates as fractions of the speech, `seconds` of CPU time for the
    clustering alone and the `megabytes` that it added to the process at its peak."""

    set: str
    system: str
    recordings: int
    der: float
    missed: float
    false_alarm: float
    confusion: float
    der_250: float
    jer: float
    speakers: int
    speakers_found: int
    count_error: float
    count_exact: float
    seconds: float
    megabytes: float


def measure(
    name: str, system: str, data: Path, work: Path, pool: str, quick: bool
) -> tuple[Row, list[Scores]] | str:
    """To be run in a process of its own, because of the peak memory. What cannot run gives the
    reason instead."""
    given = list(recordings(name, data, work, pool, quick))
    most = max(len(recording.embeddings.spans) for recording in given)
    if system in DENSE_SYSTEMS and most > DENSE_MOST:
        return f"dense: {8 * most**2 / 2**30:.1f} GiB a matrix for {most} windows"
    heard = [(recording.speech, recording.embeddings) for recording in given]
    if system in OTHER_EARS:
        heard = [baseline.kept(recording.audio, work / "baseline") for recording in given]
    warm_up = meeting(300, 2, seed=1)  # imports and compiles
    _diarize(system, warm_up.speech, warm_up.embeddings)
    scores: list[Scores] = []
    seconds, megabytes = 0.0, 0.0
    for recording, (speech, embeddings) in zip(given, heard, strict=True):
        began = time.process_time()
        with Peak() as peak:
            found = _diarize(system, speech, embeddings)
        seconds += time.process_time() - began
        megabytes = max(megabytes, peak.megabytes)
        truth = replace(recording.reference, words=None)
        scores.append(score(truth, Scored(truth.name, _annotation(found))))
    return _row(name, system, scores, seconds, megabytes), scores


def _diarize(system: str, speech: tuple[Span, ...], heard: Embeddings) -> list[Stretch]:
    if system in PARAMETERS:
        stage = SpeakerClustering(ClusteringParameters.model_validate(PARAMETERS[system]))
        found = stage.run(Inputs(NoAudio(), {"embedding": heard, "vad": speech}))
        return [(start / 1000, end / 1000, int(label[1:])) for start, end, label in found]
    labels_of, shortest = RULES[system]
    return stretches(heard.spans, labels_of(heard.vectors), shortest)


def _annotation(found: Iterable[Stretch]) -> Annotation:
    annotation = Annotation()
    for track, (start, end, label) in enumerate(found):
        annotation[Segment(start, end), track] = str(label)
    return annotation


def _row(name: str, system: str, scores: Sequence[Scores], seconds: float, megabytes: float) -> Row:
    total = overall(scores)
    der = total.der_at(0)
    return Row(
        set=name,
        system=system,
        recordings=len(scores),
        der=der.value or 0.0,
        missed=der.missed / der.total,
        false_alarm=der.false_alarm / der.total,
        confusion=der.confusion / der.total,
        der_250=total.der_at(250).value or 0.0,
        jer=total.jer.value or 0.0,
        speakers=total.speakers.reference,
        speakers_found=total.speakers.hypothesis,
        count_error=total.speakers.error / len(scores),
        count_exact=sum(not s.speakers.error for s in scores) / len(scores),
        seconds=seconds,
        megabytes=megabytes,
    )


def _table(rows: Iterable[Row]) -> Table:
    table = Table(box=None, caption=CAPTION)
    table.add_column("set")
    table.add_column("system")
    for column in ("DER", "m+f+c", "DER.25", "JER", "spk", "error", "exact", "s", "MB"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.set,
            row.system,
            f"{100 * row.der:.1f}",
            "+".join(f"{100 * p:.1f}" for p in (row.missed, row.false_alarm, row.confusion)),
            f"{100 * row.der_250:.1f}",
            f"{100 * row.jer:.1f}",
            f"{row.speakers_found}/{row.speakers}",
            f"{row.count_error:.2f}",
            f"{100 * row.count_exact:.0f}",
            f"{row.seconds:.1f}",
            f"{row.megabytes:.0f}",
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS)
    parser.add_argument("--pool", choices=["test", "tuning"], default="test")
    parser.add_argument("--hours", nargs="*", type=float, default=[1, 10, 24], help="scale figures")
    parser.add_argument("--quick", action="store_true", help="3 excerpts and 3 short meetings")
    arguments = parser.parse_args()
    console = Console(width=150)
    systems = list(arguments.systems)
    if reason := baseline.missing():
        for system in set(systems) & set(OTHER_EARS):
            console.print(f"left out: {system}: {reason}")
            systems.remove(system)
    sets = ("ami", "short") if arguments.quick else arguments.sets
    rows: list[Row] = []
    details: list[dict[str, object]] = []
    for name in sets:
        for system in systems:
            task = (name, system, arguments.data, arguments.work, arguments.pool, arguments.quick)
            measured = _in_a_new_process(task)
            if isinstance(measured, str):
                console.print(f"left out: {system} on {name}: {measured}")
                continue
            row, scores = measured
            rows.append(row)
            details.append({"set": name, "system": system, "scores": [s.as_dict() for s in scores]})
    console.print(_table(rows))
    with (arguments.work / "diarization.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(asdict(rows[0])))
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    report = {"rows": [asdict(row) for row in rows], "recordings": details}
    (arguments.work / "diarization.json").write_text(json.dumps(report, indent=1))
    if arguments.hours and not arguments.quick:
        console.print(scale_table(arguments.hours))


def _in_a_new_process(
    task: tuple[str, str, Path, Path, str, bool],
) -> tuple[Row, list[Scores]] | str:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(measure, *task).result()


if __name__ == "__main__":
    main()
