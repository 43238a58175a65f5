"""Time, memory and accuracy of the clustering methods over the length of the recording, beside
the dense spectral method that most toolkits have: `python -m benchmarks.clustering`. The
embeddings are synthetic (see `meeting`).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from benchmarks.peak import Peak
from benchmarks.peers.rules import stretches, three_d_speaker_spectral
from pipeline.records import Embeddings, Span
from pipeline.stage import Block, Inputs
from stages.clustering.stage import ClusteringParameters, SpeakerClustering

STEP_MS = 750
WINDOW_MS = 1500
DENSE = "dense"
METHODS = ("spectral", "umap-hdbscan", DENSE)
SCALED = ("spectral", DENSE)  # what is measured at every length
DENSE_MOST = 10_000  # windows: 763 MiB a matrix, of which it needs several


class Meeting(NamedTuple):
    """`speakers` int64 [N]: who speaks in the first half of each window, so up to the start of
    the next one."""

    speech: tuple[Span, ...]
    embeddings: Embeddings
    speakers: NDArray[np.int64]


def meeting(windows: int, speakers: int, seed: int, dim: int = 192) -> Meeting:
    """Windows of 1.5 s every 0.75 s over uninterrupted speech, in turns of some 6 s, speakers
    unequally active (the k-th in proportion to 1/k).

    Directions are random around a common mean: cosines of about 0.6 within a speaker, 0.1
    between speakers. Neighbouring windows share half of their noise; a window at a change of
    speakers is a mixture.
    """
    random = np.random.default_rng(seed)
    common = random.normal(size=dim)
    voices = 0.35 * common + random.normal(size=(speakers, dim))
    share = 1 / np.arange(1, speakers + 1)
    turns = 1 + random.geometric(1 / 8, size=windows)
    who = np.repeat(random.choice(speakers, size=windows, p=share / share.sum()), turns)
    half = np.repeat(who, 2)[: windows + 1]
    noise = random.normal(size=(windows + 1, dim)).astype(np.float32)
    clean = 0.5 * (voices[half[:-1]] + voices[half[1:]])
    vectors = (clean + 0.8 * (noise[:-1] + noise[1:]) / np.sqrt(2)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    starts = np.arange(windows, dtype=np.int32) * STEP_MS
    spans = np.stack([starts, starts + WINDOW_MS], axis=1)
    edges = [*range(0, int(spans[-1, 1]), 30_000), int(spans[-1, 1])]
    speech = tuple(Span(start, end) for start, end in pairwise(edges))
    return Meeting(speech, Embeddings(spans, vectors), half[:-1])


@dataclass(frozen=True)
class Measured:
    """`found` speakers of `speakers`; `accuracy`: the share of time under the right one;
    `megabytes` that the clustering added to the process at its peak."""

    method: str
    windows: int
    speakers: int
    found: int
    accuracy: float
    seconds: float
    megabytes: float


def measure(method: str, windows: int, speakers: int) -> Measured:
    """To be run in a process of its own, because of the peak memory."""
    made = meeting(windows, speakers, seed=windows)
    segments_of = _dense if method == DENSE else partial(_stage, method)
    segments_of(meeting(300, 2, seed=1))  # imports and compiles
    began = time.process_time()
    with Peak() as peak:
        found = segments_of(made)
    seconds = time.process_time() - began
    present = len(set(made.speakers.tolist()))
    joint = time_together(found, made.speakers)
    return Measured(method, windows, present, len(joint), matched(joint), seconds, peak.megabytes)


def time_together(
    found: Sequence[tuple[float, float, str]], speakers: NDArray[np.int64]
) -> NDArray[np.float64]:
    """How long each label is given to whom, float64 [labels, speakers], in twentieths of a second.
    `found` by start, ms; `speakers` as of `Meeting`."""
    names = {label: at for at, label in enumerate(dict.fromkeys(label for *_, label in found))}
    moments = np.arange(25, len(speakers) * STEP_MS, 50)
    at = np.searchsorted([start for start, *_ in found], moments, side="right") - 1
    labels = np.array([names[label] for *_, label in found])[at]
    joint = np.zeros((len(names), int(speakers.max()) + 1))
    np.add.at(joint, (labels, speakers[moments // STEP_MS]), 1)
    return joint


def _stage(method: str, made: Meeting) -> list[tuple[float, float, str]]:
    stage = SpeakerClustering(ClusteringParameters.model_validate({"method": method}))
    given = {"embedding": made.embeddings, "vad": made.speech}
    return [(start, end, label) for start, end, label in stage.run(Inputs(NoAudio(), given))]


def _dense(made: Meeting) -> list[tuple[float, float, str]]:
    """As 3D-Speaker does it."""
    labels = three_d_speaker_spectral(made.embeddings.vectors)
    found = stretches(made.embeddings.spans, labels, 0.0)
    return [(1000 * start, 1000 * end, str(label)) for start, end, label in found]


class NoAudio:
    """Clustering hears nothing."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def blocks(self) -> Iterator[Block]:
        return iter(())


def matched(joint: NDArray[np.float64]) -> float:
    """The share on the best one-to-one mapping of labels to speakers."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(-joint)
    return float(joint[rows, columns].sum() / joint.sum())


@dataclass(frozen=True)
class TooLarge:
    """What the dense method cannot run on."""

    windows: int

    @property
    def reason(self) -> str:
        return f"not run: {8 * self.windows**2 / 2**30:.1f} GiB a matrix"


def at_scale(method: str, hours: float, speakers: int = 8) -> Measured | TooLarge:
    """The method on so many hours of speech, in a process of its own."""
    windows = round(hours * 3.6e6 / STEP_MS)
    if method == DENSE and windows > DENSE_MOST:
        return TooLarge(windows)
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(measure, method, windows, speakers).result()


def scale_table(rows: Iterable[Measured | TooLarge]) -> Table:
    table = Table(box=MARKDOWN, caption="s: CPU time; MB: added at the peak")
    for column in ("hours", "windows", "method", "speakers", "accuracy", "s", "MB more"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for row in rows:
        cells = [f"{row.windows * STEP_MS / 3.6e6:g}", f"{row.windows:,}"]
        if isinstance(row, TooLarge):
            table.add_row(*cells, DENSE, "-", "-", "-", row.reason)
            continue
        cells += [row.method, f"{row.found} of {row.speakers}", f"{row.accuracy:.3f}"]
        table.add_row(*cells, f"{row.seconds:.1f}", f"{row.megabytes:.0f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--hours", nargs="+", type=float, default=[0.05, 0.25, 1, 6, 10, 24])
    parser.add_argument("--speakers", type=int, default=8)
    arguments = parser.parse_args()
    pairs = [(method, hours) for hours in arguments.hours for method in arguments.methods]
    rows = [at_scale(method, hours, arguments.speakers) for method, hours in pairs]
    Console(width=110).print(scale_table(rows))


if __name__ == "__main__":
    main()
