"""Time, memory and accuracy of the clustering methods over the length of the recording:
`python -m benchmarks.clustering`. The embeddings are synthetic (see `meeting`).
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.records import Embeddings, Span
from pipeline.stage import Block

STEP_MS = 750
WINDOW_MS = 1500


class Meeting(NamedTuple):
    """`speakers` int64 [N]: who speaks in the middle of each window."""

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


def measure(method: str, windows: int, speakers: int) -> str:
    """One line: what it took, how many speakers were found, and the share of windows whose
    middle is under the right one. Run it in a process of its own: peak memory is the process's."""
    from pipeline.stage import Inputs
    from stages.clustering.stage import ClusteringParameters, SpeakerClustering

    made = meeting(windows, speakers, seed=windows)
    stage = SpeakerClustering(ClusteringParameters.model_validate({"method": method}))
    small = meeting(300, 2, seed=1)
    stage.run(Inputs(_NoAudio(), {"embedding": small.embeddings, "vad": small.speech}))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    found = stage.run(Inputs(_NoAudio(), {"embedding": made.embeddings, "vad": made.speech}))
    seconds = time.perf_counter() - started
    extra = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    labels = [segment.label for segment in found]
    middles = made.embeddings.spans.mean(axis=1)
    at = np.searchsorted([segment.start for segment in found], middles, side="right") - 1
    names, present = sorted(set(labels)), len(set(made.speakers.tolist()))
    joint = np.zeros((len(names), speakers))
    np.add.at(joint, (np.array([names.index(labels[i]) for i in at]), made.speakers), 1)
    return (
        f"{method:14} {windows:8} {windows * STEP_MS / 3.6e6:6.2f} h {present:3} speakers, found "
        f"{len(names):3} accuracy {_matched(joint):.4f} {seconds:7.1f} s {extra:6.0f} MB extra"
    )


class _NoAudio:
    """Clustering hears nothing."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def blocks(self) -> Iterator[Block]:
        return iter(())


def _matched(joint: NDArray[np.float64]) -> float:
    """The share on the best one-to-one mapping of labels to speakers."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(-joint)
    return float(joint[rows, columns].sum() / joint.sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", default=["spectral", "umap-hdbscan"])
    parser.add_argument("--windows", nargs="+", type=int, default=[200, 1200, 4800, 28800, 48000])
    parser.add_argument("--speakers", nargs="+", type=int, default=[5])
    arguments = parser.parse_args()
    cases = [
        (method, windows, speakers)
        for speakers in arguments.speakers
        for windows in arguments.windows
        for method in arguments.methods
    ]
    if len(cases) == 1:
        print(measure(*cases[0]))
        return
    for method, windows, speakers in cases:
        case = ["--methods", method, "--windows", str(windows), "--speakers", str(speakers)]
        subprocess.run([sys.executable, "-m", "benchmarks.clustering", *case], check=False)


if __name__ == "__main__":
    main()
