"""Who spoke when: Hansard beside the baseline that people build themselves and beside the rules
of FunASR and 3D-Speaker on Hansard's own speech segments and embeddings; and the scale figures.

    python -m benchmarks.diarization --data ../shared/data --work DIR [--quick]

Prints both tables and writes DIR/diarization.json and .csv. What the recordings need (audio,
speech, embeddings, segmentation) is made on the first run and kept in DIR.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from multiprocessing import get_context
from pathlib import Path

from rich.box import MARKDOWN
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.clustering import (
    DENSE_MOST,
    SCALED,
    Measured,
    NoAudio,
    TooLarge,
    at_scale,
    meeting,
    scale_table,
)
from benchmarks.diarization_rates import COLUMNS, Rates, speech_scores
from benchmarks.diarization_sets import SETS, Recording, Sets
from benchmarks.peak import Peak
from benchmarks.peers import baseline
from benchmarks.peers.rules import (
    Labels,
    Vectors,
    funasr,
    stretches,
    three_d_speaker_spectral,
    three_d_speaker_umap,
)
from jobs.scoring import Scores, overall
from pipeline.profile import load_profile
from pipeline.records import SpeakerSegment
from pipeline.stage import Inputs

HANSARD, EXCLUSIVE = "Hansard", "Hansard, one speaker at a time"
UMAP = "Hansard, one speaker at a time, umap-hdbscan"
BASELINE = "baseline: silero-vad, resemblyzer, dense spectral"
ON_BASELINE = "the baseline's speech and embeddings, Hansard's clustering"
DENSE_RULES = "3D-Speaker's rules, spectral"
PROFILES: dict[str, tuple[str, ...]] = {
    HANSARD: (),
    EXCLUSIVE: (),
    UMAP: ("clustering.method=umap-hdbscan",),
    # What suits these embeddings, whose cosines are all high; the defaults suit the bundled ones.
    ON_BASELINE: ("clustering.blend=0", "clustering.merge_doubt=1.0", "clustering.neighbours=10"),
}
"""What each of Hansard's systems changes in the default profile."""
RULES: dict[str, tuple[Callable[[Vectors], Labels], float]] = {
    "FunASR's rules": (funasr, 0.7),
    DENSE_RULES: (three_d_speaker_spectral, 0.0),
    "3D-Speaker's rules, UMAP-HDBSCAN": (three_d_speaker_umap, 0.0),
    BASELINE: (baseline.labels_of, 0.0),
}
SYSTEMS = (*PROFILES, *RULES)
OTHER_EARS = (BASELINE, ON_BASELINE)
DENSE_SYSTEMS = (DENSE_RULES, BASELINE)
CAPTION = (
    "per cent; speakers: found/real, the mean error of their number and how often it is exact; "
    "s: CPU time of clustering (and overlap); MB: added at the peak"
)


@dataclass(frozen=True)
class Row:
    """One system on one set; `seconds` of CPU time from embeddings to the timeline, and the
    `megabytes` that this added to the process at its peak."""

    set: str
    system: str
    recordings: int
    rates: Rates
    speakers: int
    speakers_found: int
    count_error: float
    count_exact: float
    seconds: float
    megabytes: float

    def flat(self) -> dict[str, object]:
        return {k: v for k, v in asdict(self).items() if k != "rates"} | asdict(self.rates)


@dataclass(frozen=True)
class NotRun:
    """A system that cannot run on a set, and why."""

    set: str
    system: str
    reason: str


def measure(
    name: str, system: str, given: Sequence[Recording], settings: Sequence[str]
) -> tuple[Row, list[Scores]]:
    """To be run in a process of its own, because of the peak memory."""
    timeline_of = _timelines(system, settings)
    warm_up = meeting(300, 2, seed=1)  # imports and compiles
    timeline_of(replace(given[0], speech=warm_up.speech, embeddings=warm_up.embeddings))
    scores: list[Scores] = []
    seconds, megabytes = 0.0, 0.0
    for recording in given:
        began = time.process_time()
        with Peak() as peak:
            found = timeline_of(recording)
        seconds += time.process_time() - began
        megabytes = max(megabytes, peak.megabytes)
        scores.append(speech_scores(recording.reference, found))
    counts = overall(scores).speakers
    row = Row(
        set=name,
        system=system,
        recordings=len(scores),
        rates=Rates.over(scores),
        speakers=counts.reference,
        speakers_found=counts.hypothesis,
        count_error=counts.error / len(scores),
        count_exact=sum(not s.speakers.error for s in scores) / len(scores),
        seconds=seconds,
        megabytes=megabytes,
    )
    return row, scores


def _timelines(
    system: str, settings: Sequence[str]
) -> Callable[[Recording], Sequence[SpeakerSegment]]:
    """How the system says who speaks when."""
    if system in RULES:
        labels_of, shortest = RULES[system]

        def by_rules(recording: Recording) -> Sequence[SpeakerSegment]:
            labels = labels_of(recording.embeddings.vectors)
            found = stretches(recording.embeddings.spans, labels, shortest)
            return [SpeakerSegment(round(1000 * a), round(1000 * b), str(n)) for a, b, n in found]

        return by_rules
    graph = load_profile("default", (*settings, *PROFILES[system]))
    stages = {node.name: node.stage for node in graph.nodes}
    names = ("clustering", "overlap") if system == HANSARD else ("clustering",)

    def by_hansard(recording: Recording) -> Sequence[SpeakerSegment]:
        found: Sequence[SpeakerSegment] = ()
        made: dict[str, object] = {
            "vad": recording.speech,
            "embedding": recording.embeddings,
            "segmentation": recording.segmentation,
        }
        for name in names:
            made[name] = found = stages[name].run(Inputs(NoAudio(), made))
        return found

    return by_hansard


def compare(
    name: str, given: Sequence[Recording], system: str, work: Path, settings: Sequence[str]
) -> tuple[Row | NotRun, list[Scores]]:
    """A system on the recordings of one set."""
    most = max(len(recording.embeddings.spans) for recording in given)
    if system in DENSE_SYSTEMS and most > DENSE_MOST:
        return NotRun(name, system, TooLarge(most).reason), []
    if system in OTHER_EARS:
        heard = [baseline.kept(recording.audio, work / "baseline") for recording in given]
        given = [
            replace(recording, speech=speech, embeddings=embeddings)
            for recording, (speech, embeddings) in zip(given, heard, strict=True)
        ]
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(measure, name, system, given, settings).result()


def _table(rows: Iterable[Row | NotRun]) -> Table:
    table = Table(box=MARKDOWN, caption=CAPTION)
    table.add_column("set")
    table.add_column("system", no_wrap=True)
    for column in (*COLUMNS, "speakers", "error", "exact", "s", "MB more"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        if isinstance(row, NotRun):
            table.add_row(row.set, row.system, "-", row.reason)
            continue
        table.add_row(
            row.set,
            row.system,
            *row.rates.cells(),
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
    parser.add_argument("--set", nargs="*", default=[], help="stage.key=value, of Hansard's rows")
    parser.add_argument("--hours", nargs="*", type=float, default=[1, 10, 24], help="scale figures")
    parser.add_argument("--quick", action="store_true", help="3 excerpts, 3 short meetings, 1 hour")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.sets, arguments.hours = SETS[:2], arguments.hours[:1]
    console = Console(width=190)
    if reason := baseline.missing():
        console.print(f"left out: {', '.join(OTHER_EARS)}: {reason}")
        arguments.systems = [one for one in arguments.systems if one not in OTHER_EARS]
    measured, scale = _measured(arguments)
    console.print(_table(row for row, _ in measured))
    if scale:
        console.print(scale_table(scale))
    _write(arguments.work, measured, scale)


def _measured(
    asked: argparse.Namespace,
) -> tuple[list[tuple[Row | NotRun, list[Scores]]], list[Measured | TooLarge]]:
    """Both tables' rows, with a progress bar."""
    sets = Sets(asked.data, asked.work, load_profile("default", asked.set), asked.pool, asked.quick)
    steps = sum(len(sets.audio(name)) + len(asked.systems) for name in asked.sets)
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("after {task.description}"),
    )
    terminal = Console(stderr=True)
    with Progress(*columns, console=terminal, disable=not terminal.is_terminal) as progress:
        bar = progress.add_task("0", total=steps + len(SCALED) * len(asked.hours))
        measured: list[tuple[Row | NotRun, list[Scores]]] = []
        for name in asked.sets:
            given = []
            for recording in sets.recordings(name):
                given.append(recording)
                progress.update(bar, advance=1, description=f"{name}: {recording.audio.stem}")
            for system in asked.systems:
                measured.append(compare(name, given, system, asked.work, asked.set))
                progress.update(bar, advance=1, description=f"{name}: {system}")
        scale: list[Measured | TooLarge] = []
        for hours in asked.hours:
            for method in SCALED:
                scale.append(at_scale(method, hours))
                progress.update(bar, advance=1, description=f"{hours:g} hours: {method}")
    return measured, scale


def _write(
    work: Path,
    measured: Sequence[tuple[Row | NotRun, list[Scores]]],
    scale: Sequence[Measured | TooLarge],
) -> None:
    rows = [row for row, _ in measured if isinstance(row, Row)]
    names = [field.name for kind in (Row, Rates) for field in fields(kind)]
    names.remove("rates")
    with (work / "diarization.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(row.flat() for row in rows)
    report = {
        "rows": [row.flat() for row in rows],
        "not run": [asdict(row) for row, _ in measured if isinstance(row, NotRun)],
        "recordings": [
            {"set": row.set, "system": row.system, "scores": [s.as_dict() for s in scores]}
            for row, scores in measured
        ],
        "scale": [asdict(row) for row in scale],
    }
    (work / "diarization.json").write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
